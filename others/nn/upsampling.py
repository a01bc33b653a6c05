"""Nearest-neighbour upsampling, alone and folded into the convolution that follows it."""

from __future__ import annotations

from math import floor, inf
from numbers import Real
from typing import TYPE_CHECKING

from torch import arange

from .convolution import Convolution, nchw, nhwc
from .geometry import Geometry, Pair, correlation_size, pair, span
from .kernels import correlate_and_gradient, scatter, swap_channels, weight_gradient
from .module import Module

if TYPE_CHECKING:
    from torch import Tensor, device, dtype

Scale = float | tuple[float, float]


class NearestUpsampling(Module):
    """Output pixel (h, w) is input pixel (floor(h / scale), floor(w / scale)).

    Shape: (N, C, H, W) -> (N, C, floor(H * scale), floor(W * scale)), or (N, C, *size); also without N. One of
    scale_factor (int, float or pair) and size (int or pair) is given; a factor for both sides may come without its
    name. (torch.nn.Upsample, mode 'nearest')

    torch copies other pixels in small images than in large ones where a fractional factor keeps or doubles a size
    (2.3 makes 6 of 3), and for some sizes in float64; here the quotient decides in both (`sources`).

    Raises ValueError unless exactly one of the two is given, TypeError for what goes without a name and is no single
    number (torch's first argument is the size), RuntimeError for a factor that is not positive and finite and for an
    output without pixels.
    """

    recompute_scale_factor: bool | None = None

    def __init__(
        self, *factor: float, scale_factor: Scale | None = None, size: int | Pair | None = None, mode: str = "nearest"
    ) -> None:
        who = type(self).__name__
        if factor and (len(factor) > 1 or scale_factor is not None or isinstance(factor[0], (tuple, list))):
            given = ", ".join(map(repr, factor))
            raise TypeError(f"{who}({given}): expected at most one number, the factor, without a name; torch's first "
                            "argument is the size; write scale_factor=... or size=...")  # fmt: skip
        scale_factor = factor[0] if factor else scale_factor
        if mode != "nearest":
            raise NotImplementedError(f"{who}: only mode 'nearest' exists, got {mode!r}")
        if (scale_factor is None) == (size is None):
            raise ValueError(f"{who}: expected either scale_factor or size, got scale_factor={scale_factor!r}, "
                             f"size={size!r}")  # fmt: skip
        self.size = None if size is None else pair(size, "size", minimum=1)
        self.scale_factor = None if scale_factor is None else self.scales(scale_factor)

    def scales(self, scale_factor: Scale) -> tuple[float, float]:
        """Number or pair -> (vertical, horizontal)."""
        scales = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
        who = type(self).__name__
        if len(scales) != 2:
            raise ValueError(f"{who}: expected a scale_factor or a pair, got {scale_factor!r}")
        if not all(isinstance(scale, Real) and not isinstance(scale, bool) for scale in scales):
            raise TypeError(f"{who}: expected scale_factor to be a number or a pair of numbers, got {scale_factor!r}")
        if not all(0 < scale < inf for scale in scales):
            raise RuntimeError(f"{who}: expected a scale_factor that is positive and finite, got {scale_factor!r}")
        return scales

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() not in (3, 4):
            raise ValueError(f"{self.name()}: expected input (N, C, H, W) or (C, H, W), got {tuple(input.shape)}")
        input = input.detach()
        sizes = self.size or [floor(n * s) for n, s in zip(input.shape[-2:], self.scale_factor or ())]
        if min(*sizes, *input.shape[-2:]) < 1:
            raise RuntimeError(f"{self.name()}: the output for {tuple(input.shape)} would have size {tuple(sizes)}")
        scales = None if self.recompute_scale_factor else self.scale_factor
        axes = zip(input.shape[-2:], sizes, scales or (None, None))
        double = input.is_floating_point() and input.element_size() == 8
        rows, columns = (sources(*axis, double).to(input.device) for axis in axes)
        self.save(input.shape, input.dtype, rows, columns)
        return input.index_select(-2, rows).index_select(-1, columns)

    def backward(self, grad_output: Tensor) -> Tensor:
        shape, dtype, rows, columns = self.recall()
        self.check_gradient(grad_output, (*shape[:-2], len(rows), len(columns)))
        grad_output = grad_output.detach().to(dtype)
        narrow = grad_output.new_zeros((*grad_output.shape[:-1], shape[-1])).index_add_(-1, columns, grad_output)
        return grad_output.new_zeros(shape).index_add_(-2, rows, narrow)

    def extra_repr(self) -> str:
        return f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"


class Upsample(NearestUpsampling):
    """`NearestUpsampling` under torch's name and with torch's arguments. With recompute_scale_factor the scale is used
    for the size of the output only; what is copied where then follows from the two sizes. (torch.nn.Upsample)"""

    def __init__(
        self, size: int | Pair | None = None, scale_factor: Scale | None = None, mode: str = "nearest",
        align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
    ) -> None:  # fmt: skip
        if mode != "nearest":
            raise NotImplementedError(f"Upsample: only mode 'nearest' exists, got {mode!r}")
        if align_corners is not None or (recompute_scale_factor and size is not None):
            raise ValueError("Upsample: align_corners has no meaning for mode 'nearest', and recompute_scale_factor "
                             "none for a given size")  # fmt: skip
        super().__init__(scale_factor=scale_factor, size=size)
        self.recompute_scale_factor = recompute_scale_factor


def sources(size: int, output_size: int, scale: float | None, double: bool) -> Tensor:
    """For each output index the input index it copies, floor(index / scale), the same for small and large images.

    torch has two kernels: one for outputs whose height and width add up to at most 128 and, channels last, for images
    of more than 3 channels; another for the rest. One multiplies in 32-bit floats, but takes sizes that are kept or
    doubled for scales of 1 or 2; the other multiplies in 64 bits for 64-bit images and rounds the product to 32. Where
    they agree this is their result, rounding included; where they do not, the exact quotient, or what is nearest to it
    between them. (ATen/native/UpSample.h, nearest_idx; cpu/UpSampleKernel.cpp, HelperInterpNearest)
    """
    index = arange(output_size, device="cpu")
    step = size / output_size if scale is None else 1 / scale
    single = (index.float() * step).floor().long()
    first = index // (output_size // size) if output_size in (size, 2 * size) else single
    second = (index.double() * step).float().floor().long() if double else single
    exact = index * size // output_size if scale is None else quotient(index, scale)
    return exact.clamp(first.minimum(second), first.maximum(second)).clamp_max_(size - 1)


def quotient(index: Tensor, scale: float) -> Tensor:
    """floor(index / scale) without rounding: remainders of floats are exact, so what is divided is a multiple."""
    index = index.double()
    return ((index - index.fmod(scale)) / scale).round().long()


class UpsamplingConv2d(Convolution):
    """Nearest upsampling by scale_factor, then Conv2d(in_channels, out_channels, kernel_size, 1, padding, dilation).

    Shape: (N, in_channels, H, W) -> (N, out_channels, H', W') with H' the Conv2d's output length for
    H * scale_factor; the default padding keeps that length for odd kernels. weight (out_channels,
    in_channels / groups, kh, kw) and bias (out_channels,) are the convolution's.

    Computed without the enlarged image: output o reads small pixel (o + i * dilation - padding) // scale through
    tap i, so all taps that fall into one small pixel can be summed beforehand. What remains is a transposed
    convolution of stride scale_factor whose kernel is the flipped weight, added up at scale_factor offsets. For
    scale 2 and a 3x3 kernel that is 4 taps an output pixel instead of 9; a dilated kernel becomes a dense one, and
    saves nothing.
    """

    padding: Pair

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Pair = 3, scale_factor: int | Pair = 2,
        padding: int | Pair | None = None, dilation: int | Pair = 1, groups: int = 1, bias: bool = True,
        device: device | str | int | None = None, dtype: dtype | None = None,
    ) -> None:  # fmt: skip
        kernel_size, dilation = pair(kernel_size, "kernel_size", 1), pair(dilation, "dilation", 1)
        if padding is None:
            padding = tuple(span(k, d) // 2 for k, d in zip(kernel_size, dilation))
        padding = pair(padding, "padding")
        super().__init__(in_channels, out_channels, kernel_size, scale_factor, padding, dilation, groups)
        self.make_parameters((out_channels, in_channels // groups), bias, device, dtype)

    def size(self, input: Tensor) -> list[int]:
        enlarged = [n * s for n, s in zip(input.shape[-2:], self.stride)]
        axes = zip(enlarged, self.kernel_size, (1, 1), (2 * p for p in self.padding), self.dilation)
        return [correlation_size(*axis) for axis in axes]

    def folded_geometry(self) -> Geometry:
        """The transposed convolution's: its kernel covers the taps from any place in a small pixel."""
        spans = [span(k, d) for k, d in zip(self.kernel_size, self.dilation)]
        kernel = tuple(n + s - 1 for n, s in zip(spans, self.stride))
        padding = tuple(n - 1 - p for n, p in zip(spans, self.padding))
        return Geometry(kernel, self.stride, padding, groups=self.groups)

    def places(self, kernel: Tensor) -> list[Tensor]:
        """The scale_factor^2 places of the dilated weight within the folded kernel, as views."""
        (sy, sx), (dy, dx) = self.stride, self.dilation
        height, width = (span(k, d) for k, d in zip(self.kernel_size, self.dilation))
        return [kernel[:, :, y : y + height : dy, x : x + width : dx] for y in range(sy) for x in range(sx)]

    def fold(self, weight: Tensor) -> Tensor:
        """(out, in / groups, kh, kw) -> the transposed convolution's kernel (in, out / groups, Kh, Kw)."""
        weight = swap_channels(weight.flip(2, 3), self.groups)
        kernel = weight.new_zeros(*weight.shape[:2], *self.folded_geometry().kernel_size)
        for place in self.places(kernel):
            place.add_(weight)
        return kernel

    def fold_adjoint(self, kernel: Tensor) -> Tensor:
        """The adjoint of `fold`."""
        return swap_channels(sum(self.places(kernel), kernel.new_zeros(())), self.groups).flip(2, 3)

    def forward(self, input: Tensor) -> Tensor:
        self.check(input)
        size = self.size(input)
        self.check_size(size, input)
        self.save(input.detach(), size, self.weight)
        weight, bias = self.operands(input.dtype)
        return nchw(scatter(nhwc(input), self.fold(weight), size, self.folded_geometry(), bias), like=input)

    def backward(self, grad_output: Tensor) -> Tensor:
        input, size, _ = self.recall()
        self.check_output(grad_output, input, size)
        kernel = self.fold(self.operands(grad_output.dtype)[0])
        grad_output = nhwc(grad_output)
        grad_input, kernel_grad = correlate_and_gradient(grad_output, kernel, nhwc(input), self.folded_geometry())
        self.add_gradients(self.fold_adjoint(kernel_grad), grad_output)
        return nchw(grad_input, like=input)

    def accumulate(self, grad_output: Tensor) -> None:
        input, size, _ = self.recall()
        self.check_output(grad_output, input, size)
        grad_output = nhwc(grad_output)
        kernel_grad = weight_gradient(grad_output, nhwc(input), self.folded_geometry())
        self.add_gradients(self.fold_adjoint(kernel_grad), grad_output)

    def extra_repr(self) -> str:
        return super().extra_repr().replace("stride=", "scale_factor=")
