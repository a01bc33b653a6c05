"""Initial distributions of weights, filled in place and returned, under torch's names (torch.nn.init).

With the same random state each draws the same numbers as its counterpart in torch.
"""

from __future__ import annotations

from math import prod, sqrt
from typing import TYPE_CHECKING

from .geometry import Pair

if TYPE_CHECKING:
    from torch import Tensor


def fans(tensor: Tensor) -> Pair:
    """(fan_in, fan_out) of a weight (out, in, *kernel): inputs that feed one output, outputs that one input feeds."""
    if tensor.dim() < 2:
        raise ValueError(f"fan in and fan out need a weight of 2 or more dimensions, got shape {tuple(tensor.shape)}")
    taps = prod(tensor.shape[2:])
    return tensor.shape[1] * taps, tensor.shape[0] * taps


def gain(nonlinearity: str, slope: float = 0.01) -> float:
    """The factor that keeps the variance through a nonlinearity. (He et al. 2015; torch.nn.init.calculate_gain)"""
    gains = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": sqrt(2), "leaky_relu": sqrt(2 / (1 + slope**2))}
    if nonlinearity not in gains:
        raise ValueError(f"nonlinearity: expected one of {', '.join(gains)}, got {nonlinearity!r}")
    return gains[nonlinearity]


def _fan(tensor: Tensor, mode: str) -> int:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode: expected 'fan_in' or 'fan_out', got {mode!r}")
    return fans(tensor)[mode == "fan_out"]


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """U(-b, b) with b = gain * sqrt(3 / fan). (He et al. 2015, arXiv:1502.01852, eq. 10 and 14)"""
    bound = gain(nonlinearity, a) / sqrt(_fan(tensor, mode)) * sqrt(3)
    tensor.detach().uniform_(-bound, bound)
    return tensor


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu") -> Tensor:
    """N(0, gain^2 / fan). (He et al. 2015, arXiv:1502.01852, eq. 10 and 14)"""
    tensor.detach().normal_(0, gain(nonlinearity, a) / sqrt(_fan(tensor, mode)))
    return tensor


def xavier_uniform_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """U(-b, b) with b = gain * sqrt(6 / (fan_in + fan_out)). (Glorot & Bengio 2010, eq. 16)"""
    bound = sqrt(3.0) * (gain * sqrt(2.0 / sum(fans(tensor))))
    tensor.detach().uniform_(-bound, bound)
    return tensor


def xavier_normal_(tensor: Tensor, gain: float = 1.0) -> Tensor:
    """N(0, 2 gain^2 / (fan_in + fan_out)). (Glorot & Bengio 2010, eq. 12)"""
    tensor.detach().normal_(0, gain * sqrt(2.0 / sum(fans(tensor))))
    return tensor


def default_(weight: Tensor, bias: Tensor | None) -> None:
    """torch's initial distribution of convolutions and Linear: U(-b, b) with b = 1 / sqrt(fan_in) for both.

    (torch.nn.Conv2d, "Variables"; kaiming_uniform_ with a = sqrt(5) is the same distribution.)
    """
    fan_in, _ = fans(weight)
    if weight.numel():
        kaiming_uniform_(weight, a=sqrt(5))
    if bias is not None:
        bound = 1 / sqrt(fan_in) if fan_in else 0
        bias.detach().uniform_(-bound, bound)
