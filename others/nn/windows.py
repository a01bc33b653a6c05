"""What the ways of computing a convolution share: views of an image, blocks of work, and memory to work in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from math import prod
from threading import local
from typing import TYPE_CHECKING

from torch import empty

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

    from .geometry import Geometry

    Block = tuple[Tensor, Sequence[Tensor], Geometry]

BLOCK_BYTES = 2**22  # of columns or planes at a time, or one row of one image: they stay in the cache


def crop_or_pad(x: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """(N, H, W, C) -> (N, *size, C): rows and columns from `start` on, zero where x has none.

    A view of x if it lies inside, else a workspace, valid until the next call.
    """
    (top, left), (height, width) = start, size
    lo_y, lo_x = max(top, 0), max(left, 0)
    hi_y, hi_x = min(top + height, x.shape[1]), min(left + width, x.shape[2])
    inside = x[:, lo_y : max(hi_y, lo_y), lo_x : max(hi_x, lo_x)]
    if inside.shape[1:3] == (height, width):
        return inside
    padded = workspace("padded", (x.shape[0], height, width, x.shape[3]), x)
    first_y, first_x = lo_y - top, lo_x - left
    last_y, last_x = first_y + inside.shape[1], first_x + inside.shape[2]
    padded[:, :first_y].zero_()
    padded[:, last_y:].zero_()
    padded[:, first_y:last_y, :first_x].zero_()
    padded[:, first_y:last_y, last_x:].zero_()
    padded[:, first_y:last_y, first_x:last_x] = inside
    return padded


def blocks(
    whole: Tensor, cut: Sequence[Tensor], geometry: Geometry, row_bytes: int, block_bytes: int, step: int = 1
) -> Iterator[Block]:
    """Split the work into blocks of about `block_bytes`: some images, or some rows (a multiple of `step`) of one.

    row_bytes: what one row of one image of `cut` needs. Yields (the block's images of `whole`, with all their rows; its
    slice of each of `cut` (N, H', W', C); the geometry with its padding moved to the block's first row).
    """
    n, height = cut[0].shape[:2]
    rows = min(height, max(1, block_bytes // (step * max(1, row_bytes))) * step)
    images = max(1, block_bytes // max(1, row_bytes * height))
    images = -(-n // -(-n // images)) if n else 1  # no more than so many blocks need
    if 0 < n <= images and rows == height:
        yield whole, cut, geometry
        return
    (stride, _), (padding, side) = geometry.stride, geometry.padding
    for i in range(0, n, images):
        for row in range(0, height, rows):
            slices = [tensor[i : i + images, row : row + rows] for tensor in cut]
            yield whole[i : i + images], slices, geometry._replace(padding=(padding - row * stride, side))


def keeps_sizes(operand: Tensor) -> bool:
    """Whether torch keeps what it prepared for products of such an operand: 0.3 MiB for each of the last 1,024 sizes,
    strides included, which images of many sizes would fill."""
    return operand.element_size() == 2 and not operand.is_cuda


def row_blocks(matrix: Tensor) -> Iterator[slice]:
    """Slices of a product's rows: all, or powers of two where torch `keeps_sizes`."""
    count, first = len(matrix), 0
    while first < count:
        rows = 1 << ((count - first).bit_length() - 1) if keeps_sizes(matrix) else count
        yield slice(first, first + rows)
        first += rows


class Buffers(local):
    """The workspaces of each thread, by name, dtype and device."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, dtype, device], Tensor] = {}


_buffers = Buffers()


def workspace(name: str, shape: Sequence[int], like: Tensor) -> Tensor:
    """An uninitialised tensor of this shape, of the dtype and device of `like`, that this thread uses again and again.

    Freshly mapped memory costs a page fault for every 4 KiB, more than the copy into it. What is in a workspace is
    valid until the next request of that name, or `free_workspaces`. One made in inference mode, whose tensors cannot
    be written outside, is replaced there.
    """
    key = (name, like.dtype, like.device)
    size, buffer = prod(shape), _buffers.known.get(key)
    if buffer is None or buffer.numel() < size or (buffer.is_inference() and not empty(0).is_inference()):
        keep_freed_memory()
        _buffers.known.pop(key, None)  # before the larger one is made
        buffer = _buffers.known[key] = empty(size, dtype=like.dtype, device=like.device)
    return buffer[:size].view(shape)


@cache
def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next allocation, once in a process, for all of it: layers' outputs
    and gradients come and go with every step, and mapped afresh they cost a page fault for every 4 KiB.

    glibc does so for blocks up to the largest that it has mapped and got back, at most 32 MiB, and keeps up to twice
    as much: one such block is asked for and given back, never touched. (mallopt(3), M_MMAP_THRESHOLD)
    """
    empty((2**25 - 2**16) // empty(0).element_size(), device="cpu")


def free_workspaces() -> None:
    """Give the memory of this thread's workspaces back; they are made again when needed."""
    _buffers.known.clear()
