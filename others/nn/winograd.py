"""The three maps with fewer multiplications: Winograd's minimal filtering.

Along one axis, `tile` outputs of a correlation with `taps` taps g read points = tile + taps - 1 inputs d, and

    y = A^T [(G g) * (B^T d)]

multiplies `points` numbers instead of tile * taps, 6 instead of 12 for 4 outputs of 3 taps. The matrices are constant:
G g and the A of the outputs evaluate polynomials at some points, B^T interpolates (`transforms`). Along both axes one
applies them to rows and columns, which is the matrix A_y (x) A_x to a tile as a vector; summed over channels, the
multiplications are one matrix product for each of the points. So each map is a chain of products,

    correlate         y = A^T [(G w) (B^T d)]
    weight_gradient   w = G^T [(B^T d)^T (A y)]

with d the overlapping tiles of the image, and an adjoint is the chain with transposed matrices. A stride is first made
1 by taking the stride * stride phases of the image as channels ("space to depth").
(Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308; on the points: Barabasz et al. 2020, arXiv:1803.10986)
"""

from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import NamedTuple

from torch import empty

from .windows import blocks, crop_or_pad, workspace

TILE = 4  # outputs along an axis; larger tiles save more multiplications and lose more digits
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))  # and infinity: 2e-6 of the result
MOVE = 20  # multiplications in the time that it takes to write or copy a number
WORTH = 0.8  # taken where it costs less than this part of the plain way
BLOCK_BYTES, BLOCK_TILES = 2**21, 128  # transformed tiles at a time: they should stay in the cache, but be enough rows


class Tiling(NamedTuple):
    """How a map is cut into tiles. Pairs are (vertical, horizontal)."""

    taps: tuple  # of each phase, the last with zeros where the stride does not divide the kernel
    tile: tuple  # outputs
    points: tuple  # inputs of a tile, and numbers to multiply
    count: tuple  # of tiles


def tiling(size, geometry):
    """The tiles of a result of this size (H', W')."""
    taps = tuple(-(-k // s) for k, s in zip(geometry.kernel_size, geometry.stride))
    tile = tuple(TILE if t > 1 else 1 for t in taps)
    points = tuple(m + t - 1 for m, t in zip(tile, taps))
    return Tiling(taps, tile, points, tuple(-(-n // m) for n, m in zip(size, tile)))


def pays(x, out_channels, size, geometry):
    """Whether this way is the faster one, by counting multiplications and numbers moved; never for 16-bit numbers,
    which have no digits to lose, and more than 3 taps, where it loses too many."""
    taps, tile, points, count = tiling(size, geometry)
    if geometry.groups > 1 or geometry.dilation != (1, 1) or x.element_size() < 4 or max(taps) not in (2, 3):
        return False
    channels, (points, tile, count) = x.shape[3] * prod(geometry.stride), map(prod, (points, tile, count))
    moved = 2 * points * (channels + out_channels) + tile * out_channels
    transformed = points * (points * channels + tile * out_channels)
    ours = count * (points * channels * out_channels + transformed + MOVE * moved)
    weights = MOVE * points * channels * out_channels / max(1, len(x))
    plain = prod(size) * prod(geometry.kernel_size) * x.shape[3] * (out_channels + MOVE)
    return ours + weights < WORTH * plain


def correlate_into(y, x, weight, geometry, bias):
    """`kernels.correlate_into`."""
    factors = transform_weight(weight, tiling(y.shape[1:3], geometry), geometry)
    for x_block, (out,), shifted in tile_blocks(x, (y,), geometry):
        tiles = tiling(out.shape[1:3], geometry)
        write(out, transform_image(x_block, tiles, shifted), factors, bias, tiles)
    return y


def weight_gradient(x, y, geometry):
    """`kernels.weight_gradient`."""
    tiles = tiling(y.shape[1:3], geometry)
    gradient = new_gradient(x, y, tiles, geometry)
    for x_block, (y_block,), shifted in tile_blocks(x, (y,), geometry):
        tiles = tiling(y_block.shape[1:3], geometry)
        add_product(gradient, transform_image(x_block, tiles, shifted), y_block, tiles)
    return as_weight(gradient, tiles, geometry)


def correlate_and_gradient(x, weight, y, geometry):
    """`kernels.correlate_and_gradient`: the image is transformed once for both."""
    tiles = tiling(y.shape[1:3], geometry)
    factors, gradient = transform_weight(weight, tiles, geometry), new_gradient(x, y, tiles, geometry)
    result = empty(y.shape, dtype=x.dtype, device=x.device)
    for x_block, (y_block, out), shifted in tile_blocks(x, (y, result), geometry):
        tiles = tiling(out.shape[1:3], geometry)
        image = transform_image(x_block, tiles, shifted)
        write(out, image, factors, None, tiles)
        add_product(gradient, image, y_block, tiles)
    return result, as_weight(gradient, tiles, geometry)


# ---------------------------------------------------------------------------------------------------- their parts

PARTS = 2  # of a block, each of which can stay with one processor core through the whole chain of products


def tile_blocks(x, outputs, geometry):
    """`blocks` of whole tiles."""
    _, tile, points, count = tiling(outputs[0].shape[1:3], geometry)
    tile_bytes = prod(points) * x.shape[3] * prod(geometry.stride) * x.element_size()
    row_bytes = tile_bytes * count[1] // tile[0]
    return blocks(x, outputs, geometry, row_bytes, max(BLOCK_BYTES, BLOCK_TILES * tile_bytes), tile[0])


def in_tiles(x, tiles, extent, stride=(1, 1)):
    """(N, H, W, C) -> its view (parts, *extent, images, rows, columns, *stride, C): tiles of `extent` phases, their
    tops and left sides tile * stride apart. The parts are halves of the images, or of the rows of tiles, or one."""
    (n, h, w, c), (sy, sx), (rows, columns) = x.stride(), stride, tiles.count
    down, right = tiles.tile[0] * sy * h, tiles.tile[1] * sx * w
    images, parts, apart = len(x), PARTS, 0
    if images % parts == 0:
        images //= parts
        apart = images * n
    elif rows % parts == 0:
        rows //= parts
        apart = rows * down
    else:
        parts = 1
    shape = (parts, *extent, images, rows, columns, sy, sx, x.shape[3])
    return x.as_strided(shape, (apart, sy * h, sx * w, n, down, right, h, w, c), x.storage_offset())


def transform(matrix, values, name):
    """The matrix times each part's values: (parts, K, ...) -> (parts, len(matrix), ...) as two dimensions, in a
    workspace."""
    values = values.view(len(values), matrix.shape[1], -1)
    out = workspace(name, (len(values), len(matrix), values.shape[2]), values)
    return out.baddbmm_(matrix.expand(len(values), -1, -1), values, beta=0)


def transform_image(x, tiles, geometry):
    """B^T d: (N, H, W, C) -> (parts, points, tiles of a part, phases * C)."""
    axes = zip(tiles.count, tiles.tile, tiles.points, geometry.stride)
    x = crop_or_pad(x, [-p for p in geometry.padding], [((n - 1) * m + p) * s for n, m, p, s in axes])
    values = in_tiles(x, tiles, tiles.points, geometry.stride)
    values = workspace("tiles", values.shape, x).copy_(values).view(len(values), prod(tiles.points), -1)
    image = transform(transforms(tiles, x).image, values, "transformed image")
    return image.view(*image.shape[:2], -1, prod(geometry.stride) * x.shape[3])


def transform_weight(weight, tiles, geometry):
    """G w: (C_out, C, kh, kw) -> (points, phases * C, C_out)."""
    (out_channels, channels, kh, kw), (sy, sx), (ty, tx) = weight.shape, geometry.stride, tiles.taps
    if (kh, kw) != (ty * sy, tx * sx):
        whole = weight.new_zeros(out_channels, channels, ty * sy, tx * sx)
        whole[:, :, :kh, :kw] = weight
        weight = whole
    phases = weight.reshape(out_channels, channels, ty, sy, tx, sx).permute(2, 4, 3, 5, 1, 0)
    factors = transform(transforms(tiles, weight).weight, phases.reshape(1, ty * tx, -1), "factors")
    return factors.view(prod(tiles.points), -1, out_channels)


def write(out, image, factors, bias, tiles):
    """out = A^T [image factors] + bias, (N, H', W', C_out)."""
    products = workspace("products", (*image.shape[:3], out.shape[3]), out)
    for part, values in zip(products, image):
        part.baddbmm_(values, factors, beta=0)
    if bias is not None:
        one = (tiles.taps[0] > 1) * tiles.points[1] + (tiles.taps[1] > 1)  # the point 1: A is 1 for every output
        products[:, one].add_(bias)
    results = transform(transforms(tiles, out).result, products, "results")
    size = tuple(n * m for n, m in zip(tiles.count, tiles.tile))
    whole = out if out.shape[1:3] == size else workspace("whole", (len(out), *size, out.shape[3]), out)
    target = in_tiles(whole, tiles, tiles.tile)
    target.copy_(results.view(target.shape))
    if whole is not out:
        out.copy_(whole[:, : out.shape[1], : out.shape[2]])


def add_product(gradient, image, y, tiles):
    """gradient += image^T (A y)."""
    y = crop_or_pad(y, (0, 0), [n * m for n, m in zip(tiles.count, tiles.tile)])
    values = in_tiles(y, tiles, tiles.tile)
    values = workspace("results", values.shape, y).copy_(values).view(len(values), prod(tiles.tile), -1)
    outputs = transform(transforms(tiles, y).result.t(), values, "products")
    for part, values in zip(image, outputs.view(*outputs.shape[:2], -1, y.shape[3])):
        gradient.baddbmm_(part.transpose(1, 2), values)


def new_gradient(x, y, tiles, geometry):
    """Zeros (points, phases * C, C_out)."""
    return y.new_zeros(prod(tiles.points), prod(geometry.stride) * x.shape[3], y.shape[3])


def as_weight(gradient, tiles, geometry):
    """The adjoint of `transform_weight`."""
    (sy, sx), (ty, tx), (kh, kw) = geometry.stride, tiles.taps, geometry.kernel_size
    _, channels, out_channels = gradient.shape
    phases = transforms(tiles, gradient).weight.t().mm(gradient.view(len(gradient), -1))
    phases = phases.view(ty, tx, sy, sx, channels // (sy * sx), out_channels).permute(5, 4, 0, 2, 1, 3)
    return phases.reshape(out_channels, -1, ty * sy, tx * sx)[:, :, :kh, :kw]


# ----------------------------------------------------------------------------------------------- the three matrices


class Transforms(NamedTuple):
    """For tiles as vectors: of the image, (points, points); of the weight, (points, taps); of the result,
    (outputs, points)."""

    image: object
    weight: object
    result: object


def transforms(tiles, like):
    """The matrices for these tiles, of the dtype and device of `like`."""
    return transforms_of(tiles.tile, tiles.taps, like.dtype, like.device)


@lru_cache
def transforms_of(tile, taps, dtype, device):
    vertical, horizontal = (axis_matrices(*axis) for axis in zip(tile, taps))

    def tensor(rows):
        matrix = empty(len(rows), len(rows[0]), dtype=dtype, device=device)
        for place, row in zip(matrix, rows):
            for number, value in enumerate(row):
                place[number].fill_(float(value))
        return matrix

    def kronecker(a, b):
        return (a[:, None, :, None] * b[None, :, None, :]).view(len(a) * len(b), -1)

    return Transforms(*(kronecker(tensor(a), tensor(b)) for a, b in zip(vertical, horizontal)))


@lru_cache
def axis_matrices(tile, taps):
    """B^T, G and A^T of one axis, exactly. (Toom 1963, Cook 1966)

    A correlation is the adjoint of a product of polynomials. With p the points, the last of them infinity, and
    M(x) = (x - p_0) (x - p_1) ...: B^T has the coefficients of M(x) / (x - p_i), and those of M; G evaluates the taps
    at p_i, divided by the product of p_i - p_j over j != i, and takes the last; A evaluates the outputs likewise.
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
