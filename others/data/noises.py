"""Every kind of noise, put on photographs and pixels.

The course's is Monte-Carlo pixel subsampling: the scene is divided into cells of 9 x 9 pixels. `clean` is the mean of
each cell, a noisy version keeps one pixel of each cell, drawn uniformly, the same for the three channels and
independent between cells and versions. So the noise has mean zero given the clean image, is white in space, and its
variance is the variance inside the cell: none in flat areas, much on edges and texture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .pixels import Pair, centre, grey

SIZE = 32  # height and width of the course's images
CELL = 9  # source pixels per pixel, in each direction
GRAINY, REACH = 0.2, 4  # share of images whose noise is grain, of several pixels; how far it may reach


def gaussian(clean: torch.Tensor, sigma: float | torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pixels in 0-255 of any shape -> float32 pixels with noise of that standard deviation, not clamped."""
    return clean + sigma * torch.randn(clean.shape, generator=generator)


def poisson(clean: torch.Tensor, photons: float, generator: torch.Generator) -> torch.Tensor:
    """Pixels in 0-255 -> as counted where white is that many photons, float32 pixels, not clamped."""
    scale = photons / 255
    return torch.poisson(clean * scale, generator) / scale


def sensor_like(
    clean: torch.Tensor, sigma: torch.Tensor, frames: Sequence[int], generator: torch.Generator
) -> list[torch.Tensor]:
    """Blind, signal-dependent noise on finished pictures: floats (N, 3, H, W) in 0-1, sigma (N, 1, 1, 1) -> for each
    number in `frames`, float images with the mean noise of so many versions, not clamped.

    The variance of a value x is sigma^2 * (1 - f + 2 f x): f is 0, Gaussian, for half of the images, else drawn from 0
    to 1, Poisson-like. (Foi et al. 2008) For a tenth the channels have noise of different strengths. For another tenth
    a share of the noise is common to them, for the next and for a grey image all of it: film's grain. For a share of
    `GRAINY` neighbouring pixels share it, as where pictures were scanned or enlarged.
    """

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(shape or (len(clean), 1, 1, 1), generator=generator)

    signal = draw() * (draw() < 0.5)
    kind = draw()
    strengths = torch.where(kind < 0.1, 0.5 + draw(len(clean), 3, 1, 1), torch.ones(1))
    common = (2 * draw()).clamp(max=1) * ((kind >= 0.1) & (kind < 0.3))
    common, strengths = (torch.where(grey(clean), torch.ones(1), drawn) for drawn in (common, strengths))
    deviation = sigma * strengths * (1 - signal + 2 * signal * clean).sqrt()
    width = (0.4 + draw()) * (draw() < GRAINY)
    versions = []
    for count in frames:
        own, shared = (
            grained(torch.randn(len(clean), n, *clean.shape[2:], generator=generator), width) for n in (3, 1)
        )
        versions.append(clean + deviation * ((1 - common).sqrt() * own + common.sqrt() * shared) / count**0.5)
    return versions


def grained(noise: torch.Tensor, width: torch.Tensor) -> torch.Tensor:
    """White noise (N, C, H, W), blurred by Gaussians of that deviation in pixels, (N, 1, 1, 1), or not where it is 0;
    its variance stays. What leaves on one side comes back on the other."""
    taps = torch.arange(-REACH, REACH + 1).view(-1, 1, 1, 1, 1)
    kernel = (-(taps**2) / (2 * width.clamp_min(1e-3) ** 2)).exp()
    kernel = kernel / kernel.square().sum(0).sqrt()
    for axis in (2, 3):
        noise = torch.stack([noise.roll(tap, axis) for tap in range(-REACH, REACH + 1)]).mul_(kernel).sum(0)
    return noise


def subsample_photo(
    photo: torch.Tensor, crops: int, size: int, cell: int, generator: torch.Generator, versions: int = 2
) -> list[torch.Tensor]:
    """Noisy versions of `crops` random crops: uint8 (3, H, W) -> so many uint8 (crops, 3, size, size).

    Only the pixels that are kept are read: one in each cell, for each version.
    """
    _, height, width = photo.shape
    top = torch.randint(height - size * cell + 1, (crops, 1, 1), generator=generator)
    left = torch.randint(width - size * cell + 1, (crops, 1, 1), generator=generator)
    rows = top + cell * torch.arange(size).view(1, size, 1)
    columns = left + cell * torch.arange(size).view(1, 1, size)
    noisy = []
    for _ in range(versions):
        pick = torch.randint(cell * cell, (crops, size, size), generator=generator)
        index = (rows + pick // cell) * width + columns + pick % cell
        noisy.append(photo.view(3, -1)[:, index].transpose(0, 1))
    return noisy


def random_crop(photo: torch.Tensor, side: int, generator: torch.Generator) -> torch.Tensor:
    """(3, H, W) -> (3, side, side)"""
    top, left = (int(torch.randint(n - side + 1, (), generator=generator)) for n in photo.shape[1:])
    return photo[:, top : top + side, left : left + side]


def average_photo(photo: torch.Tensor, crops: int, size: int, cell: int, generator: torch.Generator) -> torch.Tensor:
    """Random crops without noise: uint8 (3, H, W) -> float32 pixels (crops, 3, size, size)."""
    return torch.stack([cell_means(random_crop(photo, size * cell, generator), cell) for _ in range(crops)])


def cell_means(photo: torch.Tensor, cell: int) -> torch.Tensor:
    """The clean image: (3, S * cell, S * cell) -> float32 (3, S, S)."""
    size = photo.shape[1] // cell
    return photo.float().reshape(3, size, cell, size, cell).mean((2, 4))


def centre_pair(photo: torch.Tensor, size: int, cell: int, generator: torch.Generator) -> Pair | None:
    """(noisy, clean) of the centre of a photograph, uint8 (3, size, size) each; None if it is too small for that."""
    if min(photo.shape[1:]) < size * cell:
        return None
    middle = centre(photo, size * cell).contiguous()
    noisy = subsample_photo(middle, 1, size, cell, generator)[0][0]
    return noisy, cell_means(middle, cell).round().to(torch.uint8)
