"""Which way a map goes. All that is weighed stands here; nothing else depends on it but time, and the last bits.

`way` takes the reference where torch computes like it. Otherwise each way is estimated to cost its multiplications,
and MOVE for every number that it writes or copies, and CALL for some of its calls. Where one overtakes another was
measured with the shipped and smaller networks on one and two AVX-512 cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Literal

from . import windows
from .columns import FEW_INPUTS, NARROW
from .geometry import Geometry, covering, image_phases, scatter_size
from .winograd import tiling

if TYPE_CHECKING:
    from torch import Tensor

PLAIN = True  # False: `is_plain` never holds, so that the fast ways can be checked in 64 bits
SMALL = 20_480  # numbers of an image in 32 bits, up to which torch does without oneDNN
ADDITIONS_BELOW = 0.9  # shifted additions are taken where their cost is below this part of the cheaper other way's
SIXTEEN = 2  # times as long as estimated, additions to 16-bit numbers: they are made in 32 bits
TILES_BELOW = 0.9  # and Winograd's tiles where theirs is below this part of the columns'
MOVE = 20  # multiplications in the time that it takes to write or copy a number
STRIDED = 2  # times as long as that, for the copy of all phases of a stride at once, as channels
CALL = 400_000  # multiplications in the time that a call takes, whatever its size
COPY_CALLS = 5  # for columns: borders, the image between them, windows
WIDEN_CALLS = 5  # for a product of a width that is no multiple of NARROW
TILE_CALLS = 12
WASTE = 2.5  # so many times the multiplications, at most, for one narrow product instead of one for each phase


class Way(Enum):
    """How a map is computed; the sweep of `kernels` knows the three of reading an image."""

    REFERENCE = "unfold, fold and a product for each image"
    ADDITIONS = "a product, then a shifted addition for each tap"
    TOGETHER = "scatter: all phases of the result as channels of one correlation"
    APART = "scatter: a correlation for each phase of the result"
    COLUMNS = "reading: windows as rows of a matrix"
    TILES = "reading: Winograd's transformed tiles"
    PHASES = "reading: phase by phase of the image, each by columns or tiles"


Map = Literal["correlate", "scatter", "weight_gradient"]


def way(kernel_map: Map, images: Tensor, large: Sequence[int], small: Sequence[int], geometry: Geometry) -> Way:
    """The way of a map that reads `images`, x or y, where `large` and `small` are the shapes (H, W, C) of x and y."""
    if is_plain(images, large, small, geometry):
        return Way.REFERENCE
    if kernel_map == "scatter":
        if additions_pay(images, large, geometry):
            return Way.ADDITIONS
        return Way.TOGETHER if phases_join(large, geometry) else Way.APART
    # under a stride, most of what the additions are made from would not be used
    if kernel_map == "correlate" and geometry.stride == (1, 1) and additions_pay(images, small, geometry):
        return Way.ADDITIONS
    return way_to_read(images, small, geometry)


def way_to_read(x: Tensor, small: Sequence[int], geometry: Geometry) -> Way:
    """Columns, tiles or phases for the windows of x that a y of the shape `small` (H', W', C_out) belongs to.

    Tiles are never for 16-bit numbers, which have no digits to lose. Phases not for an image smaller than the stride,
    of which no tap may read a pixel.
    """
    if x.element_size() == 2:
        return Way.COLUMNS
    sizes = len(x), x.shape[3], tuple(small)
    if x.shape[1] >= geometry.stride[0] and x.shape[2] >= geometry.stride[1] and phases_pay(*sizes, geometry):
        return Way.PHASES
    return Way.TILES if tiles_pay(*costs(*sizes, geometry)) else Way.COLUMNS


# ------------------------------------------------------------------------------------------- where torch goes plainly


def is_plain(images: Tensor, large: Sequence[int], small: Sequence[int], geometry: Geometry) -> bool:
    """Whether torch does without oneDNN for these images: on a CPU in 64 bits; in 32 bits for one small image, without
    groups and with a side of the kernel up to 3; and for an `output_padding` of a stride or more.

    torch asks for the size of a layer's input, which is either end: what is small at one of them may take this way.
    """
    bits = 8 * images.element_size()
    if not PLAIN or images.device.type != "cpu" or bits < 32:
        return False
    axes = zip(small, geometry.kernel_size, geometry.stride, (2 * p for p in geometry.padding), geometry.dilation)
    behind = [n - scatter_size(*axis) for n, axis in zip(large, axes)]
    one = len(images) == 1 and min(prod(large), prod(small)) <= SMALL
    plain = one and geometry.groups == 1 and min(geometry.kernel_size) <= 3
    return bits == 64 or plain or any(n >= s for n, s in zip(behind, geometry.stride))


# -------------------------------------------------------------------------------------------------------- few channels


def additions_pay(images: Tensor, result: Sequence[int], geometry: Geometry) -> bool:
    """Whether shifted additions from the images to a result (H, W, C) are estimated to be faster."""
    if geometry.groups > 1:
        return False
    return additions_cost(images.shape, tuple(result), geometry, images.element_size()) < ADDITIONS_BELOW


@lru_cache(1024)
def additions_cost(shape: Sequence[int], result: Sequence[int], geometry: Geometry, number_bytes: int) -> float:
    """The cost of shifted additions as a part of the cheaper other way's. They move every tap's result, in one addition
    a tap and block; columns move every tap's operand, and their product is as wide as NARROW at least."""
    images, *_, inputs = shape
    *size, channels = result
    taps = prod(geometry.kernel_size)
    numbers = prod(shape[:3]) * taps * channels
    calls = (3 + taps) * -(-numbers * number_bytes // windows.BLOCK_BYTES)
    copied = images * prod(size) * taps * inputs // prod(geometry.stride)
    columns: float = copied * max(channels, NARROW) + CALL * (1 if channels % NARROW == 0 else WIDEN_CALLS)
    if geometry.kernel_size != (1, 1) or geometry.stride != (1, 1):  # else the image is its own columns
        columns += copied * MOVE * (1 if inputs >= FEW_INPUTS else 2) + CALL * COPY_CALLS
    tiles = images * costs(images, inputs, result, geometry)[0] + CALL * TILE_CALLS
    columns = min(columns, tiles) if number_bytes > 2 else columns
    added = numbers * (inputs + MOVE) + calls * CALL
    return added * (1 if number_bytes > 2 else SIXTEEN) / columns


# ----------------------------------------------------------------------- phases of the result, one by one or together


def phases_join(large: Sequence[int], geometry: Geometry) -> bool:
    """Whether one product for all phases of a scatter is faster than one for each: if every phase uses every tap of
    their common window, or for channels so few that the calls and the narrow products take longer than the zeros."""
    if geometry.stride == (1, 1) or geometry.groups > 1:
        return False
    *size, channels = large
    taps = prod(covering(axis)[0] * len(axis) for axis in image_phases(size, geometry))
    waste = taps / prod(geometry.kernel_size)
    return waste == 1 or (channels < NARROW and waste < WASTE)


# --------------------------------------------------------------------------- columns, tiles, or phases of an image read


def tiles_pay(tiles: float, columns: float) -> bool:
    return tiles < TILES_BELOW * columns


def phases_pay(images: int, channels: int, small: tuple[int, ...], geometry: Geometry) -> bool:
    """Whether phase by phase of the image, each in the way that is cheaper for it, is estimated to be faster, because
    tiles pay for some of the phases."""
    phases = phase_costs(images, channels, small, geometry)
    total = sum(tiles if tiles_pay(tiles, columns) else columns for tiles, columns in phases)
    total += MOVE * prod(small) * (len(phases) - 1)  # their results are added up
    return any(tiles_pay(*each) for each in phases) and tiles_pay(total, costs(images, channels, small, geometry)[1])


@lru_cache(1024)
def phase_costs(
    images: int, channels: int, small: tuple[int, ...], geometry: Geometry
) -> tuple[tuple[float, float], ...]:
    """The `costs` of each phase of an image. None where the stride divides the kernel: such phases are better taken
    together, as channels."""
    (kh, kw), (sy, sx) = geometry.kernel_size, geometry.stride
    if geometry.groups > 1 or geometry.dilation != (1, 1) or (kh % sy == 0 and kw % sx == 0):
        return ()
    kernels = [Geometry(((kh + i) // sy, (kw + j) // sx)) for i in range(sy) for j in range(sx)]
    return tuple(costs(images, channels, small, kernel) for kernel in kernels if prod(kernel.kernel_size))


@lru_cache(1024)
def costs(images: int, channels: int, small: tuple[int, ...], geometry: Geometry) -> tuple[float, float]:
    """(tiles, columns): the cost of one of so many images, one estimate for all maps."""
    *size, out = small
    columns = prod(size) * prod(geometry.kernel_size) * channels * (out + MOVE)
    return tiles_cost(images, channels, size, out, geometry), columns


def tiles_cost(images: int, channels: int, size: Sequence[int], out: int, geometry: Geometry) -> float:
    """Per tile the image copied and transformed, products, results. Infinite with groups or dilation, a stride that
    does not divide the kernel, a phase of one tap, or of more than 3 along an axis (too many digits lost)."""
    cut = tiling(geometry)
    divided = all(k % s == 0 for k, s in zip(geometry.kernel_size, geometry.stride))
    if not divided or geometry.groups > 1 or geometry.dilation != (1, 1) or max(cut.taps) not in (2, 3):
        return float("inf")
    tile, points, count = prod(cut.tile), prod(cut.points), prod(cut.cover(size))
    channels *= prod(geometry.stride)
    copied = points * channels * (STRIDED if prod(geometry.stride) > 1 else 1)
    moved = copied + points * (channels + 2 * out) + tile * out
    transformed = points * (points * channels + tile * out)
    weight = MOVE * points * channels * out / max(1, images)  # transformed once for all images
    return count * (points * channels * out + transformed + MOVE * moved) + weight
