"""Elementwise nonlinearities. Each derivative stands beside its function; all take any shape.

With inplace=True forward writes its result into the input, as in torch; otherwise nothing is ever written into
a tensor that a layer did not allocate. An in-place layer must not follow one that needs its own output to go backward
(Sigmoid, Tanh); after convolutions and Linear it saves memory and time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import empty

from .module import Module

if TYPE_CHECKING:
    from torch import Tensor

INTEGERS = {t.element_size(): t.dtype for t in (empty(0).char(), empty(0).short(), empty(0).int(), empty(0).long())}


def bits(tensor: Tensor) -> Tensor:
    """The tensor's memory as integers: times 0 and 1 they are exact, also for what was infinite or NaN."""
    return tensor.view(INTEGERS[tensor.element_size()])


class Activation(Module):
    """Base class: forward keeps one tensor of the input's shape. Integers and complex numbers have no backward."""

    def keep(self, saved: Tensor, input: Tensor) -> None:
        self.save(saved, input.dtype)

    def recall_for(self, grad_output: Tensor) -> tuple[Tensor, Tensor]:
        """What forward kept, and grad_output without autograd in the input's dtype, as torch converts it. Raises
        RuntimeError where their shapes differ, or for an input without a gradient."""
        saved, dtype = self.recall()
        if not dtype.is_floating_point:
            raise RuntimeError(f"{self.name()}: expected floating-point input to go backward, got {dtype}")
        self.check_gradient(grad_output, saved.shape)
        return saved, grad_output.detach().to(dtype)


class ReLU(Activation):
    """max(x, 0); derivative 1 for x > 0 and for NaN, 0 for x <= 0. Any shape -> same shape. (torch.nn.ReLU)"""

    def __init__(self, inplace: bool = False) -> None:
        self.inplace = inplace

    def forward(self, input: Tensor) -> Tensor:
        input = input.detach()
        output = input.clamp_min_(0) if self.inplace else input.clamp_min(0)
        self.keep(output, input)
        return output

    def backward(self, grad_output: Tensor) -> Tensor:
        output, grad_output = self.recall_for(grad_output)
        active = bits(output).bitwise_left_shift(1).ne_(0)  # without the sign, as -0 is 0; where() is 6 times as slow
        return active.mul_(bits(grad_output)).view(output.dtype)


class LeakyReLU(Activation):
    """x for x > 0, else negative_slope * x; the derivative at 0 is negative_slope. (Maas et al. 2013; torch)"""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input: Tensor) -> Tensor:
        input = input.detach()
        self.keep(input > 0, input)
        negative = input.clamp_max(0).mul_(self.negative_slope)
        return input.clamp_min_(0).add_(negative) if self.inplace else input.clamp_min(0).add_(negative)

    def backward(self, grad_output: Tensor) -> Tensor:
        positive, grad_output = self.recall_for(grad_output)
        return grad_output.where(positive, grad_output * self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Activation):
    """x for x > 0, else alpha * (exp(x) - 1). (Clevert et al. 2016, arXiv:1511.07289; torch.nn.ELU)"""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input: Tensor) -> Tensor:
        input = input.detach()
        slope = input.clamp_max(0).exp_().mul_(self.alpha).masked_fill_(input > 0, 1)
        self.keep(slope, input)
        negative = input.clamp_max(0).expm1_().mul_(self.alpha)
        return input.clamp_min_(0).add_(negative) if self.inplace else input.clamp_min(0).add_(negative)

    def backward(self, grad_output: Tensor) -> Tensor:
        slope, grad_output = self.recall_for(grad_output)
        return grad_output * slope

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class Sigmoid(Activation):
    """1 / (1 + exp(-x)); derivative y (1 - y), which is 0 far out and never NaN. Any shape -> same shape."""

    def forward(self, input: Tensor) -> Tensor:
        output = input.detach().sigmoid()
        self.keep(output, input)
        return output

    def backward(self, grad_output: Tensor) -> Tensor:
        output, grad_output = self.recall_for(grad_output)
        return (1 - output).mul_(output).mul_(grad_output)


class Tanh(Activation):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)); derivative 1 - y^2. Any shape -> same shape."""

    def forward(self, input: Tensor) -> Tensor:
        output = input.detach().tanh()
        self.keep(output, input)
        return output

    def backward(self, grad_output: Tensor) -> Tensor:
        output, grad_output = self.recall_for(grad_output)
        return (1 - output * output).mul_(grad_output)
