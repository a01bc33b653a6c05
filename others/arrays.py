"""Arrays of NumPy in, arrays of NumPy out."""

from __future__ import annotations

import math
import os
from functools import lru_cache
from typing import TYPE_CHECKING

import torch

from . import pictures
from .diagnose import noise
from .model import CAMERA, Model, suited

if TYPE_CHECKING:
    from pathlib import Path

    import numpy


def denoise(
    image: numpy.ndarray,
    denoiser: str | None = "auto",
    *,
    weights: str | Path | None = None,
    device: str | torch.device | None = None,
    precision: str | None = None,
    self_ensemble: bool = False,
    data_range: tuple[float, float] | None = None,
) -> numpy.ndarray:
    """Denoise an image (H, W) or (H, W, 3), or images (N, H, W, 3). -> a new array of the same shape, type and range

    data_range: black and white; by default those of uint8, and of other types what the values show, as in picture
    files: 0 and 1 of floating point, 0 and 65535 of uint16, or 0 and 255, 1023, 4095 ..., or the least and the greatest
    value. Values beyond it, NaN and infinity come back as they are. denoiser: "auto" looks at each image and takes
    "camera", or the one in others/denoiser.py where pixels were drawn from a finer image; otherwise as `Model` has it,
    and so are device and precision. weights: a file instead of the shipped ones; "auto" then takes the one in
    denoiser.py. self_ensemble: as `Model.predict` has it.

    Usable as `denoise_function` of scikit-image's `denoise_invariant` and `calibrate_denoiser`. Raises TypeError or
    ValueError for other arrays, and what `Model` and its methods raise.
    """
    check(image)
    shown = image[..., None] if image.ndim == 2 else image
    native = shown.astype(shown.dtype.newbyteorder("="), order="C")  # a copy, of which no tensor has negative strides
    if not native.size:
        return native.reshape(image.shape)
    pages = torch.from_numpy(native.reshape(-1, *native.shape[-3:]))
    range = given(data_range) if data_range is not None else pictures.page_range(*pages)
    pixels = torch.cat([pictures.to_pixels(page, range) for page in pages])
    path = None if weights is None else str(weights)
    seen = [noise.look(each) if denoiser == "auto" and path is None else None for each in pixels.split(1)]
    names = [named(each, denoiser, path) for each in seen]
    denoised = torch.empty(pixels.shape)
    for name in dict.fromkeys(names):
        mine = [number for number, each in enumerate(names) if each == name]
        denoised[mine] = loaded(name, path, stamp(path), device, precision).predict(pixels[mine], self_ensemble)
        if denoiser == "auto" and name == CAMERA:
            for each in mine:
                denoised[each : each + 1] = noise.limited(pixels[each : each + 1], denoised[each : each + 1])
    made = [pictures.with_colours(page, each, range) for page, each in zip(pages, denoised.split(1))]
    return torch.stack(made).numpy().reshape(image.shape)


def named(seen: noise.Noise | None, denoiser: str | None, weights: str | None) -> str | None:
    """The denoiser of an image with that noise, as `Model` takes it."""
    if denoiser != "auto":
        return denoiser
    return None if weights else suited(seen is not None and seen.drawn)


def check(image: numpy.ndarray) -> None:
    """Raise TypeError or ValueError unless it is an array of numbers of a shape that `denoise` knows."""
    kind = type(image).__name__
    if isinstance(image, torch.Tensor) or not hasattr(image, "__array_interface__") or not hasattr(image, "dtype"):
        said = "; tensors (N, 3, H, W) in 0-255 go to Model.predict" if isinstance(image, torch.Tensor) else ""
        raise TypeError(f"denoise: expected a NumPy array (H, W), (H, W, 3) or (N, H, W, 3), got {kind}{said}")
    if image.dtype.name not in pictures.TYPES:
        raise TypeError(f"denoise: expected an array of {', '.join(pictures.TYPES)}, got {image.dtype}")
    if not (image.ndim == 2 or (image.ndim in (3, 4) and image.shape[-1] == 3)):
        said = f"denoise: expected shape (H, W), (H, W, 3) or (N, H, W, 3), got {tuple(image.shape)}"
        raise ValueError(said + advice(image.shape))


def advice(shape: tuple[int, ...]) -> str:
    """What to do with an array of another shape, or nothing."""
    if len(shape) in (3, 4) and shape[-1] == 4:
        return "; denoise image[..., :3] and keep alpha"
    if len(shape) in (3, 4) and shape[-1] == 1:
        return "; drop the last axis of grey images: image[..., 0]"
    if len(shape) in (3, 4) and shape[-3] == 3:
        return "; colours come last: numpy.moveaxis(image, -3, -1)"
    return "; denoise grey images one by one" if len(shape) == 3 else ""


def given(data_range: tuple[float, float]) -> pictures.Range:
    """The range of (black, white). Raises ValueError unless they are finite and black is the smaller."""
    low, high = map(float, data_range)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"denoise: expected data_range to be (black, white), black the smaller, got {data_range}")
    return pictures.Range(low, high)


def stamp(path: str | None) -> tuple[int, ...]:
    """What tells the file that is at `path` from one that is there later; nothing where there is none."""
    if path is None or not os.path.isfile(path):
        return ()
    about = os.stat(path)
    return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size


@lru_cache(maxsize=4)
def loaded(
    denoiser: str | None,
    weights: str | None,
    stamp: tuple[int, ...],
    device: str | torch.device | None,
    precision: str | None,
) -> Model:
    """A Model with weights, kept for the next call while the file stays the same."""
    model = Model(denoiser, device, precision)
    model.load_pretrained_model(*[weights] if weights else [])
    return model
