"""Conv2d and TransposeConv2d: two faces of the same three maps.

A transposed convolution is the adjoint of a convolution, so each computes forward what the other computes backward.
Each step is one call of `kernels`; neither creates the other or guesses a size. (After Caffe's conv_layer and
deconv_layer.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import arange, empty

from . import choice, init, reference
from .geometry import Geometry, Pair, correlation_size, pair, scatter_size, span, whole
from .kernels import correlate, correlate_and_gradient, scatter, weight_gradient
from .module import Module

if TYPE_CHECKING:
    from torch import Tensor, device, dtype


class Convolution(Module):
    """What both share: arguments, parameters, checks, layout. Subclasses say which map is forward.

    Computation is NHWC: images with channels-last strides pass from layer to layer without a copy, and the output
    has the memory format of the input, as in torch (an output of a few channels, or of the reference, may be
    planar). The arithmetic runs in the input's dtype; 16-bit floating-point inputs work with 32-bit parameters
    (mixed precision), any other difference is an error.
    """

    enlarges = "more padding or a smaller kernel"  # what makes the output larger
    padding: Pair | str  # a word in Conv2d alone

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Pair, stride: int | Pair,
        padding: int | Pair | str, dilation: int | Pair, groups: int,
    ) -> None:  # fmt: skip
        in_channels, out_channels = whole(in_channels, "in_channels"), whole(out_channels, "out_channels")
        groups = whole(groups, "groups")
        if min(in_channels, out_channels, groups) < 1:
            raise ValueError(f"{type(self).__name__}: expected in_channels, out_channels and groups >= 1, "
                             f"got {in_channels}, {out_channels} and {groups}")  # fmt: skip
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{type(self).__name__}: {name} {channels} must be divisible by groups {groups}")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "kernel_size", minimum=1)
        self.stride = pair(stride, "stride", minimum=1)
        self.padding = padding if isinstance(padding, str) else pair(padding, "padding")
        self.dilation = pair(dilation, "dilation", minimum=1)

    def make_parameters(
        self, channels: Pair, bias: bool, device: device | str | int | None, dtype: dtype | None
    ) -> None:
        """weight (*channels, kh, kw) and bias (out_channels,) with torch's initial distribution."""
        self.register("weight", empty(*channels, *self.kernel_size, device=device, dtype=dtype))
        self.register("bias", empty(self.out_channels, device=device, dtype=dtype) if bias else None)
        init.default_(self.weight, self.bias)

    def geometry(self, padding: Pair) -> Geometry:
        return Geometry(self.kernel_size, self.stride, padding, self.dilation, self.groups)

    def check(self, input: Tensor) -> None:
        """Raise RuntimeError, as torch does, for an input this layer cannot take."""
        if input.dim() not in (3, 4) or input.shape[-3] != self.in_channels or 0 in input.shape[-2:]:
            raise RuntimeError(f"{self.name()}: expected input {self.expected()}, got {tuple(input.shape)}")
        self.check_parameters(input, self.out_channels)

    def expected(self) -> str:
        return f"(N, {self.in_channels}, H, W) or ({self.in_channels}, H, W)"

    def check_size(self, size: Sequence[int], input: Tensor) -> None:
        if min(size) < 1:
            raise RuntimeError(f"{self.name()}: the output for input {tuple(input.shape)} would be {tuple(size)}; "
                               f"use a larger input, {self.enlarges}")  # fmt: skip

    def check_output(self, grad_output: Tensor, input: Tensor, size: Sequence[int]) -> None:
        self.check_gradient(grad_output, (*input.shape[:-3], self.out_channels, *size), input.dtype)

    def operands(self, dtype: dtype) -> tuple[Tensor, Tensor | None]:
        """weight and bias without autograd, in the dtype of the computation."""
        return self.weight.detach().to(dtype), None if self.bias is None else self.bias.detach().to(dtype)

    def add_gradients(
        self, weight_grad: Tensor, grad_output: Tensor, plain: bool = False, by_image: bool = False
    ) -> None:
        """Add to both gradients; grad_output is NHWC. Sums over an image may be rounded to 16 bits, those over images
        not. plain: the bias's as in `reference`; by_image: image by image, as torch under a dilation."""
        self.weight_grad.add_(weight_grad)
        if self.bias is not None and plain:
            self.bias_grad.add_(reference.bias_gradient(grad_output, self.groups, by_image))
        elif self.bias is not None:
            self.bias_grad.add_(grad_output.sum((1, 2)).to(self.bias_grad.dtype).sum(0))

    def extra_repr(self) -> str:
        kernel = "x".join(map(str, self.kernel_size))
        settings = (("stride", (1, 1)), ("padding", (0, 0)), ("output_padding", (0, 0)), ("dilation", (1, 1)),
                    ("groups", 1), ("padding_mode", "zeros"))  # fmt: skip
        changed = [f", {k}={getattr(self, k)}" for k, usual in settings if getattr(self, k, usual) != usual]
        bias = ", bias=False" if self.bias is None else ""
        return f"{self.in_channels} -> {self.out_channels}, {kernel}{''.join(changed)}{bias}"


class Conv2d(Convolution):
    """Convolution (cross-correlation): y[o] = bias + sum over taps i of x[o * stride - padding + i * dilation] w[i].

    Shape: (N, in_channels, H, W) -> (N, out_channels, H', W'), or the same without N;
    H' = floor((H + 2 * padding - dilation * (kernel_size - 1) - 1) / stride) + 1.
    weight (out_channels, in_channels / groups, kh, kw), bias (out_channels,). padding may be 'same' or 'valid',
    padding_mode 'zeros', 'reflect', 'replicate' or 'circular'. Arguments and their order: torch.nn.Conv2d.

    Raises ValueError or RuntimeError, whichever torch does, for impossible arguments, RuntimeError for an input that
    does not fit.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Pair, stride: int | Pair = 1,
        padding: int | Pair | str = 0, dilation: int | Pair = 1, groups: int = 1, bias: bool = True,
        padding_mode: str = "zeros", device: device | str | int | None = None, dtype: dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        if padding_mode not in ("zeros", *BORDERS):
            raise ValueError(f"Conv2d: padding_mode must be one of zeros, {', '.join(BORDERS)}, got {padding_mode!r}")
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(f"Conv2d: padding must be an int, a pair, 'same' or 'valid', got {padding!r}")
        if padding == "same" and self.stride != (1, 1):
            raise ValueError(f"Conv2d: padding='same' needs stride 1, got {self.stride}")
        self.padding_mode = padding_mode
        self.make_parameters((out_channels, in_channels // groups), bias, device, dtype)

    def margins(self) -> tuple[Pair, Pair]:
        """((top, bottom), (left, right)); an odd total of 'same' padding has the larger part behind, as in torch."""
        if not isinstance(self.padding, str):
            top, left = self.padding
            return (top, top), (left, left)
        if self.padding == "valid":
            return (0, 0), (0, 0)
        totals = (span(k, d) - 1 for k, d in zip(self.kernel_size, self.dilation))
        vertical, horizontal = ((total // 2, total - total // 2) for total in totals)
        return vertical, horizontal

    def forward(self, input: Tensor) -> Tensor:
        self.check(input)
        margins = self.margins()
        sizes = zip(input.shape[-2:], self.kernel_size, self.stride, map(sum, margins), self.dilation)
        size = [correlation_size(*axis) for axis in sizes]
        self.check_size(size, input)
        x, borders = nhwc(input), None
        if self.padding_mode != "zeros":
            border = BORDERS[self.padding_mode]
            borders = [border(n, before, after, x.device) for n, (before, after) in zip(x.shape[1:3], margins)]
            x = extend(x, borders)
        geometry = self.geometry((0, 0) if borders else tuple(before for before, _ in margins))
        weight, bias = self.operands(x.dtype)
        self.save(input.detach(), x, borders, size, geometry, self.weight)  # the weight: recall sees it written to
        return nchw(correlate(x, weight, size, geometry, bias), like=input)

    def backward(self, grad_output: Tensor) -> Tensor:
        self.accumulate(grad_output)
        input, x, borders, _, geometry, _ = self.recall()
        weight, _ = self.operands(grad_output.dtype)
        grad_input = scatter(nhwc(grad_output), weight, x.shape[1:3], geometry)
        if borders and self.padding_mode == "circular":
            grad_input = reduce_wrapped(grad_input, self.margins(), input.shape[-2:])
        elif borders:
            grad_input = reduce_borders(grad_input, borders, input.shape[-2:])
        return nchw(grad_input, like=input)

    def accumulate(self, grad_output: Tensor) -> None:
        input, x, _, size, geometry, _ = self.recall()
        self.check_output(grad_output, input, size)
        grad_output = nhwc(grad_output)
        plain = choice.is_plain(x, x.shape[1:], grad_output.shape[1:], geometry)
        self.add_gradients(weight_gradient(x, grad_output, geometry), grad_output, plain, self.dilation != (1, 1))


class TransposeConv2d(Convolution):
    """Transposed convolution: the adjoint of the Conv2d with the same arguments, plus bias.

    Shape: (N, in_channels, H, W) -> (N, out_channels, H', W'), or the same without N;
    H' = (H - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1.
    weight (in_channels, out_channels / groups, kh, kw), bias (out_channels,). Arguments and their order:
    torch.nn.ConvTranspose2d. (Dumoulin & Visin 2016, arXiv:1603.07285, chapter 4)

    Raises ValueError or RuntimeError, whichever torch does, for impossible arguments, RuntimeError for an input that
    does not fit.
    """

    enlarges = "less padding or a larger kernel"
    padding: Pair

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int | Pair, stride: int | Pair = 1,
        padding: int | Pair = 0, output_padding: int | Pair = 0, groups: int = 1, bias: bool = True,
        dilation: int | Pair = 1, padding_mode: str = "zeros", device: device | str | int | None = None,
        dtype: dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups)
        if padding_mode != "zeros":
            raise ValueError(f"TransposeConv2d: only padding_mode 'zeros' exists, got {padding_mode!r}")
        if isinstance(padding, str):
            raise TypeError(f"TransposeConv2d: padding must be an int or a pair, got {padding!r}")
        self.output_padding = pair(output_padding, "output_padding")
        self.make_parameters((in_channels, out_channels // groups), bias, device, dtype)

    def size(self, input: Tensor, output_size: Sequence[int] | None) -> list[int]:
        """(H', W') for an input; output_size chooses among the sizes that this stride maps to the input's."""
        axes = zip(input.shape[-2:], self.kernel_size, self.stride, (2 * p for p in self.padding), self.dilation)
        smallest = [scatter_size(*axis) for axis in axes]
        if output_size is None:
            extra = self.output_padding
            if any(e >= max(s, d) for e, s, d in zip(extra, self.stride, self.dilation)):
                raise RuntimeError(f"{self.name()}: output_padding must be smaller than stride or dilation")
            return [a + b for a, b in zip(smallest, extra)]
        wanted = list(output_size)[-2:]
        largest = [n + s - 1 for n, s in zip(smallest, self.stride)]
        if len(output_size) not in (2, input.dim()) or not all(
            a <= n <= b for a, n, b in zip(smallest, wanted, largest)
        ):
            raise ValueError(f"{self.name()}: output_size must be between {smallest} and {largest}, got {output_size}")
        return wanted

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        self.check(input)
        size, geometry = self.size(input, output_size), self.geometry(self.padding)
        self.check_size(size, input)
        self.save(input.detach(), size, geometry, self.weight)
        weight, bias = self.operands(input.dtype)
        return nchw(scatter(nhwc(input), weight, size, geometry, bias), like=input)

    def backward(self, grad_output: Tensor) -> Tensor:
        input, size, geometry, _ = self.recall()
        self.check_output(grad_output, input, size)
        weight, _ = self.operands(grad_output.dtype)
        x, grad_output = nhwc(input), nhwc(grad_output)
        grad_input, weight_grad = correlate_and_gradient(grad_output, weight, x, geometry)
        plain = choice.is_plain(x, grad_output.shape[1:], x.shape[1:], geometry)
        self.add_gradients(weight_grad, grad_output, plain)
        return nchw(grad_input, like=input)

    def accumulate(self, grad_output: Tensor) -> None:
        input, size, geometry, _ = self.recall()
        self.check_output(grad_output, input, size)
        x, grad_output = nhwc(input), nhwc(grad_output)
        plain = choice.is_plain(x, grad_output.shape[1:], x.shape[1:], geometry)
        self.add_gradients(weight_gradient(grad_output, x, geometry), grad_output, plain)


ConvTranspose2d = TransposeConv2d


# ------------------------------------------------------------------------------------------------------- layout


def nhwc(image: Tensor) -> Tensor:
    """(N, C, H, W) or (C, H, W) -> (N, H, W, C), a view without autograd."""
    image = image.detach()
    return (image if image.dim() == 4 else image.unsqueeze(0)).permute(0, 2, 3, 1)


def nchw(image: Tensor, like: Tensor) -> Tensor:
    """(N, H, W, C) -> the rank and the memory format of `like`: what comes channels last stays so, without a copy."""
    channels_last = nhwc(like).is_contiguous() and not like.is_contiguous()
    image = image.permute(0, 3, 1, 2)
    image = image if like.dim() == 4 else image.squeeze(0)
    return image if channels_last else image.contiguous()


# ------------------------------------------------------------------------------------------------------ borders


def reflect(size: int, before: int, after: int, device: device) -> Tensor:
    """2 1 | 0 1 2 3 | 2 1: indices that mirror an axis without repeating its ends."""
    if max(before, after) >= size:
        raise RuntimeError(f"padding_mode='reflect': padding {max(before, after)} must be smaller than the size {size}")
    return mirrored(size, before, after, device)


def mirrored(size: int, before: int, after: int, device: device) -> Tensor:
    """As `reflect`, but to and fro where there is more padding than axis."""
    period = max(1, 2 * (size - 1))
    place = arange(-before, size + after, device=device).remainder(period)
    return place.minimum(period - place)


def replicate(size: int, before: int, after: int, device: device) -> Tensor:
    """0 0 | 0 1 2 3 | 3 3: indices that repeat the ends of an axis."""
    return arange(-before, size + after, device=device).clamp(0, size - 1)


def circular(size: int, before: int, after: int, device: device) -> Tensor:
    """2 3 | 0 1 2 3 | 0 1: indices that continue an axis on its other side."""
    if max(before, after) > size:
        raise RuntimeError(f"padding_mode='circular': padding {max(before, after)} must not exceed the size {size}")
    return arange(-before, size + after, device=device).remainder(size)


BORDERS = {"reflect": reflect, "replicate": replicate, "circular": circular}


def extend(x: Tensor, borders: Sequence[Tensor]) -> Tensor:
    """(N, H, W, C) -> the rows and columns of x that the two index vectors name."""
    rows, columns = borders
    return x.index_select(1, rows).index_select(2, columns)


def reduce_borders(gradient: Tensor, borders: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """The adjoint of `extend`: every pixel is added to where it was taken from, in torch's order for reflect and
    replicate, row by row."""
    rows, columns = borders
    places = (rows[:, None] * size[1] + columns).flatten()
    summed = gradient.new_zeros(len(gradient), size[0] * size[1], gradient.shape[3])
    return summed.index_add_(1, places, gradient.flatten(1, 2)).view(len(gradient), *size, gradient.shape[3])


def reduce_wrapped(gradient: Tensor, margins: Sequence[Pair], size: Sequence[int]) -> Tensor:
    """`reduce_borders` of circular ones in torch's order: axis by axis, inside, then behind, then before it."""
    for axis, ((before, after), n) in enumerate(zip(margins, size), start=1):
        inside = gradient.narrow(axis, before, n).clone()
        inside.narrow(axis, 0, after).add_(gradient.narrow(axis, before + n, after))
        inside.narrow(axis, n - before, before).add_(gradient.narrow(axis, 0, before))
        gradient = inside
    return gradient
