"""Maximum pooling."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING, Any

from torch import arange

from .convolution import nchw, nhwc
from .geometry import Pair, overlap, pair, pooled_size
from .module import Module

if TYPE_CHECKING:
    from torch import Tensor


class MaxPool2d(Module):
    """Largest value in each window: y[o] = max over taps i of x[o * stride - padding + i * dilation].

    Shape: (N, C, H, W) -> (N, C, H', W'), or the same without N; H' = floor((H + 2 * padding - dilation *
    (kernel_size - 1) - 1) / stride) + 1. With ceil_mode the division rounds up, but a window must start inside the
    image or the padding before it. The stride is the kernel size unless given. Padding counts as minus infinity. Of
    equal values the first one (row by row) wins and gets the gradient; NaN wins over everything, as in torch.

    With return_indices forward returns (output, indices), the winners' places h * W + w in the unpadded image;
    backward is the same, but containers and Tape, which pass one tensor on, cannot hold such a layer.

    Raises RuntimeError, as torch does, for a padding above kernel_size / 2 and other impossible numbers (already
    when made), and for an input that does not fit. (torch.nn.MaxPool2d)
    """

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        dilation: int | Pair = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self.kernel_size = pair(kernel_size, "kernel_size", minimum=1)
        self.stride = self.kernel_size if stride in (None, ()) else pair(stride, "stride", minimum=1)
        self.padding = pair(padding, "padding")
        self.dilation = pair(dilation, "dilation", minimum=1)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size)):
            raise RuntimeError(f"MaxPool2d: padding must be at most half of kernel_size {self.kernel_size}, "
                               f"got {self.padding}")  # fmt: skip
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def size(self, input: Tensor) -> list[int]:
        """(H', W'); raises RuntimeError for an input without pixels or too few of them."""
        if input.dim() not in (3, 4) or 0 in input.shape[-3:]:
            raise RuntimeError(f"{self.name()}: expected input (N, C, H, W) or (C, H, W), C, H, W > 0, "
                               f"got {tuple(input.shape)}")  # fmt: skip
        axes = zip(input.shape[-2:], self.kernel_size, self.stride, (2 * p for p in self.padding), self.dilation)
        size = [pooled_size(*axis, self.ceil_mode) for axis in axes]
        if min(size) < 1:
            raise RuntimeError(f"{self.name()}: the output for input {tuple(input.shape)} would be {tuple(size)}; "
                               "use a larger input or a smaller kernel")  # fmt: skip
        return size

    def taps(self, x: Tensor, y: Tensor) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
        """For each tap, row by row: (its number, where in y (N, H', W', C) it arrives, where in x it reads)."""
        axes = zip(self.kernel_size, zip(y.shape[1:3], x.shape[1:3], self.stride, self.padding, self.dilation))
        vertical, horizontal = ([overlap(i, *axis, adjoint=False) for i in range(k)] for k, axis in axes)
        for i, (to_y, from_y) in enumerate(vertical):
            for j, (to_x, from_x) in enumerate(horizontal):
                yield i * len(horizontal) + j, (slice(None), to_y, to_x), (slice(None), from_y, from_x)

    def forward(self, input: Tensor) -> Any:
        size = self.size(input)
        x = nhwc(input)
        y = x.new_full((len(x), *size, x.shape[3]), -inf if x.is_floating_point() else 0)
        winner = y.new_zeros(y.shape).int().sub_(1)  # the tap each maximum came from, -1 for none
        for tap, to, source in self.taps(x, y):
            value, largest, first = x[source], y[to], winner[to]
            wins = (value > largest).logical_or_(value != value).logical_or_(first < 0)
            largest.copy_(value.where(wins, largest))
            first.masked_fill_(wins, tap)
        self.save(input.detach(), winner)
        output = nchw(y, like=input)
        return (output, nchw(self.indices(winner, x), like=input)) if self.return_indices else output

    def indices(self, winner: Tensor, x: Tensor) -> Tensor:
        """(N, H', W', C) numbers of taps -> places h * W + w in x (N, H, W, C)."""
        tap_y, tap_x = winner // self.kernel_size[1], winner % self.kernel_size[1]
        rows, columns = (
            arange(n, device=x.device) * s - p for n, s, p in zip(winner.shape[1:3], self.stride, self.padding)
        )
        h = rows.view(-1, 1, 1) + tap_y * self.dilation[0]
        return h * x.shape[2] + columns.view(-1, 1) + tap_x * self.dilation[1]

    def backward(self, grad_output: Tensor) -> Tensor:
        input, winner = self.recall()
        self.check_gradient(grad_output, (*input.shape[:-2], *winner.shape[1:3]))
        gradient, x = nhwc(grad_output).to(input.dtype), nhwc(input)
        grad_input = gradient.new_zeros(x.shape)
        for tap, to, source in self.taps(x, winner):
            grad_input[source].add_(gradient[to].masked_fill(winner[to] != tap, 0))
        return nchw(grad_input, like=input)

    def extra_repr(self) -> str:
        settings = (("stride", self.kernel_size), ("padding", (0, 0)), ("dilation", (1, 1)), ("ceil_mode", False))
        changed = [f", {k}={getattr(self, k)}" for k, usual in settings if getattr(self, k) != usual]
        return "x".join(map(str, self.kernel_size)) + "".join(changed)
