"""What a network is made of and what an output pixel can see: `summary`, `receptive_field`, `alignment`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from fractions import Fraction
from functools import singledispatch
from itertools import accumulate
from math import lcm, prod
from operator import mul
from typing import TYPE_CHECKING, NamedTuple

from torch import empty

from .activations import ELU, LeakyReLU, ReLU, Sigmoid, Tanh
from .containers import Concatenate, Identity, Sequential, Skip
from .convolution import Conv2d, TransposeConv2d
from .geometry import Pair, pair
from .linear import Linear
from .matching import MatchedSpectrum
from .module import RECORDER, Module, using
from .pooling import MaxPool2d
from .spectrum import Correction, InverseSpectrum, Spectrum
from .upsampling import NearestUpsampling, UpsamplingConv2d

if TYPE_CHECKING:
    from torch import Tensor

# ---------------------------------------------------------------------------------------------- receptive field


def receptive_field(module: Module) -> tuple[Pair, Pair]:
    """((before, after) vertical, (before, after) horizontal): input pixels around its own an output pixel can see.

    An output pixel o stands on the input pixel floor(o / scale), `scale` being output pixels per input pixel, and
    sees at most `before` pixels above (left) and `after` below (right) of it: the largest numbers over all output
    pixels, exact but for weights that happen to be zero. So a tile with such a margin, starting at a multiple of
    `alignment`, gives what the whole image gives. What padding_mode copies from inside the image is not counted.

    Raises NotImplementedError for modules that see the whole image, or are not known to `along`.
    """
    return margins(along(module, 0)), margins(along(module, 1))


def alignment(module: Module) -> Pair:
    """(vertical, horizontal) period in input pixels: shifting the input by it shifts the output, and changes nothing
    else. The least common multiple of the strides that are in force somewhere in the network."""
    return period(along(module, 0)), period(along(module, 1))


class Axis(NamedTuple):
    """How a module reads its input along one image axis."""

    reads: Callable  # set of output positions -> set of the input positions they read
    scales: tuple = ()  # output pixels per input pixel, for each part of the chain


def period(axis: Axis) -> int:
    return lcm(*(scale.denominator for scale in accumulate(axis.scales, mul)))


def margins(axis: Axis) -> Pair:
    scale = prod(axis.scales, start=Fraction(1))
    outputs = range(int(period(axis) * scale))
    offsets = [position - output // scale for output in outputs for position in axis.reads({output})]
    return max(0, -min(offsets, default=0)), max(0, max(offsets, default=0))


@singledispatch
def along(module: Module, axis: int) -> Axis:
    """The `Axis` of a module, 0 vertical or 1 horizontal. Classes of one's own: `along.register`."""
    raise NotImplementedError(f"receptive_field: {type(module).__name__} sees the whole image, or is not known")


@along.register(ELU)
@along.register(Identity)
@along.register(LeakyReLU)
@along.register(ReLU)
@along.register(Sigmoid)
@along.register(Tanh)
def _(module: Module, axis: int) -> Axis:
    return Axis(lambda outputs: outputs)


@along.register(Conv2d)
@along.register(MaxPool2d)
def _(module: Module, axis: int) -> Axis:
    dilation = getattr(module, "dilation", 1)  # a window of one's own may have none, and whole numbers for pairs
    padding = [top for top, _ in module.margins()] if isinstance(module, Conv2d) else module.padding
    sizes = {"kernel_size": module.kernel_size, "stride": module.stride, "padding": padding, "dilation": dilation}
    return window(*(pair(size, f"{type(module).__name__}: {name}")[axis] for name, size in sizes.items()))


def window(kernel_size: int, stride: int, padding: int, dilation: int) -> Axis:
    """Output o reads o * stride - padding + i * dilation."""
    taps = [i * dilation - padding for i in range(kernel_size)]
    return Axis(lambda outputs: {o * stride + tap for o in outputs for tap in taps}, (Fraction(1, stride),))


@along.register
def _(module: TransposeConv2d, axis: int) -> Axis:
    return spread(module.kernel_size[axis], module.stride[axis], module.padding[axis], module.dilation[axis])


def spread(kernel_size: int, stride: int, padding: int, dilation: int) -> Axis:
    """The inverse of `window`: output o reads q where q * stride - padding + i * dilation = o."""
    taps = [i * dilation - padding for i in range(kernel_size)]
    return Axis(
        lambda outputs: {(o - tap) // stride for o in outputs for tap in taps if (o - tap) % stride == 0},
        (Fraction(stride),),
    )


@along.register(Spectrum)
@along.register(InverseSpectrum)
def _(module: Spectrum | InverseSpectrum, axis: int) -> Axis:
    way = window if isinstance(module, Spectrum) else spread
    return way(module.block, module.half, module.half, 1)


@along.register
def _(module: MatchedSpectrum, axis: int) -> Axis:
    return window(module.block + 2 * module.reach, module.half, module.half + module.reach, 1)


@along.register
def _(module: NearestUpsampling, axis: int) -> Axis:
    if module.scale_factor is None or module.scale_factor[axis] != int(module.scale_factor[axis]):
        raise NotImplementedError(f"receptive_field: {module!r} has no integer scale_factor")
    return enlarged(int(module.scale_factor[axis]))


def enlarged(scale: int) -> Axis:
    """Output o reads floor(o / scale)."""
    return Axis(lambda outputs: {o // scale for o in outputs}, (Fraction(scale),))


@along.register
def _(module: UpsamplingConv2d, axis: int) -> Axis:
    convolved = window(module.kernel_size[axis], 1, module.padding[axis], module.dilation[axis])
    return chain([enlarged(module.stride[axis]), convolved])


@along.register
def _(module: Sequential, axis: int) -> Axis:
    return chain([along(child, axis) for child in module])


def chain(parts: Sequence[Axis]) -> Axis:
    def reads(outputs):
        for part in reversed(parts):
            outputs = part.reads(outputs)
        return outputs

    return Axis(reads, tuple(scale for part in parts for scale in part.scales))


@along.register(Concatenate)
@along.register(Correction)
@along.register(Skip)
def _(module: Module, axis: int) -> Axis:
    body = along(module.body, axis)
    return Axis(lambda outputs: outputs | body.reads(outputs), body.scales)


# ------------------------------------------------------------------------------------------------------ summary


class Row(NamedTuple):
    """One call of a layer."""

    name: str
    layer: str
    output: str
    parameters: int
    multiplications: int


def summary(module: Module, input_shape: Sequence[int]) -> str:
    """A table of the calls of all layers for an input of `input_shape`, such as (1, 3, 32, 32), with their totals.

    Output shapes, parameters (the total counts shared ones once), multiplications (of convolutions, spectra and Linear,
    not by Winograd, upsampling folded, for the whole batch), and the receptive field. Runs a copy of the module once:
    the module's mode, saved state and gradients stay as they are.
    """
    rows = calls(module, input_shape)
    rows.append(Row("", "total", "", count(module), sum(row.multiplications for row in rows)))
    cells = [("", "layer", "output", "parameters", "multiplications")]
    cells += [(*row[:3], f"{row.parameters:,}", f"{row.multiplications:,}") for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    align = (str.ljust, str.ljust, str.ljust, str.rjust, str.rjust)
    lines = ["  ".join(f(cell, width) for f, cell, width in zip(align, line, widths)) for line in cells]
    return "\n".join([*lines, describe_field(module)])


def calls(module: Module, input_shape: Sequence[int]) -> list[Row]:
    """A `Row` for each call of a layer (a module without children), in order."""
    module = deepcopy(module).eval()
    rows: list[Row] = []
    for name, layer in module.named_modules():
        if not layer.children():
            vars(layer)["forward"] = observed(name, layer, rows)
    like = (module.parameters() or [empty(0)])[0].detach()
    with using(RECORDER, None):
        module(like.new_zeros(input_shape))
    return rows


def observed(name: str, layer: Module, rows: list[Row]) -> Callable:
    """The layer's forward, which also appends a `Row`."""
    forward = layer.forward

    def observing(input, *others, **options):
        output = forward(input, *others, **options)
        shape = str(tuple(output.shape))
        rows.append(Row(name, repr(layer), shape, count(layer), multiplications(layer, input, output)))
        return output

    return observing


def count(module: Module) -> int:
    """Numbers in all parameters, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def multiplications(layer: Module, input: Tensor, output: Tensor) -> int:
    """Each output of a Conv2d or Linear is one product with a filter; so is, adjointly, each input of a transposed
    convolution, and an upsampling convolution is one with a larger filter; a spectrum's filters are fixed, and blocks
    are compared by squares."""
    if isinstance(layer, (Conv2d, Linear)):
        return output.numel() * layer.weight[0].numel()
    if isinstance(layer, (Spectrum, InverseSpectrum)):
        compared = (2 * layer.reach + 1) ** 2 - 1 if isinstance(layer, MatchedSpectrum) else 0
        numbers = (output if isinstance(layer, Spectrum) else input).numel()
        return layer.channels * numbers + compared * numbers // 2
    if isinstance(layer, UpsamplingConv2d):
        taps = prod(layer.folded_geometry().kernel_size)
        return input.numel() * layer.out_channels // layer.groups * taps
    return input.numel() * layer.weight[0].numel() if isinstance(layer, TransposeConv2d) else 0


def describe_field(module: Module) -> str:
    try:
        (top, bottom), (left, right) = receptive_field(module)
    except NotImplementedError:
        return "receptive field: the whole image, or not known"
    return (f"receptive field: {top + 1 + bottom} x {left + 1 + right} pixels ({top} above, {bottom} below, "
            f"{left} left, {right} right), aligned to {alignment(module)}")  # fmt: skip


Module.summary = summary  # type: ignore[attr-defined]  # given from up here: this file knows all layers
