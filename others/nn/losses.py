"""Losses: forward(input, target) gives the loss, backward() its gradient with respect to the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .module import Module

if TYPE_CHECKING:
    from torch import Tensor

REDUCTIONS = ("mean", "sum", "none")


class Loss(Module):
    """A distance that is a sum over elements: `distance(difference)` and its `slope(difference)`.

    Shape: input and target of one shape -> () for reduction 'mean' and 'sum', the input's shape for 'none'.
    size_average and reduce are torch's old names of the reductions. Raises ValueError for an unknown reduction and
    RuntimeError when the shapes differ, as broadcasting a target is nearly always a mistake, and for an input of
    integers or complex numbers.
    """

    def __init__(self, size_average: bool | None = None, reduce: bool | None = None, reduction: str = "mean") -> None:
        if size_average is not None or reduce is not None:
            reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        if reduction not in REDUCTIONS:
            raise ValueError(f"{type(self).__name__}: expected reduction to be one of {REDUCTIONS}, got {reduction!r}")
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if input.shape != target.shape:
            raise RuntimeError(f"{self.name()}: expected input and target of one shape, got {tuple(input.shape)} "
                               f"and {tuple(target.shape)}")  # fmt: skip
        if not input.is_floating_point() or target.is_complex():
            raise RuntimeError(f"{self.name()}: expected floating-point input and real target, got {input.dtype} and "
                               f"{target.dtype}; convert them with .float()")  # fmt: skip
        difference = input.detach() - target.detach()
        self.save(difference, input.dtype)
        loss = self.distance(difference)
        return {"mean": loss.mean, "sum": loss.sum, "none": lambda: loss}[self.reduction]()

    def backward(self, grad_output: Tensor | float | None = None) -> Tensor:
        """d loss / d input, times grad_output if there is one (a number, or a tensor of the loss's shape)."""
        difference, dtype = self.recall()
        if not isinstance(grad_output, (int, float, type(None))):
            if not hasattr(grad_output, "detach"):
                raise TypeError(f"{self.name()}: expected grad_output to be a number or a tensor, got {grad_output!r}")
            self.check_gradient(grad_output, difference.shape if self.reduction == "none" else ())
            grad_output = grad_output.detach()
        gradient = self.slope(difference).to(dtype)
        if self.reduction == "mean":
            gradient.div_(difference.numel())
        return gradient if grad_output is None else gradient.mul_(grad_output)

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class MSE(Loss):
    """Squared error (input - target)^2; its mean over all elements by default. (torch.nn.MSELoss)"""

    def distance(self, difference: Tensor) -> Tensor:
        return difference * difference

    def slope(self, difference: Tensor) -> Tensor:
        return difference * 2


class L1Loss(Loss):
    """Absolute error |input - target|, slope 0 at 0; its mean over all elements by default. (torch.nn.L1Loss)"""

    def distance(self, difference: Tensor) -> Tensor:
        return difference.abs()

    def slope(self, difference: Tensor) -> Tensor:
        return difference.sign()


MSELoss = MSE
