"""Denoising pixels of any size in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import torch

from .data import to_unit
from .nn import Module, alignment, convolution, receptive_field
from .progress import Advance

MEMORY = 2**30  # bytes that any prediction stays below, beside the images and the result; with the shipped networks ...
PIXELS_AT_ONCE = 2**17  # ... this many pixels, 128 images of 32 x 32 or a tile of about 360 x 360, need less of it

Place: TypeAlias = tuple[slice, slice]  # rows, columns
Tile: TypeAlias = tuple[Place, ...]  # of the input, of the tile's output what is kept, its place there
View: TypeAlias = tuple[int, bool]  # quarter turns, whether it is mirrored


class NotFinite(RuntimeError):
    """The network gives NaN or infinity."""


def denoise(
    network: Module,
    images: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    self_ensemble: bool = False,
    pixels_at_once: int = PIXELS_AT_ONCE,
    on_tile: Advance | None = None,
) -> torch.Tensor:
    """Pixels (N, 3, H, W) in 0-255 -> denoised float32 pixels of the same shape, on the device of `images`.

    Sizes that the network's strides do not divide continue mirrored and are cut back afterwards.
    Images of more than `pixels_at_once` are denoised in overlapping tiles, and what a tile's border can influence is
    cut off, so the result is that of the whole image; beside the images and the result, memory is what one tile needs.
    self_ensemble averages over the 8 flips and quarter turns. on_tile(done, total) is called after every piece.
    Raises NotFinite when the network's numbers overflow.
    """
    views = [(turns, mirror) for turns in range(4) for mirror in (False, True)] if self_ensemble else [(0, False)]
    output = torch.zeros(images.shape, dtype=torch.float32, device=images.device)
    height, width = extended(network, images.shape[2:], max(shifts(network)))
    at_once = max(1, pixels_at_once // (height * width))
    pieces = [
        (source, target, view, tile)
        for source, target in zip(images.split(at_once), output.split(at_once))
        for view in views
        for tile in tiles(network, turned(images.shape[2:], view[0]), pixels_at_once)
    ]
    for done, (source, target, view, tile) in enumerate(pieces, 1):
        add_tile(network, source, target, view, tile, dtype)
        if on_tile:
            on_tile(done, len(pieces))
    return output.div_(len(views)).clamp_(0, 1).mul_(255)


def turned(size: Sequence[int], turns: int) -> tuple[int, ...]:
    """(height, width) after quarter turns."""
    return tuple(size) if turns % 2 == 0 else tuple(size)[::-1]


def add_tile(
    network: Module, source: torch.Tensor, target: torch.Tensor, view: View, tile: Tile, dtype: torch.dtype
) -> None:
    """Add the network's output for one tile of a view of `source`, cut and turned back, to its place in `target`."""
    seen, keep, place = tile
    size = turned(source.shape[2:], view[0])
    part = transform(region(source, seen, size, view), *view)
    images = to_unit(part, network.parameters()[0].device, dtype)
    kept = estimate(network, images)[:, :, keep[0], keep[1]].to(target.device)
    if not kept.isfinite().all():
        raise NotFinite("expected finite numbers from the network, got NaN or infinity: its weights are too large for "
                        "these pixels; load others, or train at a lower rate")  # fmt: skip
    region(target, place, size, view).add_(transform_back(kept, *view))


def estimate(network: Module, images: torch.Tensor) -> torch.Tensor:
    """The network's output for images of any size, float32. Where the network has a `shift`, the mean with that for the
    images moved by so many pixels down and right: its blocks end elsewhere there. (Coifman & Donoho 1995)"""
    outputs = []
    for shift in shifts(network):
        output = network.forward(extend(images, *missing(network, images.shape[2:], shift)))
        outputs.append(output.float()[:, :, shift : shift + images.shape[2], shift : shift + images.shape[3]])
    return torch.stack(outputs).mean(0) if len(outputs) > 1 else outputs[0]


def shifts(network: Module) -> tuple[int, ...]:
    """By how many pixels images are moved in the passes that are averaged."""
    return (0, network.shift) if hasattr(network, "shift") else (0,)


def region(images: torch.Tensor, place: Place, size: Sequence[int], view: View) -> torch.Tensor:
    """The part of `images` that `transform` puts at `place`, (rows, columns), of the view of that size."""
    (height, width), (rows, columns) = size, place
    if view[1]:
        columns = slice(width - columns.stop, width - columns.start)
    for _ in range(view[0]):  # row r of the turned image was column height - 1 - r
        rows, columns = columns, slice(height - rows.stop, height - rows.start)
        height, width = width, height
    return images[:, :, rows, columns]


def transform(images: torch.Tensor, turns: int, mirror: bool) -> torch.Tensor:
    """Turn by quarters, then mirror."""
    images = images.rot90(turns, (2, 3))
    return images.flip(3) if mirror else images


def transform_back(images: torch.Tensor, turns: int, mirror: bool) -> torch.Tensor:
    """The inverse of `transform`."""
    images = images.flip(3) if mirror else images
    return images.rot90(-turns, (2, 3))


def extend(images: torch.Tensor, rows: Sequence[int], columns: Sequence[int]) -> torch.Tensor:
    """Continue images mirrored, by so many rows (above, below) and columns (left, right)."""
    if not any((*rows, *columns)):
        return images
    sides = zip(images.shape[2:], (rows, columns))
    borders = [convolution.mirrored(n, before, after, images.device) for n, (before, after) in sides]
    return convolution.nchw(convolution.extend(convolution.nhwc(images), borders), like=images)


def missing(network: Module, size: Sequence[int], shift: int = 0) -> list[tuple[int, int]]:
    """Rows (above, below) and columns (left, right) that an image of that size lacks of what the network's strides
    divide, when it is moved by `shift`."""
    return [(shift, -(n + shift) % network.multiple) for n in size]


def extended(network: Module, size: Sequence[int], shift: int = 0) -> list[int]:
    """[height, width] up to what the network's strides divide."""
    return [n + sum(more) for n, more in zip(size, missing(network, size, shift))]


def tiles(network: Module, size: Sequence[int], pixels_at_once: int) -> Iterator[Tile]:
    """Yield (tile of the input, part of the tile's output to keep, its place in the output) as (rows, columns)."""
    whole = extended(network, size)
    sides = whole if whole[0] * whole[1] <= pixels_at_once else tile_sides(whole, pixels_at_once)
    axes = zip(size, sides, receptive_field(network), alignment(network))
    rows, columns = (list(cuts(*axis)) for axis in axes)
    for vertical in rows:
        for horizontal in columns:
            yield tuple(zip(vertical, horizontal))


def tile_sides(size: Sequence[int], pixels_at_once: int) -> tuple[int, int]:
    """Height and width of about `pixels_at_once`, nearly square unless the image is too narrow for that."""
    side = int(pixels_at_once**0.5)
    height = min(size[0], max(side, pixels_at_once // size[1]))
    return height, min(size[1], max(1, pixels_at_once // height))


def cuts(size: int, side: int, margin: Sequence[int], step: int) -> Iterator[tuple[slice, slice, slice]]:
    """Cover an axis: (input slice, slice of its output to keep, place of that) of each piece of about `side`.

    A piece reaches `margin` beyond what is kept of it and starts at a multiple of `step`, where the network's strides
    fall as they do in the whole image; at the ends of the axis it ends with it.
    """
    before, after = (-(-m // step) * step for m in margin)
    inner = size if side >= size else max(step, (side - before - after) // step * step)
    for start in range(0, size, inner):
        stop = min(start + inner, size)
        first, last = max(0, start - before), min(size, stop + after)
        yield slice(first, last), slice(start - first, stop - first), slice(start, stop)
