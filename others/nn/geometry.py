"""Shapes of a convolution: each formula once, beside its inverse.

Pairs are (vertical, horizontal) as everywhere in torch. `Geometry` is all that the three maps of `kernels` need to
know besides the tensors and the size of what they are to make.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd
from operator import index
from typing import Any, NamedTuple

Pair = tuple[int, ...]  # (vertical, horizontal): type checkers lose count of what a comprehension makes


def pair(value: Any, name: str, minimum: int = 0) -> Pair:
    """int or pair of ints -> (vertical, horizontal), each at least `minimum`.

    Raises TypeError for anything that is not one or two integers and RuntimeError, as torch does, for one that is
    too small.
    """
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if len(values) == 1:
        values *= 2
    if len(values) != 2 or not all(map(is_whole, values)):
        raise TypeError(f"{name}: expected an int or a pair of ints, got {value!r}")
    values = tuple(map(index, values))
    if min(values) < minimum:
        raise RuntimeError(f"{name}: expected values >= {minimum}, got {value!r}")
    return values


def is_whole(value: Any) -> bool:
    """Whether it is an integer, Python's, NumPy's or torch's; bool is none."""
    return hasattr(value, "__index__") and not isinstance(value, bool)


def whole(value: Any, name: str) -> int:
    """An integer as an int. Raises TypeError for anything else."""
    if not is_whole(value):
        raise TypeError(f"{name}: expected an int, got {value!r}")
    return index(value)


def span(kernel_size: int, dilation: int) -> int:
    """The effective kernel size: pixels from the first to the last tap of a dilated kernel, both included."""
    return dilation * (kernel_size - 1) + 1


def correlation_size(size: int, kernel_size: int, stride: int = 1, total_padding: int = 0, dilation: int = 1) -> int:
    """Length of a convolution's output; `total_padding` counts both ends. (torch.nn.Conv2d, "Shape")"""
    return (size + total_padding - span(kernel_size, dilation)) // stride + 1


def scatter_size(size: int, kernel_size: int, stride: int = 1, total_padding: int = 0, dilation: int = 1) -> int:
    """The smallest length whose `correlation_size` is `size`; `stride - 1` longer ones share it.
    (torch.nn.ConvTranspose2d, "Shape")"""
    return (size - 1) * stride - total_padding + span(kernel_size, dilation)


class Geometry(NamedTuple):
    """How a kernel lies on an image: output position o reads the input at o * stride - padding + tap * dilation.

    `padding` is the number of zeros *before* the image; a negative one skips that many pixels. What lies behind it
    needs no number: reading outside the image gives zero, and the sizes of input and output are always passed beside
    the geometry.
    """

    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


class Phase(NamedTuple):
    """Every stride-th position of one axis of the large image: those that one set of taps connects with the small one.

    Positions first, first + stride, ... (`count` of them). `scatter` writes them, as a stride-1 correlation of the
    small image with the slice `taps` of the flipped kernel, `kernel_size` of them, at `padding` and `dilation`;
    `adjoint` is how `correlate` and `weight_gradient` read them.
    """

    first: int
    count: int  # type: ignore[assignment]  # instead of tuple's method
    taps: slice
    kernel_size: int
    padding: int
    dilation: int

    def place(self, padding: int) -> slice:
        """Its taps among those of a window with this padding."""
        start = padding - self.padding
        return slice(start, start + span(self.kernel_size, self.dilation), self.dilation)

    def adjoint(self) -> Phase:
        """The same positions as a convolution reads them: with the slice `taps` of its kernel, not flipped, as a
        stride-1 correlation of them at `padding`. Only for a phase that has taps."""
        last = self.taps.stop - 1 - self.taps.start
        first = last - (self.kernel_size - 1) * self.taps.step
        padding = span(self.kernel_size, self.dilation) - 1 - self.padding
        return self._replace(taps=slice(first, last + 1, self.taps.step), padding=padding)


@lru_cache(1024)
def phases(size: int, kernel_size: int, stride: int, padding: int, dilation: int) -> tuple[Phase, ...]:
    """Split an axis of `size` positions into the `stride` sub-pixel phases of a transposed convolution.

    Position h receives y[o] through tap i where h + padding = o * stride + i * dilation. Writing h + padding as
    q * stride + r, only taps with i * dilation = r (mod stride) take part, and o = q - (i * dilation - r) / stride:
    one step in q is one step in o, a correlation of stride 1. Those taps are stride / gcd(stride, dilation) apart and
    read places dilation / gcd apart, the last of them o = q - offset. With kernel 3, stride 2 and padding 1, even
    positions take tap 1 alone and odd ones taps 2 and 0. (Shi et al. 2016, arXiv:1609.07009)
    """
    found = []
    common = gcd(dilation, stride)
    for first in range(min(stride, size)):
        q, r = divmod(first + padding, stride)
        taps = [i for i in range(kernel_size) if (i * dilation - r) % stride == 0]
        last = taps[-1] if taps else 0
        offset = (last * dilation - r) // stride
        flipped = slice(kernel_size - 1 - last, kernel_size if taps else 0, stride // common)
        count = (size - first + stride - 1) // stride
        found.append(Phase(first, count, flipped, len(taps), offset - q, dilation // common))
    return tuple(found)


def image_phases(size: Sequence[int], geometry: Geometry) -> tuple[tuple[Phase, ...], tuple[Phase, ...]]:
    """The phases of both axes of a large image of this size, (vertical, horizontal)."""
    axes = zip(size, geometry.kernel_size, geometry.stride, geometry.padding, geometry.dilation)
    vertical, horizontal = (phases(*axis) for axis in axes)
    return vertical, horizontal


def covering(axis: Sequence[Phase]) -> Pair:
    """(taps, padding) of the smallest window without dilation that covers those of all `phases` of an axis."""
    used = [phase for phase in axis if phase.kernel_size]
    padding = max((phase.padding for phase in used), default=0)
    return max((span(p.kernel_size, p.dilation) - p.padding for p in used), default=1) + padding, padding


def overlap(
    tap: int, size: int, other_size: int, stride: int, padding: int, dilation: int, adjoint: bool
) -> tuple[slice, slice]:
    """(slice of the result, slice of the operand) that one tap of a correlation connects, along one axis.

    In a correlation result[o] takes operand[o * stride - padding + tap * dilation]; in its adjoint the two places
    are exchanged. Only places inside both remain.
    """
    image, small = (size, other_size) if adjoint else (other_size, size)
    shift = tap * dilation - padding
    first = max(0, -(shift // stride))
    count = max(0, min(small - 1, (image - 1 - shift) // stride) + 1 - first)
    start = first * stride + shift
    strided = slice(start, start + stride * (count - 1) + 1 if count else start, stride)
    dense = slice(first, first + count)
    return (strided, dense) if adjoint else (dense, strided)


def pooled_size(
    size: int, kernel_size: int, stride: int = 1, total_padding: int = 0, dilation: int = 1, ceil_mode: bool = False
) -> int:
    """Length of a pooling's output; `total_padding` counts both ends, equally long. With ceil_mode a last, partial
    window counts too if it starts inside the image or the padding before it. (torch.nn.MaxPool2d, "Shape")"""
    if not ceil_mode:
        return correlation_size(size, kernel_size, stride, total_padding, dilation)
    count = correlation_size(size + stride - 1, kernel_size, stride, total_padding, dilation)
    return count - 1 if (count - 1) * stride >= size + total_padding // 2 else count
