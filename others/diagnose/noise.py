"""Whether a picture's noise is that which the shipped weights were trained on, from the picture and its denoised form.

That noise is one pixel drawn for each cell of a finer picture: independent from pixel to pixel, nearly the same for the
three channels, none in flat areas, strong at edges and in texture. The thresholds were chosen on photographs with that
noise, with others and with none, and measured on others (`benchmarks/noise_check.py`).
"""

from __future__ import annotations

from typing import NamedTuple

import torch

PART = 1024  # rows and columns of a large picture are enough
SMALLEST = 32  # of a side, to tell
BLOCK = 8
STRUCTURE = -0.085
COLOURED = 0.75
FLAT, EVEN = 0.6, 0.65


class Noise(NamedTuple):
    """neighbours: correlation of neighbouring pixels in what was taken away: below 0 for independent noise, of which a
    denoiser leaves what varies slowly, above for structure. grey: share of it that the three channels have in common,
    1/3 when each varies by itself. flat: its power in the flattest tenth of the picture over that everywhere. evenness:
    noise in the flattest tenth of the blocks over that in the median block, of the picture itself."""

    neighbours: float
    grey: float
    flat: float
    evenness: float


def look(pixels: torch.Tensor, denoised: torch.Tensor) -> Noise | None:
    """Pixels (1, 3, H, W) in 0-255 before and after -> Noise; None when there is nothing to tell it from: a side is
    below 32, or all pixels are equal."""
    image, result = (each[0, :, :PART, :PART].float() for each in (pixels, denoised))
    if min(pixels.shape[2:]) < SMALLEST or torch.equal(*image.aminmax()):
        return None
    taken = image - result
    power = taken.pow(2).mean().clamp_min(1e-6)
    products = (taken[:, 1:] * taken[:, :-1]).mean() + (taken[..., 1:] * taken[..., :-1]).mean()
    return Noise(
        float(products / 2 / power), float(taken.mean(0).pow(2).mean() / power), flat(taken, result), evenness(image)
    )


def flat(taken: torch.Tensor, result: torch.Tensor) -> float:
    """Power (with half a pixel value added, for pictures without noise) where the result's gradient is least."""
    down, right = result[:, 2:, 1:-1] - result[:, :-2, 1:-1], result[:, 1:-1, 2:] - result[:, 1:-1, :-2]
    order = (down.pow(2) + right.pow(2)).mean(0).flatten().argsort()
    power = taken.pow(2).mean(0)[1:-1, 1:-1].flatten()
    return float((power[order[: len(order) // 10]].mean() + 0.5) / (power.mean() + 0.5))


def evenness(image: torch.Tensor) -> float:
    blocks = detail(image).pow(2).mean((0, 3, 4)).flatten()
    least = blocks.sort().values[: max(1, len(blocks) // 10)].mean()
    return float((least.clamp_min(1e-4) / blocks.median().clamp_min(1e-4)).sqrt())


def detail(image: torch.Tensor) -> torch.Tensor:
    """The second differences along both axes, in blocks: (..., H, W) -> (..., rows of blocks, columns, 8, 8). Of white
    noise they have 36 times the variance, of flat areas and slopes nothing. (Immerkaer 1996)"""
    for _ in range(2):
        image = (image[..., 2:] - 2 * image[..., 1:-1] + image[..., :-2]).mT
    return image.unfold(-2, BLOCK, BLOCK).unfold(-2, BLOCK, BLOCK)


def unlike_training(noise: Noise | None) -> str | None:
    """How the noise differs from that which the shipped weights were trained on, or None."""
    if noise is None:
        return None
    if noise.neighbours > (STRUCTURE if noise.grey >= COLOURED else 0):  # white noise of a sensor is well below 0
        return "neighbouring pixels vary together: nearly clean, or smoothed by a camera, JPEG or resizing"
    if noise.grey < COLOURED or (noise.flat > FLAT and noise.evenness > EVEN):
        return "flat areas are noisy too, as from a camera's sensor"
    return None
