"""The usual way to read an image: every window is one row of a matrix, and each map one product with it ("im2col").

(Chellapilla, Puri & Simard 2006)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import TYPE_CHECKING

from . import windows
from .geometry import Geometry, span
from .windows import crop_or_pad, row_blocks, workspace

if TYPE_CHECKING:
    from torch import Tensor

    from .windows import Block

FEW_INPUTS = 8  # fewer input channels than this: copies along the image are faster than along the channels
NARROW = 16  # columns of a product's result: a multiple of this many is fastest


class Columns:
    """Reads images as columns (groups, N * H' * W', kh * kw * C / groups): row by row what the kernel sees."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def blocks(self, x: Tensor, cut: Sequence[Tensor]) -> Iterator[Block]:
        """`windows.blocks` by the size of their columns."""
        row_bytes = cut[0].shape[2] * prod(self.geometry.kernel_size) * x.shape[3] * x.element_size()
        return windows.blocks(x, cut, self.geometry, row_bytes, windows.BLOCK_BYTES)

    def factors(self, weight: Tensor) -> Tensor:
        """(C_out, C_in / groups, kh, kw) -> (groups, kh * kw * C_in / groups, C_out / groups), rows in columns' order.

        Without groups, columns of zeros are added up to a multiple of `NARROW`, or of 8 above it: the product of an odd
        width, or of 8, takes up to four times as long.
        """
        groups, width = self.geometry.groups, len(weight) // self.geometry.groups
        grouped = weight.reshape(groups, width, *weight.shape[1:])
        matrix = grouped.permute(0, 3, 4, 2, 1).reshape(groups, -1, width)
        if groups > 1 or (width % 8 == 0 and width >= NARROW):
            return matrix
        wide = matrix.new_zeros(1, matrix.shape[1], width + -width % NARROW)
        wide[..., :width] = matrix
        return wide

    def read(self, x: Tensor, size: Sequence[int], geometry: Geometry) -> Tensor:
        """(N, H, W, C) -> columns for a result of this size, where `geometry` is a block's.

        A workspace, valid until the next call; for a contiguous image, a 1x1 kernel, stride 1 and no groups, a view of
        the image.
        """
        groups, channels = geometry.groups, x.shape[3] // geometry.groups
        (kh, kw), (sy, sx), (dy, dx) = geometry.kernel_size, geometry.stride, geometry.dilation
        extent = [(n - 1) * s + span(k, d) for n, k, s, d in zip(size, (kh, kw), (sy, sx), (dy, dx))]
        x = crop_or_pad(x, [-p for p in geometry.padding], extent)
        n, h, w, c = x.stride()
        seen = x.as_strided(
            (groups, x.shape[0], *size, kh, kw, channels),
            (channels * c, n, sy * h, sx * w, dy * h, dx * w, c),
        )
        rows = x.shape[0] * size[0] * size[1]
        if kh == kw == sy == sx == groups == 1 and x.is_contiguous():  # 1x1: the image is its own columns
            return seen.view(1, rows, channels)
        columns = workspace("columns", seen.shape, x)
        if channels < FEW_INPUTS:
            for to, source in zip(columns.unbind(4), seen.unbind(4)):
                to.copy_(source)
        else:
            columns.copy_(seen)
        return columns.view(groups, rows, kh * kw * channels)

    def write(self, out: Tensor, columns: Tensor, factors: Tensor, bias: Tensor | None, add: bool) -> None:
        """out (N, H', W', C_out) = columns factors + bias, or out += it."""
        groups, _, width = factors.shape
        if bias is not None:
            out.add_(bias) if add else out.copy_(bias)
        beta = int(add or bias is not None)
        if width * groups == out.shape[3]:
            return multiply(columns, factors, by_group(out, groups), beta)
        wide = workspace("wide", (1, columns.shape[1], width), out)
        multiply(columns, factors, wide, beta=0)
        wide = wide.view(*out.shape[:3], width)[..., : out.shape[3]]
        out.add_(wide) if beta else out.copy_(wide)

    def new_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Zeros (groups, C_out / groups, kh * kw * C_in / groups) to sum a gradient in, 32 bits for 16-bit y."""
        groups = self.geometry.groups
        rows, columns = y.shape[3] // groups, prod(self.geometry.kernel_size) * x.shape[3] // groups
        # stored transposed where that makes the product's width a multiple of NARROW, or its longer side
        turned = groups == 1 and columns % NARROW and (rows % NARROW == 0 or rows > columns)
        zeros = y.new_zeros(groups, columns, rows).transpose(1, 2) if turned else y.new_zeros(groups, rows, columns)
        return zeros.float() if zeros.element_size() == 2 else zeros

    def add_product(self, gradient: Tensor, columns: Tensor, y: Tensor) -> None:
        """gradient += y^T columns, for some images' y and their columns."""
        rows = by_group(y.contiguous(), len(gradient)).transpose(1, 2)
        if gradient.dtype == columns.dtype:
            multiply(rows, columns, gradient, beta=1)
        else:  # one matrix is faster without a batch around it, up to four times if it is narrow
            gradient += rows.bmm(columns) if len(rows) > 1 else rows[0].mm(columns[0])

    def weight_of(self, gradient: Tensor) -> Tensor:
        """(groups, C_out / groups, kh * kw * C_in / groups) -> (C_out, C_in / groups, kh, kw), a view."""
        rows = gradient.shape[0] * gradient.shape[1]
        return gradient.view(rows, *self.geometry.kernel_size, -1).permute(0, 3, 1, 2)


def by_group(y: Tensor, groups: int) -> Tensor:
    """(N, H, W, C) -> (groups, N * H * W, C / groups), a view."""
    return y.view(-1, groups, y.shape[3] // groups).transpose(0, 1)


def multiply(a: Tensor, b: Tensor, out: Tensor, beta: int) -> None:
    """out = beta * out + a b, one product a group: (groups, M, K), (groups, K, N), (groups, M, N)."""
    if len(out) == 1:
        for rows in row_blocks(a[0]):
            out[0, rows].addmm_(a[0, rows], b[0], beta=beta)
    else:
        out.baddbmm_(a, b, beta=beta)
