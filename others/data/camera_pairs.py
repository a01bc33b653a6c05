"""Noisy pairs of photographs with the noise that cameras leave (the extra `images`)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from math import cos, pi, sin
from pathlib import Path

import torch

from .. import pictures
from . import cameras, noises
from .cameras import uniform
from .patches import draw, generator_of
from .photos import load_photo
from .pixels import Pair, centre, grey

SCALES = 1.0, 0.75, 0.5  # to which photographs are shrunk: their own noise goes, but for COARSE; detail is finer
COARSE = 0.25  # share of what is shrunk by leaving pixels out: its detail is as fine as noise
WOVEN, WAVE = 0.1, 0.12  # share with a regular pattern laid over; how far it goes up and down, at most
SIGMA = 55  # the strongest noise, in pixel values
SHOT = 3e-6, 2e-2  # of the cameras: weakest and strongest
JPEG, QUALITY = (0.4, 0.1), (70, 98)  # shares that are compressed, of what a camera took and of the rest; how well
CLEAN, GREY = 0.05, 0.25  # shares of pictures without noise, and without colour
TONED, TINT = 0.4, 0.5  # share of those without colour that are toned, as sepia; how much of a channel is lost at most
CAMERA, BILINEAR = 0.4, 0.4  # share of those in colour that a camera takes; of these, which interpolate plainly
NEAREST, BOX = 0, 4  # of Pillow's Image.Resampling
AT_ONCE = 100  # patches that are corrupted together


class CameraPairs:
    """Noisy pairs cut freshly from photographs: calling it with an epoch's number gives that epoch's
    (noisy_1, noisy_2), pixels (count, 3, size, size). The same seed and epoch give the same pairs.

    noisy_1 is a picture as files hold it, uint8. noisy_2 is float32, with independent noise of the same kind, averaged
    over `targets` exposures (a target with less noise, Lehtinen et al. 2018, section 3), neither rounded, clipped nor
    compressed, which would move its mean. Most have noise of `sensor_like` on the finished picture, the others went
    through a camera; some are grey or toned, some compressed as JPEG, some without noise. Some have detail as fine as
    noise, or a pattern as of cloth: both are to stay.
    """

    def __init__(
        self, files: Sequence[Path], count: int = 5000, size: int = 64, seed: int = 0, targets: int = 16
    ) -> None:
        self.photos = [load_photo(file, size) for file in files]
        self.count, self.size, self.seed, self.targets = count, size, seed, targets

    def __call__(self, epoch: int) -> Pair:
        generator = generator_of(self.seed, epoch)
        first = torch.empty(self.count, 3, self.size, self.size, dtype=torch.uint8)
        second = torch.empty(self.count, 3, self.size, self.size)
        for start in range(0, self.count, AT_ONCE):
            place = slice(start, min(start + AT_ONCE, self.count))
            clean = torch.stack([self.cut(generator) for _ in range(self.count)[place]])
            first[place], second[place] = corrupted(clean, self.targets, generator)
        return first, second

    def cut(self, generator: torch.Generator) -> torch.Tensor:
        """Floats (3, size, size) in 0-1, from a random place of a random photograph at a random scale."""
        photo = self.photos[draw(len(self.photos), generator)]
        side = round(self.size / SCALES[draw(len(SCALES), generator)])
        crop = noises.random_crop(photo, min(side, *photo.shape[1:]), generator)
        if crop.shape[1] != self.size:
            crop = shrunk(crop, self.size, coarsely=chance(COARSE, generator))
        crop = crop.float() / 255
        if chance(WOVEN, generator):
            crop = woven(crop, generator)
        return crop.mean(0, keepdim=True).expand(3, -1, -1) if chance(GREY, generator) else crop


def camera_validation(files: Sequence[Path], seed: int = 0, size: int = 256) -> Pair:
    """(noisy, clean) of the centres of photographs with Gaussian noise of sigma 5, 15, 25 and 50 in turn: uint8
    (len(files), 3, size, size)."""
    clean = torch.stack([centre(load_photo(file, size), size) for file in files])
    sigma = torch.tensor([5, 15, 25, 50]).repeat(len(files))[: len(files)].view(-1, 1, 1, 1)
    noisy = noises.gaussian(clean, sigma, torch.Generator().manual_seed(seed))
    return noisy.round().clamp(0, 255).to(torch.uint8), clean


def corrupted(clean: torch.Tensor, targets: int, generator: torch.Generator) -> Pair:
    """Floats (N, 3, H, W) in 0-1 -> (uint8 pixels, float pixels) with independent noise."""
    count = len(clean)
    sigma = uniform(count, 0, 1, generator) ** 1.5 * SIGMA / 255
    sigma = sigma * (uniform(count, 0, 1, generator) >= CLEAN)
    tints = toned(clean, generator)
    first, second = (tints * noisy for noisy in noises.sensor_like(clean, sigma, (1, targets), generator))
    low, high = torch.tensor(SHOT).log().tolist()
    taken = cameras.draw_cameras(uniform(count, low, high, generator).exp(), generator)
    taken = taken._replace(bilinear=uniform(count, 0, 1, generator) < BILINEAR)
    photographed = (cameras.photographed(clean, taken, generator, frames) for frames in (1, targets))
    by_camera = (torch.rand(count, 1, 1, 1, generator=generator) < CAMERA) & ~grey(clean)
    first, second = (torch.where(by_camera, a, b) for a, b in zip(photographed, (first, second)))
    pixels = (first * 255).round().clamp(0, 255).to(torch.uint8)
    share = torch.where(by_camera, *JPEG).flatten()
    for number in (torch.rand(count, generator=generator) < share).nonzero().flatten().tolist():
        quality = QUALITY[0] + draw(QUALITY[1] - QUALITY[0] + 1, generator)
        pixels[number] = compressed(pixels[number], quality)
    return pixels, second * 255


def toned(clean: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """What the channels of each image are multiplied by, noise and all, (N, 3, 1, 1): 1 but for some of the grey."""
    share = TINT * uniform(len(clean), 0, 1, generator) ** 2
    tints = 1 - share * torch.rand(len(clean), 3, 1, 1, generator=generator)
    chosen = grey(clean) & (uniform(len(clean), 0, 1, generator) < TONED)
    return torch.where(chosen, tints, torch.ones(1))


def chance(share: float, generator: torch.Generator) -> bool:
    return bool(torch.rand((), generator=generator) < share)


def woven(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Floats (3, size, size) in 0-1, with a wave or the product of two, of any frequencies, laid over one side of a
    soft edge."""
    rows, columns = torch.arange(image.shape[1]).view(-1, 1), torch.arange(image.shape[2])
    pattern = torch.ones(())
    for _ in range(1 + chance(0.4, generator)):
        down, right, start = ((2 * torch.rand(3, generator=generator) - 1) * pi).tolist()
        pattern = pattern * (rows * down + columns * right + start).cos()
    angle, middle, strength, tint = torch.rand(4, generator=generator).tolist()
    across = (rows / len(rows) - 0.5) * cos(2 * pi * angle) + (columns / len(columns) - 0.5) * sin(2 * pi * angle)
    side = ((across - middle + 0.5) * len(rows) / 2).sigmoid()
    colour = 1 + (torch.rand(3, 1, 1, generator=generator) - 0.5) * tint
    return (image + strength * WAVE * colour * pattern * side).clamp(0, 1)


def shrunk(crop: torch.Tensor, size: int, coarsely: bool = False) -> torch.Tensor:
    """uint8 (3, H, W) -> uint8 (3, size, size), by Pillow's box filter; or coarsely, by its nearest pixels."""
    image = pictures.as_image(crop.permute(1, 2, 0).contiguous(), Path("crop"))
    image = image.resize((size, size), NEAREST if coarsely else BOX)
    return pictures.as_pillow_reads("crop", image).permute(2, 0, 1)


def compressed(pixels: torch.Tensor, quality: int) -> torch.Tensor:
    """uint8 (3, H, W) -> the same, as JPEG of that quality keeps it."""
    from PIL import Image

    file = BytesIO()
    pictures.as_image(pixels.permute(1, 2, 0).contiguous(), Path("patch")).save(file, "JPEG", quality=quality)
    return pictures.as_pillow_reads("patch", Image.open(file)).permute(2, 0, 1)
