"""The three maps with fewer multiplications: Winograd's minimal filtering.

Along one axis, `tile` outputs of a correlation with `taps` taps g read points = tile + taps - 1 inputs d, and

    y = A^T [(G g) * (B^T d)]

multiplies `points` numbers instead of tile * taps: 6 instead of 12 for 4 outputs of 3 taps. The matrices are constant
(`axis_matrices`). Along both axes they act on the rows and on the columns of a tile; on the tile flattened to a vector
that is one matrix, the Kronecker product of both: more multiplications than axis by axis, but one matrix product.
Summed over channels, * becomes one matrix product for each point:

    correlate         y = A^T [(B^T d) (G w)]
    weight_gradient   w' = G^T [(B^T d)^T (A y)]    its adjoint in w: the transposed matrices, summed over all tiles

with d the overlapping tiles of the image. `scatter` needs none of its own: its phases are correlations, as are those of
an image under a stride (`kernels.phases_read`). Where the stride divides the kernel, the stride * stride phases of the
image have equally many taps and are taken together, as channels ("space to depth"). A number that is not finite spreads
over its whole tile. The error of an output is relative to the largest input of its tile, not to the output.
(Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308; on the points: Barabasz et al. 2020, arXiv:1803.10986)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from torch import empty

from .geometry import Geometry, Pair
from .windows import blocks, crop_or_pad, workspace

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

    from .windows import Block

TILE = 4  # outputs along an axis; larger tiles save more multiplications and lose more digits
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))  # finite ones; infinity is the last.
#        The largest error in float32 is 2e-6 to 3e-6 of the largest output, for 64 channels
TILES_BYTES = 2**21  # of transformed tiles at a time, to stay in the cache,
BLOCK_TILES = 128  # but at least so many tiles: they are the rows of each matrix product


class Tiling(NamedTuple):
    """How a result is cut into tiles. Pairs are (vertical, horizontal)."""

    taps: Pair  # of each phase of the stride, which divides the kernel
    tile: Pair  # outputs
    points: Pair  # inputs of a tile, and numbers to multiply

    def cover(self, size: Sequence[int]) -> Pair:
        """How many tiles cover a result of this size (H', W')."""
        return tuple(-(-n // m) for n, m in zip(size, self.tile))


def tiling(geometry: Geometry) -> Tiling:
    taps = tuple(k // s for k, s in zip(geometry.kernel_size, geometry.stride))
    tile = tuple(TILE if t > 1 else 1 for t in taps)
    return Tiling(taps, tile, tuple(m + t - 1 for m, t in zip(tile, taps)))


class Tiles:
    """Reads images as transformed tiles B^T d (tiles, points, phases * C), where the phases are those of the stride.

    Not for groups or dilation, nor for a stride that does not divide the kernel.
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry, self.tiling = geometry, tiling(geometry)

    def blocks(self, x: Tensor, cut: Sequence[Tensor]) -> Iterator[Block]:
        """`windows.blocks` of whole tiles."""
        tile, points = self.tiling.tile, self.tiling.points
        tile_bytes = prod(points) * x.shape[3] * prod(self.geometry.stride) * x.element_size()
        row_bytes = tile_bytes * self.tiling.cover(cut[0].shape[1:3])[1] // tile[0]
        return blocks(x, cut, self.geometry, row_bytes, max(TILES_BYTES, BLOCK_TILES * tile_bytes), tile[0])

    def factors(self, weight: Tensor) -> Tensor:
        """G w: (C_out, C, kh, kw) -> (points, phases * C, C_out)."""
        (out_channels, channels, *_), (sy, sx), (ty, tx) = weight.shape, self.geometry.stride, self.tiling.taps
        phases = weight.reshape(out_channels, channels, ty, sy, tx, sx).permute(2, 4, 3, 5, 1, 0)
        factors = transform(transforms(self.tiling, weight).weight, phases.reshape(1, ty * tx, -1), "factors")
        return factors.view(prod(self.tiling.points), -1, out_channels)

    def read(self, x: Tensor, size: Sequence[int], geometry: Geometry) -> Tensor:
        """B^T d: (N, H, W, C) -> the tiles of a result of this size, where `geometry` is a block's. A workspace."""
        _, tile, points = self.tiling
        count = self.tiling.cover(size)
        extent = [((n - 1) * m + p) * s for n, m, p, s in zip(count, tile, points, geometry.stride)]
        x = crop_or_pad(x, [-p for p in geometry.padding], extent)
        values = gather(x, count, tile, points, geometry.stride, "tiles")
        return transform(transforms(self.tiling, x).image, values, "transformed image")

    def write(self, out: Tensor, image: Tensor, factors: Tensor, bias: Tensor | None, add: bool) -> None:
        """out (N, H', W', C_out) = A^T [image factors] + bias, or out += it."""
        taps, tile, points = self.tiling
        products = workspace("products", (*image.shape[:2], out.shape[3]), out)
        products.transpose(0, 1).baddbmm_(image.transpose(0, 1), factors, beta=0)
        if bias is not None:
            # A^T's column for the point 1 is all ones: added there, the bias reaches every output once. On an axis that
            # point has the index 1, or 0 where there is one tap
            products[:, (taps[0] > 1) * points[1] + (taps[1] > 1)].add_(bias)
        results = transform(transforms(self.tiling, out).result, products, "results")
        count = self.tiling.cover(out.shape[1:3])
        size = tuple(n * m for n, m in zip(count, tile))
        whole = out if out.shape[1:3] == size else workspace("whole", (len(out), *size, out.shape[3]), out)
        target = in_tiles(whole, count, tile, tile)
        results = results.view(target.shape)
        if whole is not out:
            target.copy_(results)
            target, results = out, whole[:, : out.shape[1], : out.shape[2]]
        target.add_(results) if add else target.copy_(results)

    def new_gradient(self, x: Tensor, y: Tensor) -> Tensor:
        """Zeros (points, phases * C, C_out) to sum a weight's gradient in."""
        return y.new_zeros(prod(self.tiling.points), prod(self.geometry.stride) * x.shape[3], y.shape[3])

    def add_product(self, gradient: Tensor, image: Tensor, y: Tensor) -> None:
        """gradient += image^T (A y)."""
        tile, count = self.tiling.tile, self.tiling.cover(y.shape[1:3])
        y = crop_or_pad(y, (0, 0), [n * m for n, m in zip(count, tile)])
        values = gather(y, count, tile, tile, (1, 1), "results")  # the memory of `write`, which is done with it
        outputs = transform(transforms(self.tiling, y).result.t(), values, "products")
        gradient.baddbmm_(image.permute(1, 2, 0), outputs.transpose(0, 1))

    def weight_of(self, gradient: Tensor) -> Tensor:
        """The adjoint of `factors`: (points, phases * C, C_out) -> (C_out, C, kh, kw)."""
        (sy, sx), (ty, tx) = self.geometry.stride, self.tiling.taps
        _, channels, out_channels = gradient.shape
        phases = transforms(self.tiling, gradient).weight.t().mm(gradient.view(len(gradient), -1))
        phases = phases.view(ty, tx, sy, sx, channels // (sy * sx), out_channels).permute(5, 4, 0, 2, 1, 3)
        return phases.reshape(out_channels, -1, ty * sy, tx * sx)


def in_tiles(x: Tensor, count: Pair, tile: Pair, extent: Pair, stride: Pair = (1, 1)) -> Tensor:
    """(N, H, W, C) -> its view (N, *count, *extent, *stride, C): tiles of `extent` positions, which are `stride` pixels
    apart, their corners tile * stride."""
    (n, h, w, c), (sy, sx) = x.stride(), stride
    shape = (len(x), *count, *extent, sy, sx, x.shape[3])
    return x.as_strided(shape, (n, tile[0] * sy * h, tile[1] * sx * w, sy * h, sx * w, h, w, c))


def gather(x: Tensor, count: Pair, tile: Pair, extent: Pair, stride: Pair, name: str) -> Tensor:
    """`in_tiles`, copied: (N, H, W, C) -> (tiles, positions, stride * stride * C), a workspace."""
    values = in_tiles(x, count, tile, extent, stride)
    values = workspace(name, values.shape, x).copy_(values)
    return values.view(-1, prod(extent), prod(stride) * x.shape[3])


def transform(matrix: Tensor, values: Tensor, name: str) -> Tensor:
    """The matrix times each tile: (tiles, K, C) -> (tiles, len(matrix), C), a workspace. One small product for each
    tile, so that a core which has made a tile also transforms it."""
    out = workspace(name, (len(values), len(matrix), values.shape[2]), values)
    return out.baddbmm_(matrix.expand(len(values), -1, -1), values, beta=0)


# ----------------------------------------------------------------------------------------------- the three matrices


class Transforms(NamedTuple):
    """For tiles as vectors: of the image, (points, points); of the weight, (points, taps); of the result,
    (outputs, points)."""

    image: Tensor
    weight: Tensor
    result: Tensor


def transforms(tiles: Tiling, like: Tensor) -> Transforms:
    """The matrices for these tiles, of the dtype and device of `like`."""
    return transforms_of(tiles.tile, tiles.taps, like.dtype, like.device)


@lru_cache
def transforms_of(tile: Pair, taps: Pair, dtype: dtype, device: device) -> Transforms:
    vertical, horizontal = (axis_matrices(*axis) for axis in zip(tile, taps))

    def tensor(rows):  # by hand, as `kronecker`: of torch the framework uses little more than empty, cat and arange
        matrix = empty(len(rows), len(rows[0]), dtype=dtype, device=device)
        for place, row in zip(matrix, rows):
            for number, value in enumerate(row):
                place[number].fill_(float(value))
        return matrix

    def kronecker(a, b):
        return (a[:, None, :, None] * b[None, :, None, :]).view(len(a) * len(b), -1)

    return Transforms(*(kronecker(tensor(a), tensor(b)) for a, b in zip(vertical, horizontal)))


def axis_matrices(tile: int, taps: int) -> tuple[list, list, list]:
    """B^T, G and A^T of one axis, exactly. (Toom 1963, Cook 1966)

    The product of polynomials of `taps` and `tile` coefficients g and y is B [(G g) * (A y)]: evaluate both at enough
    points, multiply, interpolate (Lagrange). A correlation is its adjoint in y, d -> A^T [(G g) * (B^T d)]. With the
    finite points p_0, p_1, ... and M(x) = (x - p_0) (x - p_1) ..., row i of

        A      p_i^0, p_i^1, ...                                      the value at p_i
        G      the same, divided by all p_i - p_j with j != i         and Lagrange's denominator
        B^T    the coefficients of M(x) / (x - p_i), lowest first     Lagrange's numerator

    and a last row for infinity: the leading coefficient in A and G, the coefficients of M in B^T.
    """
    points = POINTS[: tile + taps - 2]

    def polynomial(roots):
        coefficients = [Fraction(1)]
        for root in roots:
            coefficients = [a - root * b for a, b in zip([0, *coefficients], [*coefficients, 0])]
        return coefficients

    def powers(count):
        return [[p**i for i in range(count)] for p in points] + [[0] * (count - 1) + [1]]

    others = [[q for q in points if q != p] for p in points]
    image = [[*polynomial(roots), 0] for roots in others] + [polynomial(points)]
    weight = [[v / prod(p - q for q in roots) for v in row] for p, roots, row in zip(points, others, powers(taps))]
    return image, [*weight, powers(taps)[-1]], list(zip(*powers(tile)))
