"""A simple camera: the light of a photograph, falling on a sensor with noise, made a picture again.

Backwards: tone curve, gamma and white balance are undone. Forwards: each pixel of a Bayer mosaic counts light of one
colour with shot and read noise, the mosaic is interpolated, and white balance, gamma and tone curve follow. So noise is
stronger where little light was amplified, and neighbouring pixels share it. Images are floats (N, 3, H, W) in 0-1.
(Brooks et al. 2019, arXiv:1811.11127; their colour matrix is left out)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from .pixels import grey

BAYER = ((0, 1), (1, 2))  # the colour that each pixel of a cell of 2 x 2 counts
PHOTONS = {"weak": 10_000, "medium": 1_000, "strong": 100}  # counted at white; the fewer, the more noise
RED_GAINS, BLUE_GAINS = (1.9, 2.4), (1.5, 1.9)
MARGIN = 2  # pixels that interpolation reads on every side

# Eighths of the pixels around, (row, column) from the centre; the sum is 8. First the means of the nearest pixels of a
# colour, then Malvar, He & Cutler 2004, figure 2.
NEXT, CORNERS = ((0, 1), (0, -1), (1, 0), (-1, 0)), ((1, 1), (1, -1), (-1, 1), (-1, -1))
FAR = tuple((2 * row, 2 * column) for row, column in NEXT)
BILINEAR = dict.fromkeys(NEXT, 2), dict.fromkeys(NEXT[:2], 4), dict.fromkeys(NEXT[2:], 4), dict.fromkeys(CORNERS, 2)
GREEN = {(0, 0): 4, **dict.fromkeys(NEXT, 2), **dict.fromkeys(FAR, -1)}
BESIDE = {
    (0, 0): 5,
    **dict.fromkeys(NEXT[:2], 4),
    **dict.fromkeys((*FAR[:2], *CORNERS), -1),
    **dict.fromkeys(FAR[2:], 0.5),
}
ABOVE = {(column, row): weight for (row, column), weight in BESIDE.items()}
DIAGONAL = {(0, 0): 6, **dict.fromkeys(CORNERS, 2), **dict.fromkeys(FAR, -1.5)}
MALVAR = GREEN, BESIDE, ABOVE, DIAGONAL


class Cameras(NamedTuple):
    """One for each image, tensors (N, 1, 1, 1). In units of white on the sensor, before amplification: the variance of
    the count of x is shot * x + read. gains: (N, 3, 1, 1), by which the counts of a colour are multiplied. bilinear:
    whether the mosaic is interpolated by means of the nearest pixels, or as usual (Malvar, He & Cutler 2004)."""

    gains: torch.Tensor
    shot: torch.Tensor
    read: torch.Tensor
    bilinear: torch.Tensor


def uniform(count: int, low: float, high: float, generator: torch.Generator) -> torch.Tensor:
    """(count, 1, 1, 1)"""
    return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)


def draw_cameras(shot: torch.Tensor, generator: torch.Generator) -> Cameras:
    """Cameras with that shot noise, (N, 1, 1, 1), and the read noise that goes with it. (Brooks et al. 2019, 3.1)"""
    count = len(shot)
    red, blue = (uniform(count, *gains, generator) for gains in (RED_GAINS, BLUE_GAINS))
    read = (2.18 * shot.log() + 1.2 + 0.26 * torch.randn(shot.shape, generator=generator)).exp()
    return Cameras(
        torch.cat((red, torch.ones_like(red), blue), 1), shot, read, torch.zeros_like(shot, dtype=torch.bool)
    )


def counting(photons: float, count: int, generator: torch.Generator) -> Cameras:
    """So many cameras that count that many photons at white."""
    return draw_cameras(torch.full((count, 1, 1, 1), 1 / photons), generator)


def light(images: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """What falls on the sensor: the inverse of `developed`."""
    linear = 0.5 - ((1 - 2 * images).asin() / 3).sin()  # the inverse of smoothstep
    linear = torch.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055).clamp_min(0) ** 2.4)
    return linear / cameras.gains


def developed(linear: torch.Tensor, cameras: Cameras) -> torch.Tensor:
    """White balance, sRGB's gamma, and smoothstep as tone curve."""
    amplified = (linear * cameras.gains).clamp(0, 1)
    gamma = torch.where(
        amplified <= 0.0031308, 12.92 * amplified, 1.055 * amplified.clamp_min(1e-8) ** (1 / 2.4) - 0.055
    )
    return gamma**2 * (3 - 2 * gamma)


def mosaic(images: torch.Tensor) -> torch.Tensor:
    """The one colour that each pixel counts: (N, 3, H, W) -> (N, H, W)."""
    counted = torch.empty_like(images[:, 0])
    for row, colours in enumerate(BAYER):
        for column, colour in enumerate(colours):
            counted[:, row::2, column::2] = images[:, colour, row::2, column::2]
    return counted


def exposed(counted: torch.Tensor, cameras: Cameras, frames: int, generator: torch.Generator) -> torch.Tensor:
    """The mean of so many exposures of a mosaic, (N, H, W). Counts are nearly Gaussian; white is as much as the sensor
    can count, which one exposure does not pass."""
    variance = cameras.shot[:, 0] * counted.clamp_min(0) + cameras.read[:, 0]
    return counted + (variance / frames).sqrt() * torch.randn(counted.shape, generator=generator)


def interpolated(counted: torch.Tensor, kernels: Sequence[Mapping[tuple[int, int], float]] = MALVAR) -> torch.Tensor:
    """All colours of every pixel, linearly: (N, H, W) -> (N, 3, H, W), H and W from 2. kernels: for green, for the
    colour of the pixels beside, of those above, and of the corners."""
    green, beside, above, diagonal = kernels
    height, width = counted.shape[1:]
    rows, columns = (torch.arange(-MARGIN, n + MARGIN) for n in (height, width))
    mirror = [(n - 1 - (n - 1 - i.abs()).abs()) for n, i in ((height, rows), (width, columns))]
    around = counted[:, mirror[0]][:, :, mirror[1]]  # mirrored about the border, which keeps the colours' places

    def filtered(kernel: Mapping[tuple[int, int], float], top: int, left: int) -> torch.Tensor:
        total = torch.zeros_like(counted[:, top::2, left::2])
        for (row, column), weight in kernel.items():
            first, second = MARGIN + top + row, MARGIN + left + column
            total.add_(
                around[:, first : first + height - top : 2, second : second + width - left : 2], alpha=weight / 8
            )
        return total

    images = torch.empty(len(counted), 3, height, width)
    for top, colours in enumerate(BAYER):
        for left, own in enumerate(colours):
            across = BAYER[top][1 - left]  # the other colour of this row
            for colour in range(3):
                if colour == own:
                    value = counted[:, top::2, left::2]
                elif colour == 1:
                    value = filtered(green, top, left)
                else:
                    value = filtered(diagonal if own != 1 else beside if colour == across else above, top, left)
                images[:, colour, top::2, left::2] = value
    return images


def photographed(
    images: torch.Tensor, cameras: Cameras, generator: torch.Generator, frames: int | None = 1
) -> torch.Tensor:
    """Pictures of `images` as these cameras take them, from the mean of `frames` exposures; None: without noise. Sides
    have 2 pixels or more. A grey image is taken without a mosaic, and stays grey."""
    fallen, colourless = light(images, cameras), grey(images)
    counted = torch.where(colourless[:, 0], fallen[:, 1], mosaic(fallen))
    if frames is not None:
        counted = exposed(counted, cameras, frames, generator)
    coloured = interpolated(counted)
    if cameras.bilinear.any():
        coloured = torch.where(cameras.bilinear, interpolated(counted, BILINEAR), coloured)
    taken = developed(torch.where(colourless, counted.unsqueeze(1), coloured), cameras)
    return torch.where(colourless, taken[:, 1:2], taken)  # green, which has no gain
