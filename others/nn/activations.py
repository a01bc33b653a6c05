"""Elementwise nonlinearities. Each derivative stands beside its function; all take any shape.

With inplace=True forward writes its result into the input, as in torch; otherwise nothing is ever written into
a tensor that a layer did not allocate. An in-place layer must not follow one that needs its own output to go backward
(Sigmoid, Tanh); after convolutions and Linear it saves memory and time.
"""

from .module import Module


class ReLU(Module):
    """max(x, 0); derivative 1 for x > 0 and 0 for x <= 0. Any shape -> same shape. (torch.nn.ReLU)"""

    def __init__(self, inplace=False):
        self.inplace = inplace

    def forward(self, input):
        input = input.detach()
        output = input.clamp_min_(0) if self.inplace else input.clamp_min(0)
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.recall()
        return output.sign().mul_(grad_output.detach())  # the sign of an output >= 0 is the derivative


class LeakyReLU(Module):
    """x for x > 0, else negative_slope * x; the derivative at 0 is negative_slope. (Maas et al. 2013; torch)"""

    def __init__(self, negative_slope=0.01, inplace=False):
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input):
        input = input.detach()
        self.save(input > 0)
        negative = input.clamp_max(0).mul_(self.negative_slope)
        return input.clamp_min_(0).add_(negative) if self.inplace else input.clamp_min(0).add_(negative)

    def backward(self, grad_output):
        (positive,) = self.recall()
        grad_output = grad_output.detach()
        return (grad_output * self.negative_slope).where(~positive, grad_output)

    def extra_repr(self):
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """x for x > 0, else alpha * (exp(x) - 1). (Clevert et al. 2016, arXiv:1511.07289; torch.nn.ELU)"""

    def __init__(self, alpha=1.0, inplace=False):
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input):
        input = input.detach()
        slope = input.clamp_max(0).exp_().mul_(self.alpha).masked_fill_(input > 0, 1)
        self.save(slope)
        negative = input.clamp_max(0).expm1_().mul_(self.alpha)
        return input.clamp_min_(0).add_(negative) if self.inplace else input.clamp_min(0).add_(negative)

    def backward(self, grad_output):
        (slope,) = self.recall()
        return grad_output.detach() * slope

    def extra_repr(self):
        return f"alpha={self.alpha}"


class Sigmoid(Module):
    """1 / (1 + exp(-x)); derivative y (1 - y), which is 0 far out and never NaN. Any shape -> same shape."""

    def forward(self, input):
        output = input.detach().sigmoid()
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.recall()
        return (1 - output).mul_(output).mul_(grad_output.detach())


class Tanh(Module):
    """(exp(x) - exp(-x)) / (exp(x) + exp(-x)); derivative 1 - y^2. Any shape -> same shape."""

    def forward(self, input):
        output = input.detach().tanh()
        self.save(output)
        return output

    def backward(self, grad_output):
        (output,) = self.recall()
        return (1 - output * output).mul_(grad_output.detach())
