"""Nearest-neighbour upsampling, alone and folded into the convolution that follows it."""

from math import floor

from torch import arange

from .convolution import Convolution, nchw, nhwc
from .geometry import Geometry, correlation_size, pair, span
from .kernels import correlate_and_gradient, scatter, transpose, weight_gradient
from .module import Module


class NearestUpsampling(Module):
    """Output pixel (h, w) is input pixel (floor(h / scale), floor(w / scale)).

    Shape: (N, C, H, W) -> (N, C, floor(H * scale), floor(W * scale)), or (N, C, *size); also without N. One of
    scale_factor (int, float or pair) and size (int or pair) is given. (torch.nn.Upsample, mode 'nearest')

    Raises ValueError unless exactly one of the two is given, RuntimeError for an output without pixels.
    """

    recompute_scale_factor = None

    def __init__(self, scale_factor=None, size=None, mode="nearest"):
        if mode != "nearest":
            raise NotImplementedError(f"{type(self).__name__}: only mode 'nearest' exists, got {mode!r}")
        if (scale_factor is None) == (size is None):
            raise ValueError(f"{type(self).__name__}: expected either scale_factor or size, got "
                             f"scale_factor={scale_factor!r}, size={size!r}")  # fmt: skip
        self.size = None if size is None else pair(size, "size", minimum=1)
        scales = scale_factor if isinstance(scale_factor, (tuple, list)) else (scale_factor, scale_factor)
        if len(scales) != 2:
            raise ValueError(f"{type(self).__name__}: expected a scale_factor or a pair, got {scale_factor!r}")
        self.scale_factor = None if scale_factor is None else tuple(scales)

    def forward(self, input):
        if input.dim() not in (3, 4):
            raise ValueError(f"{self.name()}: expected input (N, C, H, W) or (C, H, W), got {tuple(input.shape)}")
        input = input.detach()
        scales = self.scale_factor or (None, None)
        sizes = self.size or [floor(n * s) for n, s in zip(input.shape[-2:], scales)]
        if min(*sizes, *input.shape[-2:]) < 1:
            raise RuntimeError(f"{self.name()}: the output for {tuple(input.shape)} would have size {tuple(sizes)}")
        axes = zip(input.shape[-2:], sizes, (None, None) if self.recompute_scale_factor else scales)
        rows, columns = (sources(*axis, input.device) for axis in axes)
        self.save(input.shape, rows, columns)
        return input.index_select(-2, rows).index_select(-1, columns)

    def backward(self, grad_output):
        shape, rows, columns = self.recall()
        grad_output = grad_output.detach()
        narrow = grad_output.new_zeros((*grad_output.shape[:-1], shape[-1])).index_add_(-1, columns, grad_output)
        return grad_output.new_zeros(shape).index_add_(-2, rows, narrow)

    def extra_repr(self):
        return f"scale_factor={self.scale_factor}" if self.size is None else f"size={self.size}"


class Upsample(NearestUpsampling):
    """`NearestUpsampling` under torch's name and with torch's arguments. With recompute_scale_factor the scale is used
    for the size of the output only; what is copied where then follows from the two sizes. (torch.nn.Upsample)"""

    def __init__(self, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
        if mode != "nearest":
            raise NotImplementedError(f"Upsample: only mode 'nearest' exists, got {mode!r}")
        if align_corners is not None or (recompute_scale_factor and size is not None):
            raise ValueError("Upsample: align_corners has no meaning for mode 'nearest', and recompute_scale_factor "
                             "none for a given size")  # fmt: skip
        super().__init__(scale_factor, size)
        self.recompute_scale_factor = recompute_scale_factor


def sources(size, output_size, scale, device):
    """For each output index the input index it copies, rounded as torch does: in 32-bit floats, but for sizes kept or
    doubled, whatever the scale, in integers. (ATen/native/UpSample.h, nearest_idx)"""
    index = arange(output_size, device=device)
    if output_size in (size, 2 * size):
        return index // (output_size // size)
    step = size / output_size if scale is None else 1 / scale
    return (index.float() * step).floor().long().clamp_max_(size - 1)


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

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size=3,
        scale_factor=2,
        padding=None,
        dilation=1,
        groups=1,
        bias=True,
        device=None,
        dtype=None,
    ):
        kernel_size, dilation = pair(kernel_size, "kernel_size", 1), pair(dilation, "dilation", 1)
        if padding is None:
            padding = tuple(span(k, d) // 2 for k, d in zip(kernel_size, dilation))
        padding = pair(padding, "padding")
        super().__init__(in_channels, out_channels, kernel_size, scale_factor, padding, dilation, groups)
        self.make_parameters((out_channels, in_channels // groups), bias, device, dtype)

    def size(self, input):
        enlarged = [n * s for n, s in zip(input.shape[-2:], self.stride)]
        axes = zip(enlarged, self.kernel_size, (1, 1), (2 * p for p in self.padding), self.dilation)
        return [correlation_size(*axis) for axis in axes]

    def folded_geometry(self):
        """The transposed convolution's: its kernel covers the taps from any place in a small pixel."""
        spans = [span(k, d) for k, d in zip(self.kernel_size, self.dilation)]
        kernel = tuple(n + s - 1 for n, s in zip(spans, self.stride))
        padding = tuple(n - 1 - p for n, p in zip(spans, self.padding))
        return Geometry(kernel, self.stride, padding, groups=self.groups)

    def places(self, kernel):
        """The scale_factor^2 places of the dilated weight within the folded kernel, as views."""
        (sy, sx), (dy, dx) = self.stride, self.dilation
        height, width = (span(k, d) for k, d in zip(self.kernel_size, self.dilation))
        return [kernel[:, :, y : y + height : dy, x : x + width : dx] for y in range(sy) for x in range(sx)]

    def fold(self, weight):
        """(out, in / groups, kh, kw) -> the transposed convolution's kernel (in, out / groups, Kh, Kw)."""
        weight = transpose(weight.flip(2, 3), self.groups)
        kernel = weight.new_zeros(*weight.shape[:2], *self.folded_geometry().kernel_size)
        for place in self.places(kernel):
            place.add_(weight)
        return kernel

    def fold_adjoint(self, kernel):
        """The adjoint of `fold`."""
        return transpose(sum(self.places(kernel)), self.groups).flip(2, 3)

    def forward(self, input):
        self.check(input)
        size = self.size(input)
        self.check_size(size, input)
        self.save(input.detach(), size, self.weight)
        weight, bias = self.operands(input.dtype)
        return nchw(scatter(nhwc(input), self.fold(weight), size, self.folded_geometry(), bias), like=input)

    def backward(self, grad_output):
        input, size, _ = self.recall()
        self.check_output(grad_output, input, size)
        kernel = self.fold(self.operands(grad_output.dtype)[0])
        grad_output = nhwc(grad_output)
        both = correlate_and_gradient(grad_output, kernel, nhwc(input), self.folded_geometry())
        self.add_gradients(self.fold_adjoint(both[1]), grad_output)
        return nchw(both[0], like=input)

    def accumulate(self, grad_output):
        input, size, _ = self.recall()
        self.check_output(grad_output, input, size)
        grad_output = nhwc(grad_output)
        kernel_grad = weight_gradient(grad_output, nhwc(input), self.folded_geometry())
        self.add_gradients(self.fold_adjoint(kernel_grad), grad_output)

    def extra_repr(self):
        return super().extra_repr().replace("stride=", "scale_factor=")
