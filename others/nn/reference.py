"""The three linear maps of a convolution in `unfold`, `fold` and one product: what they mean, in code that runs.

For each image, with X = unfold(x) its columns (C_in * kh * kw, H' * W') and W the weight as (C_out, C_in * kh * kw):

    correlate(x, w)         y = W X + bias
    scatter(y, w)           x = fold(W^T y) + bias      its adjoint in x
    weight_gradient(x, y)   sum over images of y X^T    its adjoint in w

Arguments and results are those of `kernels`, which holds the fast ways. torch computes a convolution like this where it
does without oneDNN; there (`choice.is_plain`) the layers go this way too, and results and gradients equal torch's bit
for bit (a batch in float64 up to the last bits, which MKL rounds by where in memory a number stands).
(Chellapilla et al. 2006; ATen/native: Convolution.cpp, ConvolutionMM2d.cpp, NaiveConvolutionTranspose2d.cpp)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from torch import cat
from torch.nn.functional import fold, unfold

from .geometry import Geometry, Pair, span
from .windows import crop_or_pad

if TYPE_CHECKING:
    from torch import Tensor


def correlate(x: Tensor, weight: Tensor, size: Sequence[int], geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """(N, H, W, C_in), (C_out, C_in / groups, kh, kw) -> (N, *size, C_out), plus bias (C_out,) if there is one."""
    if geometry.groups > 1:
        biases = [None] * geometry.groups if bias is None else bias.chunk(geometry.groups)
        parts = zip(*in_groups(geometry, x, 3, weight, 0), biases)
        return cat([correlate(x, w, size, one_group(geometry), b) for x, w, b in parts], 3)
    y = x.new_zeros(len(x), len(weight), prod(size))
    if bias is not None:
        y.add_(bias[:, None])
    for image, out in zip(x, y):
        out.addmm_(weight.flatten(1), as_columns(image, size, geometry))
    return y.view(len(x), len(weight), *size).permute(0, 2, 3, 1)


def scatter(y: Tensor, weight: Tensor, size: Sequence[int], geometry: Geometry, bias: Tensor | None = None) -> Tensor:
    """(N, H', W', C_out), (C_out, C_in / groups, kh, kw) -> (N, *size, C_in), plus bias (C_in,) if there is one."""
    if geometry.groups > 1:
        parts = zip(*in_groups(geometry, y, 3, weight, 0))
        x = cat([scatter(y, w, size, one_group(geometry)) for y, w in parts], 3)
        return x if bias is None else x.add_(bias)
    reached = extent(y.shape[1:3], geometry)
    x = y.new_zeros(len(y), weight.shape[1], *size).permute(0, 2, 3, 1)
    for rows, out in zip(as_rows(y), x):
        columns = weight.flatten(1).t().mm(rows)
        folded = fold(columns[None], reached, geometry.kernel_size, geometry.dilation, 0, geometry.stride)
        out.copy_(crop_or_pad(folded.permute(0, 2, 3, 1), geometry.padding, size)[0])
    return x if bias is None else x.add_(bias)


def weight_gradient(x: Tensor, y: Tensor, geometry: Geometry) -> Tensor:
    """(N, H, W, C_in), (N, H', W', C_out) -> (C_out, C_in / groups, kh, kw), summed over the batch."""
    if geometry.groups > 1:
        parts = zip(*in_groups(geometry, x, 3, y, 3))
        return cat([weight_gradient(x, y, one_group(geometry)) for x, y in parts])
    gradient = y.new_zeros(y.shape[3], x.shape[3] * prod(geometry.kernel_size))
    for image, rows in zip(x, as_rows(y)):
        gradient.addmm_(rows, as_columns(image, y.shape[1:3], geometry).t())
    return gradient.view(y.shape[3], x.shape[3], *geometry.kernel_size)


def bias_gradient(y: Tensor, groups: int = 1, by_image: bool = False) -> Tensor:
    """(N, H', W', C_out) -> (C_out,): the sum over places and images, in torch's order: group by group, each together
    or image by image."""
    parts = [part.contiguous() for part in y.permute(0, 3, 1, 2).chunk(groups, 1)]
    if by_image:
        return cat([sum((image.sum((1, 2)) for image in part), part.new_zeros(part.shape[1])) for part in parts])
    return cat([part.sum((0, 2, 3)) for part in parts])


def extent(size: Sequence[int], geometry: Geometry) -> Pair:
    """The rows and columns that a result of this size reads."""
    axes = zip(size, geometry.kernel_size, geometry.stride, geometry.dilation)
    return tuple((n - 1) * s + span(k, d) for n, k, s, d in axes)


def as_columns(image: Tensor, size: Sequence[int], geometry: Geometry) -> Tensor:
    """(H, W, C_in) -> (C_in * kh * kw, H' * W'): what the kernel sees at each place."""
    padded = crop_or_pad(image[None], [-p for p in geometry.padding], extent(size, geometry)).permute(0, 3, 1, 2)
    return unfold(padded, geometry.kernel_size, geometry.dilation, 0, geometry.stride)[0]


def as_rows(y: Tensor) -> Tensor:
    """(N, H', W', C_out) -> (N, C_out, H' * W'): in one piece, as torch has them."""
    return y.permute(0, 3, 1, 2).contiguous().flatten(2)


def in_groups(
    geometry: Geometry, a: Tensor, axis_a: int, b: Tensor, axis_b: int
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Two tensors, each cut into the groups along its axis of channels."""
    return a.chunk(geometry.groups, axis_a), b.chunk(geometry.groups, axis_b)


def one_group(geometry: Geometry) -> Geometry:
    return geometry._replace(groups=1)
