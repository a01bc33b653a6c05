"""Which blocks of an image look alike, and what they have in common.

The mean of K similar blocks has about a Kth of the noise's power, and keeps what repeats: a straight edge, the threads
of cloth. (Buades, Coll & Morel 2005; block matching: Dabov et al. 2007)
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING

from torch import arange, cat

from .convolution import extend, mirrored, nchw, nhwc, reduce_borders
from .kernels import correlate, scatter
from .spectrum import Spectrum

if TYPE_CHECKING:
    from torch import Tensor


class MatchedSpectrum(Spectrum):
    """A `Spectrum`, and after it that of the mean of similar blocks:
    (N, 3, H, W) -> (N, 6 * block^2, H / h + 1, W / h + 1), h = block / 2, or the same without N.

    Similar to a block are those `count` others whose squared difference from it is least, among all that lie up to
    `reach` pixels above, below, left and right of it. The image continues mirrored; where 2 (H - 1) or 2 (W - 1) is at
    most `reach`, a block meets itself again. `backward` takes the choice as given, as that of a maximum. No parameters.
    Raises as `Spectrum`, and ValueError for no reach, or a count that it does not offer.
    """

    def __init__(self, block: int = 8, reach: int = 8, count: int = 16) -> None:
        super().__init__(block)
        whole = isinstance(reach, int) and isinstance(count, int)
        if not whole or reach < 1 or not 1 <= count < (2 * reach + 1) ** 2:
            raise ValueError(f"MatchedSpectrum: expected reach from 1 on and count from 1 to (2 reach + 1)^2 - 1, got "
                             f"{reach} and {count}")  # fmt: skip
        self.reach, self.count = reach, count

    def forward(self, input: Tensor) -> Tensor:
        self.check_image(input)
        x, margin = nhwc(input), self.half + self.reach
        borders = [mirrored(n, margin, margin, x.device) for n in x.shape[1:3]]
        whole = extend(x, borders)
        exact = whole.float() if whole.element_size() == 2 else whole
        places = self.matches(exact)
        self.save(input.shape, borders, places)
        own = correlate(self.inner(whole).contiguous(), self.filters(x), places.shape[1:3], self.geometry(0))
        mean = self.mean(exact, places).flatten(3)
        mean = mean @ self.by_pixel(self.filters(mean))  # in float32: products of 16 bits are to have few sizes
        return nchw(cat((own, mean.to(x.dtype)), 3), like=input)

    def backward(self, grad_output: Tensor) -> Tensor:
        shape, borders, places = self.recall()
        size = shape[-2:]
        self.check_gradient(grad_output, (*shape[:-3], 2 * self.channels, *places.shape[1:3]))
        own, mean = nhwc(grad_output).chunk(2, 3)
        mean = mean.float() if mean.element_size() == 2 else mean
        mean = mean @ self.by_pixel(self.filters(mean)).t()
        whole = self.spread(mean, places, [len(border) for border in borders]).to(own.dtype)
        around = [n + self.block for n in size]
        self.inner(whole).add_(scatter(own.contiguous(), self.filters(own), around, self.geometry(0)))
        return nchw(reduce_borders(whole, borders, size), like=grad_output)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, reach={self.reach}, count={self.count}"

    def inner(self, whole: Tensor) -> Tensor:
        """Without what only other blocks reach: (N, H + block, W + block, 3)."""
        return whole[:, self.reach : -self.reach, self.reach : -self.reach]

    def by_pixel(self, filters: Tensor) -> Tensor:
        """(block * block * 3, 3 * block^2)"""
        return filters.permute(2, 3, 1, 0).flatten(0, 2)

    def matches(self, whole: Tensor) -> Tensor:
        """Where similar blocks begin, of every block: (N, rows, columns, count), numbers of pixels of all images."""
        images, height, width = whole.shape[:3]
        steps = arange(2 * self.reach + 1, device=whole.device)
        offsets = (steps.view(-1, 1) * width + steps).flatten()
        offsets = cat((offsets[: len(offsets) // 2], offsets[len(offsets) // 2 + 1 :]))  # all but the block itself
        nearest = self.distances(whole).topk(self.count, dim=1, largest=False, sorted=False)[1].permute(0, 2, 3, 1)
        rows, columns = (self.half * arange(n, device=whole.device).view(-1, 1) for n in nearest.shape[1:3])
        first = arange(images, device=whole.device).view(-1, 1, 1, 1) * (height * width)
        return offsets[nearest] + first + rows.unsqueeze(1) * width + columns

    def distances(self, whole: Tensor) -> Tensor:
        """Squared differences of every block from the others around it: (N, (2 reach + 1)^2 - 1, rows, columns)."""
        planes = whole.permute(0, 3, 1, 2).contiguous()
        height, width = (n - 2 * self.reach for n in planes.shape[2:])
        own = planes[:, :, self.reach : -self.reach, self.reach : -self.reach]
        found = []
        for down, right in shifts(self.reach):
            other = planes[:, :, down : down + height, right : right + width]
            red, green, blue = (own - other).square_().unbind(1)
            sums = block_sums(block_sums(red + green + blue, self.half, 1), self.half, 2)
            found.append(sums.unsqueeze(1))
        return cat(found, 1)

    def mean(self, whole: Tensor, places: Tensor) -> Tensor:
        """Of the blocks that begin at `places`: (N, rows, columns, block, 3 * block)."""
        if not len(whole):
            return whole.new_zeros(*places.shape[:3], self.block, 3 * self.block)
        lines = whole.flatten().unfold(0, 3 * self.block, 3)  # `block` pixels side by side, from every pixel on
        below = arange(self.block, device=whole.device) * whole.shape[2]
        total = reduce(add, (lines.index_select(0, (p.unsqueeze(3) + below).flatten()) for p in places.unbind(3)))
        return total.view(*places.shape[:3], self.block, 3 * self.block) / self.count

    def spread(self, gradient: Tensor, places: Tensor, size: Sequence[int]) -> Tensor:
        """The adjoint of `mean`: (N, rows, columns, block * block * 3) -> (N, *size, 3)."""
        steps = arange(self.block, device=gradient.device)
        inside = (steps.view(-1, 1) * size[1] + steps).flatten()
        whole = gradient.new_zeros(len(gradient) * size[0] * size[1], 3)
        values = gradient.reshape(-1, 3) / self.count
        for place in places.unbind(3):
            whole.index_add_(0, (place.unsqueeze(3) + inside).flatten(), values)
        return whole.view(len(gradient), *size, 3)


def shifts(reach: int) -> list[tuple[int, int]]:
    """(down, right) from the block that is `reach` above and left, to all others but the middle one, row by row."""
    steps = range(2 * reach + 1)
    return [(down, right) for down in steps for right in steps if (down, right) != (reach, reach)]


def block_sums(values: Tensor, half: int, axis: int) -> Tensor:
    """Sums of 2 * half values along an axis, of every `half`th and those after it, added in the same order everywhere:
    what is seen in another tile of an image has the same matches."""
    halves = reduce(add, values.unflatten(axis, (-1, half)).unbind(axis + 1))
    count = halves.shape[axis] - 1
    return halves.narrow(axis, 0, count) + halves.narrow(axis, 1, count)
