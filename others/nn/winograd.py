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
an image under a stride (`kernels.image_phases`). Where the stride divides the kernel, the stride * stride phases of the
image have equally many taps and are taken together, as channels ("space to depth"). A number that is not finite spreads
over its whole tile.
(Winograd 1980; Lavin & Gray 2016, arXiv:1509.09308; on the points: Barabasz et al. 2020, arXiv:1803.10986)
"""

from fractions import Fraction
from functools import lru_cache
from math import prod
from typing import NamedTuple

from torch import empty

from .geometry import Geometry
from .windows import blocks, crop_or_pad, workspace

TILE = 4  # outputs along an axis; larger tiles save more multiplications and lose more digits
POINTS = (Fraction(0), Fraction(1), Fraction(-1), Fraction(1, 2), Fraction(-2))  # finite ones; infinity is the last.
#        The largest error in float32 is 2e-6 to 3e-6 of the largest output, for 64 channels
MOVE = 20  # multiplications in the time that it takes to write or copy a number
STRIDED = 2  # times as long as that, for the copy of all phases of a stride at once, as channels
WORTH = 0.9  # taken where its estimated cost is below this part of the plain way's
BLOCK_BYTES = 2**21  # of transformed tiles at a time, to stay in the cache,
BLOCK_TILES = 128  # but at least so many tiles: they are the rows of each matrix product


class Tiling(NamedTuple):
    """How a map is cut into tiles. Pairs are (vertical, horizontal)."""

    taps: tuple  # of each phase of the stride, which divides the kernel
    tile: tuple  # outputs
    points: tuple  # inputs of a tile, and numbers to multiply
    count: tuple  # of tiles


def tiling(size, geometry):
    """The tiles of a result of this size (H', W'); only `count` depends on it."""
    taps = tuple(k // s for k, s in zip(geometry.kernel_size, geometry.stride))
    tile = tuple(TILE if t > 1 else 1 for t in taps)
    points = tuple(m + t - 1 for m, t in zip(tile, taps))
    return Tiling(taps, tile, points, tuple(-(-n // m) for n, m in zip(size, tile)))


def pays(x, result, geometry):
    """Whether this way from x to a result (H', W', C_out) or back is estimated to be the faster one: never for 16-bit
    numbers, which have no digits to lose."""
    return x.element_size() > 2 and cheaper(len(x), x.shape[3], tuple(result), geometry, WORTH)


def pays_in_phases(x, result, geometry):
    """Whether a map under a stride is faster phase by phase of the image (`kernels.image_phases`), because this way
    pays for some of the phases. Not for an image smaller than the stride, of which no tap may read a pixel."""
    if x.element_size() == 2 or x.shape[1] < geometry.stride[0] or x.shape[2] < geometry.stride[1]:
        return False
    return cheaper_in_phases(len(x), x.shape[3], tuple(result), geometry, WORTH)


def correlate_into(y, x, weight, geometry, bias, add):
    """`kernels.correlate_into`."""
    factors = transform_weight(weight, tiling(y.shape[1:3], geometry), geometry)
    for x_block, (out,), shifted in tile_blocks(x, (y,), geometry):
        block_tiles = tiling(out.shape[1:3], geometry)
        write(out, transform_image(x_block, block_tiles, shifted), factors, bias, add, block_tiles)
    return y


def weight_gradient(x, y, geometry):
    """`kernels.weight_gradient`."""
    tiles = tiling(y.shape[1:3], geometry)
    gradient = new_gradient(x, y, tiles, geometry)
    for x_block, (y_block,), shifted in tile_blocks(x, (y,), geometry):
        block_tiles = tiling(y_block.shape[1:3], geometry)
        add_product(gradient, transform_image(x_block, block_tiles, shifted), y_block, block_tiles)
    return as_weight(gradient, tiles, geometry)


def correlate_into_and_gradient(result, x, weight, y, geometry, add):
    """`kernels.correlate_into_and_gradient`: the image is transformed once for both."""
    tiles = tiling(y.shape[1:3], geometry)
    factors, gradient = transform_weight(weight, tiles, geometry), new_gradient(x, y, tiles, geometry)
    for x_block, (y_block, out), shifted in tile_blocks(x, (y, result), geometry):
        block_tiles = tiling(out.shape[1:3], geometry)
        image = transform_image(x_block, block_tiles, shifted)
        write(out, image, factors, None, add, block_tiles)
        add_product(gradient, image, y_block, block_tiles)
    return as_weight(gradient, tiles, geometry)


# -------------------------------------------------------------------------------------------------------- helpers


def tile_blocks(x, outputs, geometry):
    """`blocks` of whole tiles."""
    _, tile, points, count = tiling(outputs[0].shape[1:3], geometry)
    tile_bytes = prod(points) * x.shape[3] * prod(geometry.stride) * x.element_size()
    row_bytes = tile_bytes * count[1] // tile[0]
    return blocks(x, outputs, geometry, row_bytes, max(BLOCK_BYTES, BLOCK_TILES * tile_bytes), tile[0])


def in_tiles(x, tiles, extent, stride=(1, 1)):
    """(N, H, W, C) -> its view (N, rows, columns, *extent, *stride, C): tiles of `extent` positions, which are `stride`
    pixels apart, their corners tile * stride."""
    (n, h, w, c), (sy, sx), (rows, columns) = x.stride(), stride, tiles.count
    down, right = tiles.tile[0] * sy * h, tiles.tile[1] * sx * w
    shape = (len(x), rows, columns, *extent, sy, sx, x.shape[3])
    return x.as_strided(shape, (n, down, right, sy * h, sx * w, h, w, c))


def transform(matrix, values, name):
    """The matrix times each tile: (tiles, K, C) -> (tiles, len(matrix), C), a workspace. One small product for each
    tile, so that a core which has made a tile also transforms it."""
    out = workspace(name, (len(values), len(matrix), values.shape[2]), values)
    return out.baddbmm_(matrix.expand(len(values), -1, -1), values, beta=0)


def gather(x, tiles, extent, stride, name):
    """`in_tiles`, copied: (N, H, W, C) -> (tiles, positions, stride * stride * C), a workspace."""
    values = in_tiles(x, tiles, extent, stride)
    values = workspace(name, values.shape, x).copy_(values)
    return values.view(-1, prod(extent), prod(stride) * x.shape[3])


def transform_image(x, tiles, geometry):
    """B^T d: (N, H, W, C) -> (tiles, points, phases * C)."""
    axes = zip(tiles.count, tiles.tile, tiles.points, geometry.stride)
    extent = [((n - 1) * m + points) * s for n, m, points, s in axes]
    x = crop_or_pad(x, [-p for p in geometry.padding], extent)
    values = gather(x, tiles, tiles.points, geometry.stride, "tiles")
    return transform(transforms(tiles, x).image, values, "transformed image")


def transform_weight(weight, tiles, geometry):
    """G w: (C_out, C, kh, kw) -> (points, phases * C, C_out)."""
    (out_channels, channels, *_), (sy, sx), (ty, tx) = weight.shape, geometry.stride, tiles.taps
    phases = weight.reshape(out_channels, channels, ty, sy, tx, sx).permute(2, 4, 3, 5, 1, 0)
    factors = transform(transforms(tiles, weight).weight, phases.reshape(1, ty * tx, -1), "factors")
    return factors.view(prod(tiles.points), -1, out_channels)


def write(out, image, factors, bias, add, tiles):
    """out = A^T [image factors] + bias, or out += it, (N, H', W', C_out)."""
    products = workspace("products", (*image.shape[:2], out.shape[3]), out)
    products.transpose(0, 1).baddbmm_(image.transpose(0, 1), factors, beta=0)
    if bias is not None:
        # A^T's column for the point 1 is all ones: added there, the bias reaches every output once. On an axis that
        # point has the index 1, or 0 where there is one tap
        ones = (tiles.taps[0] > 1) * tiles.points[1] + (tiles.taps[1] > 1)
        products[:, ones].add_(bias)
    results = transform(transforms(tiles, out).result, products, "results")
    size = tuple(n * m for n, m in zip(tiles.count, tiles.tile))
    whole = out if out.shape[1:3] == size else workspace("whole", (len(out), *size, out.shape[3]), out)
    target = in_tiles(whole, tiles, tiles.tile)
    results = results.view(target.shape)
    if whole is not out:
        target.copy_(results)
        target, results = out, whole[:, : out.shape[1], : out.shape[2]]
    target.add_(results) if add else target.copy_(results)


def add_product(gradient, image, y, tiles):
    """gradient += image^T (A y)."""
    y = crop_or_pad(y, (0, 0), [n * m for n, m in zip(tiles.count, tiles.tile)])
    values = gather(y, tiles, tiles.tile, (1, 1), "results")  # the memory of `write`, which is done with it
    outputs = transform(transforms(tiles, y).result.t(), values, "products")
    gradient.baddbmm_(image.permute(1, 2, 0), outputs.transpose(0, 1))


def new_gradient(x, y, tiles, geometry):
    """Zeros (points, phases * C, C_out)."""
    return y.new_zeros(prod(tiles.points), prod(geometry.stride) * x.shape[3], y.shape[3])


def as_weight(gradient, tiles, geometry):
    """The adjoint of `transform_weight`: (points, phases * C, C_out) -> (C_out, C, kh, kw)."""
    (sy, sx), (ty, tx) = geometry.stride, tiles.taps
    _, channels, out_channels = gradient.shape
    phases = transforms(tiles, gradient).weight.t().mm(gradient.view(len(gradient), -1))
    phases = phases.view(ty, tx, sy, sx, channels // (sy * sx), out_channels).permute(5, 4, 0, 2, 1, 3)
    return phases.reshape(out_channels, -1, ty * sy, tx * sx)


# ---------------------------------------------------------------------------------------------------- when it pays


@lru_cache(1024)
def cheaper(images, channels, result, geometry, worth):
    """Whether the estimated cost for images of so many channels, `result` = (H', W', C_out), is below `worth` times
    the plain way's."""
    numbers = images, channels, result, geometry
    return cost(*numbers) < worth * plain_cost(*numbers)


@lru_cache(1024)
def cheaper_in_phases(images, channels, result, geometry, worth):
    """The same for the sum over phases, each in the way that is cheaper for it. Not where the stride divides the
    kernel: such phases are better taken together, as channels."""
    (kh, kw), (sy, sx) = geometry.kernel_size, geometry.stride
    if geometry.groups > 1 or geometry.dilation != (1, 1) or (kh % sy == 0 and kw % sx == 0):
        return False
    kernels = [Geometry(((kh + i) // sy, (kw + j) // sx)) for i in range(sy) for j in range(sx)]
    phases = [(images, channels, result, kernel) for kernel in kernels if prod(kernel.kernel_size)]
    taken = [cheaper(*phase, worth) for phase in phases]
    total = sum(cost(*phase) if take else plain_cost(*phase) for phase, take in zip(phases, taken))
    total += MOVE * prod(result) * (len(phases) - 1)  # their results are added up
    return any(taken) and total < worth * plain_cost(images, channels, result, geometry)


def cost(images, channels, result, geometry):
    """The cost of one of so many images: multiplications + MOVE * numbers moved (per tile: the image copied and
    transformed, products, results; one estimate for all maps). Infinite with groups or dilation, a stride that does not
    divide the kernel, a phase of one tap, or of more than 3 along an axis (too many digits lost)."""
    *size, out = result
    divided = all(k % s == 0 for k, s in zip(geometry.kernel_size, geometry.stride))
    taps, tile, points, count = tiling(size, geometry)
    if not divided or geometry.groups > 1 or geometry.dilation != (1, 1) or max(taps) not in (2, 3):
        return float("inf")
    tile, points, count = prod(tile), prod(points), prod(count)
    channels *= prod(geometry.stride)
    copied = points * channels * (STRIDED if prod(geometry.stride) > 1 else 1)
    moved = copied + points * (channels + 2 * out) + tile * out
    transformed = points * (points * channels + tile * out)
    weight = MOVE * points * channels * out / max(1, images)  # transformed once for all images
    return count * (points * channels * out + transformed + MOVE * moved) + weight


def plain_cost(images, channels, result, geometry):
    """That of columns and one product."""
    *size, out = result
    return prod(size) * prod(geometry.kernel_size) * channels * (out + MOVE)


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

    def tensor(rows):  # by hand, as `kronecker`: of torch the framework uses little more than empty, cat and arange
        matrix = empty(len(rows), len(rows[0]), dtype=dtype, device=device)
        for place, row in zip(matrix, rows):
            for number, value in enumerate(row):
                place[number].fill_(float(value))
        return matrix

    def kronecker(a, b):
        return (a[:, None, :, None] * b[None, :, None, :]).view(len(a) * len(b), -1)

    return Transforms(*(kronecker(tensor(a), tensor(b)) for a, b in zip(vertical, horizontal)))


def axis_matrices(tile, taps):
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
