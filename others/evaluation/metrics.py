"""How good a denoised image is. Images are (N, C, H, W) in [0, 1], both on any device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def squared_errors(output: Tensor, clean: Tensor) -> Tensor:
    """Of every value: (N, C, H, W) twice -> (N, C, H, W), on the device of `output`."""
    return (output - clean.to(output.device)).pow(2)


def decibels(error: Tensor) -> Tensor:
    """-10 log10 of a mean squared error, a tensor."""
    return -10 * error.log10()


def psnr_per_image(output: Tensor, clean: Tensor) -> Tensor:
    """-10 log10 of each image's mean squared error: (N, C, H, W) twice -> (N,), in dB."""
    return decibels(squared_errors(output, clean).flatten(1).mean(1))


def words(psnr: Tensor | float, form: str = ".2f", unit: str = "") -> str:
    """A PSNR for people and for files, which know no infinity: that of equal images is "identical"."""
    return "identical" if math.isinf(psnr) else f"{float(psnr):{form}}{unit}"


def psnr_a(output: Tensor, clean: Tensor) -> float:
    """PSNR A, the graders' script's: the mean over images of each image's PSNR, in dB."""
    return psnr_per_image(output, clean).mean().item()


def psnr_b(output: Tensor, clean: Tensor) -> float:
    """PSNR B, the hand-out's: the PSNR of the mean squared error over all images, in dB."""
    return decibels(squared_errors(output, clean).mean()).item()
