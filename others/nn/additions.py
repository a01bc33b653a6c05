"""`correlate` and `scatter` to few channels: the product first, then one shifted addition for each tap ("kn2row").

Copying kh * kw * C columns to make three channels would cost more than the product; kh * kw additions of three planes
do not. Results are planar in memory. Without groups. (Vasudevan et al. 2017, arXiv:1704.04428)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import empty

from . import windows
from .geometry import Geometry, overlap, span
from .windows import blocks, keeps_sizes, row_blocks, workspace

if TYPE_CHECKING:
    from torch import Tensor


def correlate(x: Tensor, weight: Tensor, size: Sequence[int], geometry: Geometry, bias: Tensor | None) -> Tensor:
    """`kernels.correlate` without a stride, where it is the adjoint of the flipped one."""
    axes = zip(geometry.kernel_size, geometry.dilation, geometry.padding)
    padding = tuple(span(taps, dilation) - 1 - before for taps, dilation, before in axes)
    return scatter(x, weight.transpose(0, 1).flip(2, 3), size, geometry._replace(padding=padding), bias)


def scatter(y: Tensor, weight: Tensor, size: Sequence[int], geometry: Geometry, bias: Tensor | None) -> Tensor:
    """`kernels.scatter`, block by block of y."""
    _, few, kh, kw = weight.shape
    matrix = weight.permute(2, 3, 1, 0).flatten(0, 2)
    x = empty(y.shape[0], few, *size, dtype=y.dtype, device=y.device)
    x = x.float() if x.element_size() == 2 else x  # rounded once, not with every tap
    x.zero_() if bias is None else x.copy_(bias.view(few, 1, 1))
    row_bytes = len(matrix) * y.shape[2] * y.element_size()
    for x_block, (y_block,), shifted in blocks(x, (y,), geometry, row_bytes, windows.BLOCK_BYTES):
        pixels = y_block.reshape(-1, y.shape[3])
        planes = multiply_across(matrix, pixels).view(kh, kw, few, *y_block.shape[:3])
        axes = zip((kh, kw), zip(size, y_block.shape[1:3], shifted.stride, shifted.padding, shifted.dilation))
        vertical, horizontal = ([overlap(tap, *axis, adjoint=True) for tap in range(taps)] for taps, axis in axes)
        for row, (to_y, from_y) in zip(planes, vertical):
            for plane, (to_x, from_x) in zip(row, horizontal):
                x_block.transpose(0, 1)[..., to_y, to_x].add_(plane[..., from_y, from_x])
    return x.to(y.dtype).permute(0, 2, 3, 1)


def multiply_across(matrix: Tensor, pixels: Tensor) -> Tensor:
    """matrix pixels^T: (K, C), (M, C) -> (K, M), a workspace."""
    planes = workspace("planes", (len(matrix), len(pixels)), pixels)
    if not keeps_sizes(pixels):
        return planes.addmm_(matrix, pixels.t(), beta=0)
    for rows in row_blocks(pixels):
        planes[:, rows] = matrix.mm(pixels[rows].contiguous().t())  # rows far apart would be another size
    return planes
