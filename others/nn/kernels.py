"""The three linear maps of a convolution. Everything that convolves in this framework is one of them.

A convolution is bilinear in its input x and its weight w, so there are exactly three maps:

    correlate(x, w)         y[o] = sum over taps i of x[o * stride - padding + i * dilation] w[i]
    scatter(y, w)           its adjoint in x: the input gradient, and what a transposed convolution computes
    weight_gradient(x, y)   its adjoint in w

and one identity that tests all of them, for any y:

    <correlate(x, w), y> = <x, scatter(y, w)> = <w, weight_gradient(x, y)>

Images are NHWC here, (N, H, W, C) with any strides; weights keep torch's layout (C_out, C_in / groups, kh, kw). The
size of what a map makes is always passed in: with a stride, several inputs have outputs of the same size. Operands do
not require grad: the layers detach them.

What the maps mean stands in `reference`, in a few lines that are also taken where torch computes so. All else is speed:
`choice` says which way a map goes. `correlate` and `weight_gradient` are one `sweep` over an image, read as `columns`
or as `winograd`'s tiles, under a stride perhaps phase by phase. `scatter` is such a correlation for each phase of its
result. Where the result has few channels, `correlate` and `scatter` may be shifted `additions` instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

from torch import empty

from . import additions, reference, windows
from .choice import Way, way, way_to_read
from .columns import Columns
from .geometry import Geometry, Phase, covering, image_phases
from .windows import workspace
from .winograd import Tiles

if TYPE_CHECKING:
    from torch import Tensor


def correlate(x: Tensor, weight: Tensor, size: Sequence[int], geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """(N, H, W, C_in), (C_out, C_in / groups, kh, kw) -> (N, *size, C_out), plus bias (C_out,) if there is one."""
    chosen = way("correlate", x, x.shape[1:], (*size, len(weight)), geometry)
    if chosen is Way.REFERENCE:
        return reference.correlate(x, weight, size, geometry, bias)
    if chosen is Way.ADDITIONS:
        return additions.correlate(x, weight, size, geometry, bias)
    y = empty(x.shape[0], *size, weight.shape[0], dtype=x.dtype, device=x.device)
    sweep(chosen, x, geometry, weight, y, bias)
    return y


def scatter(y: Tensor, weight: Tensor, size: Sequence[int], geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """(N, H', W', C_out), (C_out, C_in / groups, kh, kw) -> (N, *size, C_in), plus bias (C_in,) if there is one."""
    chosen = way("scatter", y, (*size, weight.shape[1] * geometry.groups), y.shape[1:], geometry)
    if chosen is Way.REFERENCE:
        return reference.scatter(y, weight, size, geometry, bias)
    if chosen is Way.ADDITIONS:
        return additions.scatter(y, weight, size, geometry, bias)
    flipped = swap_channels(weight, geometry.groups).flip(2, 3)
    if chosen is Way.TOGETHER:
        return scatter_together(y, flipped, size, geometry, bias)
    return scatter_apart(y, flipped, size, geometry, bias)


def weight_gradient(x: Tensor, y: Tensor, geometry: Geometry) -> Tensor:
    """(N, H, W, C_in), (N, H', W', C_out) -> (C_out, C_in / groups, kh, kw), summed over the batch."""
    chosen = way("weight_gradient", x, x.shape[1:], y.shape[1:], geometry)
    if chosen is Way.REFERENCE:
        return reference.weight_gradient(x, y, geometry)
    gradient = sweep(chosen, x, geometry, y=y)
    assert gradient is not None  # as y is given
    return gradient


def correlate_and_gradient(x: Tensor, weight: Tensor, y: Tensor, geometry: Geometry) -> tuple[Tensor, Tensor]:
    """(N, H, W, C_in), weight, (N, H', W', C_out) -> correlate(x, weight), of y's shape, and weight_gradient(x, y), of
    the weight's, from one reading of x: what going backward through a transposed convolution takes."""
    chosen = way("weight_gradient", x, x.shape[1:], y.shape[1:], geometry)
    if chosen is Way.REFERENCE:
        found = reference.correlate(x, weight, y.shape[1:3], geometry)
        return found, reference.weight_gradient(x, y, geometry)
    result = empty(y.shape, dtype=x.dtype, device=x.device)
    gradient = sweep(chosen, x, geometry, weight, result, y=y)
    assert gradient is not None
    return result, gradient


# -------------------------------------------------------------------------------------------------- reading an image


def sweep(
    chosen: Way, x: Tensor, geometry: Geometry, weight: Tensor | None = None, result: Tensor | None = None,
    bias: Tensor | None = None, add: bool = False, y: Tensor | None = None,
) -> Tensor | None:  # fmt: skip
    """One pass over the windows of x, block by block, for whichever is given of

    result  (N, H', W', C_out), contiguous: set to `correlate` of x and weight, plus bias, or with `add` increased by it
    y       (N, H', W', C_out): returns `weight_gradient` of x and y.
    """
    if chosen is Way.PHASES:
        return sweep_phases(x, geometry, weight, result, bias, add, y)
    reading = (Tiles if chosen is Way.TILES else Columns)(geometry)
    factors = None if weight is None else reading.factors(weight)
    gradient = None if y is None else reading.new_gradient(x, y)
    # cut: the block's parts of result and of y, those that are given
    for x_block, cut, shifted in reading.blocks(x, [tensor for tensor in (result, y) if tensor is not None]):
        seen = reading.read(x_block, cut[0].shape[1:3], shifted)
        if factors is not None:
            reading.write(cut[0], seen, factors, bias, add)
        if gradient is not None:
            reading.add_product(gradient, seen, cut[-1])
    return None if gradient is None else reading.weight_of(gradient)


def sweep_phases(
    x: Tensor, geometry: Geometry, weight: Tensor | None, result: Tensor | None, bias: Tensor | None, add: bool,
    y: Tensor | None,
) -> Tensor | None:  # fmt: skip
    """The same phase by phase of x: `correlate` is the sum of theirs, and each has the gradient of its own taps."""
    small, columns = next(each.shape[1:] for each in (y, result) if each is not None), Columns(geometry)
    gradient = None if y is None else columns.weight_of(columns.new_gradient(x, y))
    for phase, taps, around in phases_read(x, geometry):
        part = None if weight is None else weight[taps]
        found = sweep(way_to_read(phase, small, around), phase, around, part, result, bias, add, y)
        if gradient is not None and found is not None:
            gradient[taps] = found
        bias, add = None, True
    return gradient


def phases_read(x: Tensor, geometry: Geometry) -> Iterator[tuple[Tensor, tuple, Geometry]]:
    """The phases of an image under a stride, those that are read: (every stride-th pixel of x, the index of the
    taps that read them, the geometry of that stride-1 correlation)."""
    axes = image_phases(x.shape[1:3], geometry)
    vertical, horizontal = ([phase.adjoint() for phase in axis if phase.kernel_size] for axis in axes)
    for rows in vertical:
        for cols in horizontal:
            phase = x[:, rows.first :: geometry.stride[0], cols.first :: geometry.stride[1]]
            yield phase, (..., rows.taps, cols.taps), phase_geometry(rows, cols, geometry.groups)


def phase_geometry(rows: Phase, cols: Phase, groups: int) -> Geometry:
    """The geometry of the stride-1 correlation of a vertical and a horizontal phase."""
    kernel_size, padding, dilation = zip(*((p.kernel_size, p.padding, p.dilation) for p in (rows, cols)))
    return Geometry(kernel_size, (1, 1), padding, dilation, groups)


# -------------------------------------------------------------------------------------------------- writing an image


def scatter_apart(y: Tensor, flipped: Tensor, size: Sequence[int], geometry: Geometry, bias: Tensor | None) -> Tensor:
    """`scatter` as an ordinary stride-1 correlation of y for each phase of the result: every output is written once,
    nothing is folded. `flipped`: the weight, (C_in, C_out / groups, kh, kw)."""
    (vertical, horizontal), (step_y, step_x) = image_phases(size, geometry), geometry.stride
    x = empty(y.shape[0], *size, len(flipped), dtype=y.dtype, device=y.device)
    if geometry.stride == (1, 1):  # the only phase is x
        write_phase(x, y, flipped, vertical[0], horizontal[0], geometry.groups, bias)
        return x
    nothing: Tensor | int = 0 if bias is None else bias  # for no tap: a large stride, or a factor of the dilation
    for rows in vertical:
        for cols in horizontal:
            phase = nothing
            if rows.kernel_size and cols.kernel_size:
                phase = workspace("phase", (len(y), rows.count, cols.count, len(flipped)), y)
                write_phase(phase, y, flipped, rows, cols, geometry.groups, bias)
            x[:, rows.first :: step_y, cols.first :: step_x] = phase
    return x


def write_phase(
    out: Tensor, y: Tensor, flipped: Tensor, rows: Phase, cols: Phase, groups: int, bias: Tensor | None
) -> None:
    """out = one phase of `scatter`."""
    around = phase_geometry(rows, cols, groups)
    sweep(way_to_read(y, out.shape[1:], around), y, around, flipped[:, :, rows.taps, cols.taps], out, bias)


def scatter_together(
    y: Tensor, flipped: Tensor, size: Sequence[int], geometry: Geometry, bias: Tensor | None
) -> Tensor:
    """`scatter` as one correlation whose channels are the phases, zero for the taps that a phase lacks, and are then
    interleaved ("pixel shuffle", Shi et al. 2016, arXiv:1609.05158). `flipped`: the weight, (C_in, C_out, kh, kw).

    A number that is not finite spreads over the window.
    """
    vertical, horizontal = image_phases(size, geometry)
    channels, strides = len(flipped), (len(vertical), len(horizontal))
    (high, top), (wide, left) = covering(vertical), covering(horizontal)
    kernel = flipped.new_zeros(*strides, channels, flipped.shape[1], high, wide)
    for rows in vertical:
        for cols in horizontal:
            place = kernel[rows.first, cols.first, :, :, rows.place(top), cols.place(left)]
            place.copy_(flipped[:, :, rows.taps, cols.taps])
    kernel, bias = kernel.flatten(0, 2), bias if bias is None else bias.repeat(prod(strides))
    around = Geometry((high, wide), padding=(top, left))
    h, w = vertical[0].count, horizontal[0].count
    x = empty(y.shape[0], h * strides[0], w * strides[1], channels, dtype=y.dtype, device=y.device)
    images = max(1, windows.BLOCK_BYTES // (prod(x.shape[1:]) * x.element_size()))
    for block, out in zip(y.split(images), x.split(images)):
        found = workspace("phases", (block.shape[0], h, w, len(kernel)), y)
        sweep(way_to_read(block, found.shape[1:], around), block, around, kernel, found, bias)
        interleaved = found.view(-1, h, w, *strides, channels).transpose(2, 3)
        out.view(interleaved.shape).copy_(interleaved)
    return x[:, : size[0], : size[1]].contiguous()  # x's sizes are multiples of the stride


def swap_channels(weight: Tensor, groups: int) -> Tensor:
    """Each group's inputs as outputs: (C_out, C_in / groups, kh, kw) -> (C_in, C_out / groups, kh, kw)."""
    c_out, c_in, kh, kw = weight.shape
    grouped = weight.reshape(groups, c_out // groups, c_in, kh, kw)
    return grouped.transpose(1, 2).reshape(groups * c_in, c_out // groups, kh, kw)
