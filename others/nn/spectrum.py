"""What an image is made of, block by block, as frequencies; and what of that is noise.

Blocks overlap by half, and a window fades each of them out towards its border. The squares of the windows add up to 1
wherever blocks overlap, so the way back is the adjoint of the way there. (Cosines: Ahmed, Natarajan & Rao 1974;
overlapping blocks and window: Hasinoff et al. 2016, section 5)
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

from torch import arange, cat

from .containers import begin
from .convolution import extend, mirrored, nchw, nhwc, reduce_borders
from .geometry import Geometry
from .kernels import correlate, scatter
from .module import Module, restored, states

if TYPE_CHECKING:
    from torch import Tensor

UNIT = 255  # of log(1 + UNIT |x|), nearly linear below 1 / UNIT
CENTRE = 2  # of such logarithms
GUESS = 0.1  # of the noise's part that the body guesses


class Blocks(Module):
    """What both ways share: a convolution with fixed filters, and its adjoint. block: side of the blocks, even."""

    def __init__(self, block: int = 8) -> None:
        if not isinstance(block, int) or block < 2 or block % 2:
            raise ValueError(f"{type(self).__name__}: expected block to be an even int from 2 on, got {block!r}")
        self.block, self.half, self.channels = block, block // 2, 3 * block**2

    def geometry(self, padding: int) -> Geometry:
        return Geometry((self.block, self.block), (self.half, self.half), (padding, padding), (1, 1), 1)

    def filters(self, like: Tensor) -> Tensor:
        """(3 * block^2, 3, block, block): a colour (the sum of red, green and blue, and two differences), a vertical
        and a horizontal pattern, multiplied."""
        size = self.block
        window = ((arange(size, device="cpu").double() + 0.5) * pi / size).sin()
        colours, patterns = cosines(3), cosines(size) * window
        vertical, horizontal = patterns.view(1, size, 1, 1, size, 1), patterns.view(1, 1, size, 1, 1, size)
        return (colours.view(3, 1, 1, 3, 1, 1) * vertical * horizontal).reshape(-1, 3, size, size).to(like)

    def check(self, input: Tensor, channels: int, least: int, step: int, sizes: str) -> None:
        """Raise RuntimeError for an input that this cannot take."""
        fits = input.dim() in (3, 4) and input.shape[-3] == channels and input.is_floating_point()
        if not fits or any(n < least or n % step for n in input.shape[-2:]):
            shapes = f"(N, {channels}, H, W) or ({channels}, H, W)"
            raise RuntimeError(f"{self.name()}: expected floating-point input {shapes}, {sizes}, got "
                               f"{tuple(input.shape)} of {input.dtype}")  # fmt: skip

    def extra_repr(self) -> str:
        return f"block={self.block}"


class Spectrum(Blocks):
    """The frequencies of overlapping blocks: (N, 3, H, W) -> (N, 3 * block^2, H / h + 1, W / h + 1), h = block / 2, or
    the same without N.

    H and W are multiples of h. The image continues mirrored beyond its border. White noise of standard deviation s
    gives coefficients of s / 2, in the mean square; the window makes it s / 4 to 3 s / 4 for blocks of 8. No
    parameters. Raises RuntimeError for an input that does not fit.
    """

    def forward(self, input: Tensor) -> Tensor:
        self.check_image(input)
        x = nhwc(input)
        borders = [mirrored(n, self.half, self.half, x.device) for n in x.shape[1:3]]
        self.save(input.shape, borders)
        size = [n // self.half + 1 for n in x.shape[1:3]]
        return nchw(correlate(extend(x, borders), self.filters(x), size, self.geometry(0)), like=input)

    def check_image(self, input: Tensor) -> None:
        self.check(input, 3, 1, self.half, f"H and W multiples of {self.half}")

    def backward(self, grad_output: Tensor) -> Tensor:
        shape, borders = self.recall()
        size = shape[-2:]
        self.check_gradient(grad_output, (*shape[:-3], self.channels, *(n // self.half + 1 for n in size)))
        gradient = nhwc(grad_output)
        whole = scatter(gradient, self.filters(gradient), [n + self.block for n in size], self.geometry(0))
        return nchw(reduce_borders(whole, borders, size), like=grad_output)


class InverseSpectrum(Blocks):
    """The image of a `Spectrum`, and its adjoint but for the border:
    (N, 3 * block^2, H, W) -> (N, 3, (H - 1) h, (W - 1) h), h = block / 2, or the same without N.

    H and W are 2 or more. No parameters. Raises RuntimeError for an input that does not fit.
    """

    def forward(self, input: Tensor) -> Tensor:
        self.check(input, self.channels, 2, 1, "H and W from 2")
        self.save(input.shape)
        x = nhwc(input)
        size = [(n - 1) * self.half for n in x.shape[1:3]]
        return nchw(scatter(x, self.filters(x), size, self.geometry(self.half)), like=input)

    def backward(self, grad_output: Tensor) -> Tensor:
        (shape,) = self.recall()
        self.check_gradient(grad_output, (*shape[:-3], 3, *((n - 1) * self.half for n in shape[-2:])))
        gradient = nhwc(grad_output)
        whole = correlate(gradient, self.filters(gradient), shape[-2:], self.geometry(self.half))
        return nchw(whole, like=grad_output)


class Correction(Module):
    """Minus the noise of a spectrum x, -(sigmoid(a) (x - sigmoid(c) m) + b / 10), m being the mean of similar blocks.
    Shape: x and m (N, 2 C, H, W) -> (N, C, H, W), or without N.

    sigmoid(c), k, is how much of m is believed. sigmoid(a) is how much of x - k m is noise, 0 to 1: one minus Wiener's
    gain. b / 10 is a part of the noise that no share of x and m gives. `body` estimates a, b and c, (N, 3 C, H, W),
    from l(x) - 2, the sign of x times l(x), the same of m, and l(x - m) - 2, (N, 5 C, H, W), where
    l(x) = log(1 + 255 |x|), for images in 0-1. Raises RuntimeError for an input that is no such tensor of
    floating-point numbers, or if the body's output has another shape.
    """

    def __init__(self, body: Module) -> None:
        self.body = body

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() not in (3, 4) or input.shape[-3] % 2 or not input.is_floating_point():
            raise RuntimeError(f"Correction: expected floating-point input (N, 2 C, H, W) or (2 C, H, W), got "
                               f"{tuple(input.shape)} of {input.dtype}")  # fmt: skip
        begin(self)
        x, mean = input.detach().chunk(2, -3)
        difference = logarithm(x - mean) - CENTRE
        features = cat((*described(x), *described(mean), difference), -3)
        expected = (*input.shape[:-3], 3 * x.shape[-3], *input.shape[-2:])
        estimated = self.body.forward(features)
        if estimated.shape != expected:
            raise RuntimeError(f"Correction: expected the body to make {tuple(expected)} of {tuple(features.shape)}, "
                               f"got {tuple(estimated.shape)}")  # fmt: skip
        noise, guess, share = estimated.chunk(3, -3)
        noise, share = noise.sigmoid(), share.sigmoid()
        self.save(x, mean, noise, share, states(self.body))
        return guess.mul(-GUESS).sub_(noise * (x - share * mean))

    def backward(self, grad_output: Tensor) -> Tensor:
        x, mean, noise, share, below = self.recall()
        grad_output = grad_output.detach()
        with restored(below):
            found = self.body.backward(self.gradients(grad_output)).chunk(5, -3)
        apart = found[4] * (x - mean).sign() * slope(x - mean)
        direct = noise * grad_output
        of_x = (found[0] * x.sign() + found[1]).mul_(slope(x)).add_(apart).sub_(direct)
        of_mean = (found[2] * mean.sign() + found[3]).mul_(slope(mean)).sub_(apart).add_(direct.mul_(share))
        return cat((of_x, of_mean), -3)

    def accumulate(self, grad_output: Tensor) -> None:
        below = self.recall()[-1]
        with restored(below):
            self.body.accumulate(self.gradients(grad_output.detach()))

    def gradients(self, grad_output: Tensor) -> Tensor:
        """Those of a, b and c."""
        x, mean, noise, share, _ = self.recall()
        self.check_gradient(grad_output, x.shape)
        of_noise = (noise - 1).mul_(noise).mul_(x - share * mean).mul_(grad_output)
        of_share = (1 - share).mul_(share).mul_(noise).mul_(mean).mul_(grad_output)
        return cat((of_noise, grad_output * -GUESS, of_share), -3)


def described(x: Tensor) -> tuple[Tensor, Tensor]:
    """What the body sees of a spectrum: l(x) - 2, and l(x) with the sign of x."""
    size = logarithm(x)
    return size - CENTRE, size.copysign(x)


def logarithm(x: Tensor) -> Tensor:
    """l(x) = log(1 + 255 |x|)"""
    return x.abs().mul_(UNIT).log1p_()


def slope(x: Tensor) -> Tensor:
    """Of l, where x is positive."""
    return (x.abs() * UNIT + 1).reciprocal_().mul_(UNIT)


def cosines(size: int) -> Tensor:
    """The orthonormal matrix (size, size) of the cosine transform, frequencies in rows, in float64."""
    steps = arange(size, device="cpu").double()
    waves = ((steps + 0.5) * steps.view(-1, 1) * pi / size).cos() * (2 / size) ** 0.5
    waves[0] /= 2**0.5
    return waves
