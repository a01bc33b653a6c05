"""The border between pixels and the numbers that networks work on.

Pixels are (N, 3, H, W), uint8 or float in 0-255. Inside, images are float32 in [0, 1] with channels-last strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TypeAlias
from warnings import warn

import torch

WHITE = 255
LARGEST = 1000  # of pixels that are floats: beyond any noise, and far below what overflows inside a network
ARRAYS = f"; arrays (H, W), (H, W, 3) or (N, H, W, 3) go to {__package__.partition('.')[0]}.denoise"
NOISY_UNIT = 2  # of images in 0-1 to which noise was added
NORMALISED = 10  # of images whose mean is 0 and whose deviation is 1, about twice the largest number
CENTRED = 1.2  # greatest over -least, of images whose mean was subtracted; noise on dark ones goes further up than down
DEEP = (1023, 4095, 16383, 65535)  # white in 10, 12, 14 and 16 bits

Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]
"""Two versions of the same images, pixels (N, 3, H, W): noisy and noisy, or noisy and clean."""


def to_unit(
    pixels: torch.Tensor, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """(N, C, H, W) pixels in 0-255 of any dtype -> floats in 0-1 on `device`, channels last."""
    images = pixels.detach().to(device=device, dtype=torch.float32).div(255)
    return images.to(dtype=dtype, memory_format=torch.channels_last)


def to_pixels(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) in 0-1 -> float32 pixels clamped to 0-255, contiguous."""
    return images.to(torch.float32).clamp(0, 1).mul(255).contiguous()


def centre(images: torch.Tensor, side: int) -> torch.Tensor:
    """The middle of images (..., H, W), of at most `side` rows and columns."""
    top, left = (max(0, n - side) // 2 for n in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def grey(images: torch.Tensor) -> torch.Tensor:
    """Which images (N, 3, H, W) have three equal channels: bool (N, 1, 1, 1)."""
    return (images == images[:, :1]).flatten(1).all(1).view(-1, 1, 1, 1)


def check_images(images: torch.Tensor, what: str) -> None:
    """Raise TypeError or ValueError unless `images` are pixels (N, 3, H, W): integers in 0-255, or floats that noise
    may have moved out of it, within `LARGEST`. Warn where floats look like another scale, but may be pixels."""
    if not isinstance(images, torch.Tensor):
        got = f"{type(images).__name__}{ARRAYS if hasattr(images, '__array_interface__') else ''}"
        raise TypeError(f"{what}: expected a tensor (N, 3, H, W) with values in 0-255, got {got}")
    if images.dim() != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
        shape = tuple(images.shape)
        raise ValueError(f"{what}: expected shape (N, 3, H, W), got {shape}{shape_advice(shape)}")
    if images.dtype == torch.bool or images.is_complex():
        raise TypeError(f"{what}: expected uint8 or floating point in 0-255, got {images.dtype}")
    if images.dtype == torch.uint8 or not images.numel():
        return
    least, greatest = map(float, computable(images.detach()).aminmax())  # NaN if there is one
    if not (isfinite(least) and isfinite(greatest)):
        raise ValueError(f"{what}: expected finite values in 0-255, got NaN or infinity")
    check_range(least, greatest, images.is_floating_point(), what)


def check_range(least: float, greatest: float, floats: bool, what: str) -> None:
    """Raise ValueError for values that are no pixels, warn of those that may be none."""
    said = f"{what}: expected values in 0-255, got {least:.5g} to {greatest:.5g}"
    if max(-least, greatest) > LARGEST or not (floats or 0 <= least <= greatest <= WHITE):
        white = next((white for white in DEEP if greatest <= white), f"{greatest:.5g}")
        scale = f"scale them, as images.float() * (255 / {white}) where {white} is white; " if greatest > WHITE else ""
        raise ValueError(f"{said}; {scale}clamp(0, 255) removes what is only noise")
    if floats and 0 < greatest <= (NORMALISED if least < 0 else NOISY_UNIT):
        warn(f"{said}: nearly black; multiply by 255 if they are images in 0-1, or undo normalising", stacklevel=4)
    elif floats and least < 0 < greatest <= -CENTRED * least:
        warn(f"{said}: what is negative comes out black; if a mean was subtracted, add it", stacklevel=4)
    elif greatest > 2 * WHITE:
        warn(f"{said}: what is above 255 comes out white; scale them if it is not noise", stacklevel=4)


def shape_advice(shape: Sequence[int]) -> str:
    """What to do with images of another shape, or nothing."""
    if len(shape) == 3:
        return "; a single image needs a first dimension of 1, as images.unsqueeze(0)"
    if len(shape) == 4 and shape[1] not in (1, 4) and shape[3] == 3:
        return "; channels come second, as images.permute(0, 3, 1, 2)"
    advice = {1: "; repeat grey with images.expand(-1, 3, -1, -1)", 4: "; drop alpha with images[:, :3]"}
    return advice.get(shape[1], "") if len(shape) == 4 else ""


def computable(images: torch.Tensor) -> torch.Tensor:
    """The same, but unsigned integers of 16 bits and more as floats: torch neither flips nor compares them."""
    return images.float() if images.dtype in (torch.uint16, torch.uint32, torch.uint64) else images


def check_pairs(first: torch.Tensor, second: torch.Tensor, what: str) -> None:
    """Raise TypeError or ValueError unless both are pixels, of one shape."""
    check_images(first, f"{what}, first of the pair")
    check_images(second, f"{what}, second of the pair")
    if first.shape != second.shape:
        raise ValueError(f"{what}: the two versions have different shapes, {tuple(first.shape)} and "
                         f"{tuple(second.shape)}")  # fmt: skip
