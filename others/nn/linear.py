"""Linear: an affine map of the last dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import empty

from . import init
from .module import Module

if TYPE_CHECKING:
    from torch import Tensor, device, dtype


class Linear(Module):
    """Affine map y = x weight^T + bias of the last dimension. (torch.nn.Linear)

    Shape: (*, in_features) -> (*, out_features), with any number of leading dimensions, none included.
    weight (out_features, in_features), bias (out_features,), with torch's initial distribution. The arithmetic runs
    in the input's dtype; 16-bit floating-point inputs work with 32-bit parameters (mixed precision).

    Raises RuntimeError for an input or a gradient that does not fit.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: device | str | int | None = None,
        dtype: dtype | None = None,
    ) -> None:
        self.in_features, self.out_features = in_features, out_features
        self.register("weight", empty(out_features, in_features, device=device, dtype=dtype))
        self.register("bias", empty(out_features, device=device, dtype=dtype) if bias else None)
        init.default_(self.weight, self.bias)

    def check(self, input: Tensor) -> None:
        """Raise RuntimeError, as torch does, for an input this layer cannot take."""
        if input.dim() == 0 or input.shape[-1] != self.in_features:
            raise RuntimeError(f"{self.name()}: expected input {self.expected()}, got {tuple(input.shape)}")
        self.check_parameters(input, self.out_features)

    def expected(self) -> str:
        return f"(*, {self.in_features})"

    def forward(self, input: Tensor) -> Tensor:
        self.check(input)
        x = input.detach()
        self.save(x, self.weight)
        y = x.matmul(self.weight.detach().to(x.dtype).t())
        return y if self.bias is None else y.add_(self.bias.detach())

    def backward(self, grad_output: Tensor) -> Tensor:
        self.accumulate(grad_output)
        return grad_output.detach().matmul(self.weight.detach().to(grad_output.dtype))

    def accumulate(self, grad_output: Tensor) -> None:
        x, _ = self.recall()
        self.check_gradient(grad_output, (*x.shape[:-1], self.out_features), x.dtype)
        rows = grad_output.detach().reshape(x.shape[:-1].numel(), self.out_features)
        self.weight_grad.add_(rows.t().mm(x.reshape(len(rows), self.in_features)))
        if self.bias is not None:
            self.bias_grad.add_(rows.sum(0, dtype=self.bias_grad.dtype))

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}" + ", bias=False" * (self.bias is None)
