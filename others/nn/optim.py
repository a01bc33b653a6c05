"""Optimisers and learning-rate schedules, with torch's update rules, arguments and errors.

An optimiser takes a Module, its `param()` or `parameters()`, or parameter groups: dicts with one of these under
"params" and options of their own. Updates are written into the parameters in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import cos, pi, sqrt
from typing import TYPE_CHECKING, Any
from warnings import warn

from .module import Module

if TYPE_CHECKING:
    from torch import Tensor

Params = Module | Iterable[Any]  # as the docstring above says
Group = dict[str, Any]
Coefficients = tuple[float, float, float]


class Optimizer:
    """Base class: parameter groups, gradients, state. Subclasses implement `update`.

    Each group's `state` holds (parameter, its state) under the parameter's id, so that parameters may come and go.
    """

    def __init__(self, params: Params, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups = []
        groups = [{"params": params}] if isinstance(params, Module) else list(getattr(params, "pairs", params))
        if not groups:
            raise ValueError(f"{type(self).__name__}: optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def add_param_group(self, group: Group) -> None:
        """Add parameters with options of their own; options not given are the optimiser's."""
        group = {**self.defaults, **group}
        if not isinstance(group["params"], Module):
            group["params"] = list(getattr(group["params"], "pairs", group["params"]))
        lr, pairs = group["lr"], self.pairs(group)
        self.require(not hasattr(lr, "numel") or lr.numel() == 1, f"a tensor lr must have 1 element, got {lr}")
        self.check(group)
        for pair in pairs:
            if not (isinstance(pair, (tuple, list)) and len(pair) == 2 and all(hasattr(t, "detach") for t in pair)):
                raise TypeError(f"{type(self).__name__}: expected a module, or (parameter, gradient) pairs as from "
                                f"param(), got {type(pair).__name__}")  # fmt: skip
        self.check_duplicates(pairs)
        self.param_groups.append({**group, "state": {}})

    def check_duplicates(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """A parameter in two groups is an error, twice in one group it is updated twice: a warning, as in torch."""
        new = [id(parameter) for parameter, _ in pairs]
        known = {id(parameter) for group in self.param_groups for parameter, _ in self.pairs(group)}
        self.require(known.isdisjoint(new), "some parameters appear in more than one parameter group")
        if len(set(new)) < len(new):
            warn(f"{type(self).__name__}: a parameter group with duplicate parameters", stacklevel=4)

    def pairs(self, group: Group) -> list[tuple[Tensor, Tensor]]:
        """The group's (parameter, gradient) pairs; a Module is asked anew each time."""
        return group["params"].param() if isinstance(group["params"], Module) else group["params"]

    def step(self) -> None:
        """Update every parameter once from its gradient."""
        for group in self.param_groups:
            for parameter, gradient in self.pairs(group):
                state, gradient = self.state_of(parameter, group), gradient.detach()
                self.update(parameter.detach(), -gradient if group.get("maximize") else gradient, state, group)

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Set all gradients to zero, in place. They are never None: set_to_none is there for torch's scripts."""
        for group in self.param_groups:
            for _, gradient in self.pairs(group):
                gradient.detach().zero_()

    def state_of(self, parameter: Tensor, group: Group) -> dict[str, Any]:
        """What the optimiser remembers about one parameter."""
        return group["state"].setdefault(id(parameter), (parameter, {}))[1]

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        """Copies and pickles hold other parameters than the original: theirs have other ids."""
        self.__dict__.update(attributes)
        for group in self.param_groups:
            group["state"] = {id(parameter): (parameter, state) for parameter, state in group["state"].values()}

    def state_dict(self) -> dict[str, Any]:
        """Everything but the parameters: options of each group, and the state of its parameters in order."""
        return {
            "param_groups": [
                {**{k: v for k, v in group.items() if k != "params"},
                 "state": [self.state_of(parameter, group) for parameter, _ in self.pairs(group)]}
                for group in self.param_groups
            ]
        }  # fmt: skip

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over options and state. Raises ValueError if the groups do not match."""
        saved = state_dict["param_groups"]
        parameters = [[parameter for parameter, _ in self.pairs(group)] for group in self.param_groups]
        if [len(options["state"]) for options in saved] != list(map(len, parameters)):
            raise ValueError(f"{type(self).__name__}.load_state_dict: the saved groups do not match the parameters")
        for group, options, owners in zip(self.param_groups, saved, parameters):
            state = {id(owner): (owner, copied(known)) for owner, known in zip(owners, options["state"])}
            group.update({**options, "state": state})

    def require(self, condition: object, message: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {message}")


def copied(state: dict[str, Any]) -> dict[str, Any]:
    """A state with tensors of its own."""
    return {key: value.clone() if hasattr(value, "clone") else value for key, value in state.items()}


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as torch.optim.SGD:

        g = gradient + weight_decay * p;   v = momentum * v + (1 - dampening) * g  (v = g in the first step)
        p = p - lr * (g + momentum * v  if nesterov else  v)

    Raises ValueError for negative lr, momentum or weight_decay, and for nesterov without momentum or with dampening.
    """

    def __init__(
        self, params: Params, lr: float | Tensor = 1e-3, momentum: float = 0, dampening: float = 0,
        weight_decay: float = 0, nesterov: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        options = locals()
        names = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
        super().__init__(params, {name: options[name] for name in names})

    def check(self, group: Group) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            self.require(group[name] >= 0, f"expected {name} >= 0, got {group[name]}")
        momentum = group["momentum"] > 0 and group["dampening"] == 0
        self.require(momentum or not group["nesterov"], "nesterov needs a momentum and zero dampening")

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: Group) -> None:
        momentum = group["momentum"]
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if momentum:
            if "velocity" not in state:
                state["velocity"] = gradient.clone()
            else:
                state["velocity"].mul_(momentum).add_(gradient, alpha=1 - group["dampening"])
            velocity = state["velocity"]
            gradient = gradient.add(velocity, alpha=momentum) if group["nesterov"] else velocity
        parameter.add_(gradient, alpha=-float(group["lr"]))


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1), as torch.optim.Adam:

        m = b1 * m + (1 - b1) * g;   v = b2 * v + (1 - b2) * g^2
        p = p - lr * (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps),   v its running maximum with amsgrad

    Raises ValueError for negative lr, eps or weight_decay and betas that are no numbers in [0, 1).
    """

    def __init__(
        self, params: Params, lr: float | Tensor = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False,
    ) -> None:  # fmt: skip
        options = locals()
        names = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
        super().__init__(params, {name: options[name] for name in names})

    def check(self, group: Group) -> None:
        for name in ("lr", "eps", "weight_decay"):
            self.require(group[name] >= 0, f"expected {name} >= 0, got {group[name]}")
        for i, beta in enumerate(group["betas"]):
            number = isinstance(beta, (int, float))
            self.require(number and 0 <= beta < 1, f"expected betas[{i}] to be a number in [0, 1), got {beta!r}")

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: Group) -> None:
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if not state:
            zeros = parameter.new_zeros(parameter.shape)
            state.update(step=0, mean=zeros, square=zeros.clone(), largest=zeros.clone())
        state["step"] += 1
        beta1, beta2 = group["betas"]
        state["mean"].mul_(beta1).add_(gradient, alpha=1 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        square = state["square"]
        if group["amsgrad"]:
            square = state["largest"] = state["largest"].maximum(square)
        correction1, correction2 = (1 - beta ** state["step"] for beta in group["betas"])
        scale = square.sqrt().div_(sqrt(correction2)).add_(group["eps"])
        parameter.sub_(state["mean"] / scale * (float(group["lr"]) / correction1))


class Muon(Optimizer):
    """Momentum with its singular values made nearly equal, as torch.optim.Muon (Jordan et al. 2024,
    https://kellerjordan.github.io/posts/muon/):

        v = momentum * v + (1 - momentum) * g;   u = momentum * v + (1 - momentum) * g  if nesterov else  v
        p = p - lr * weight_decay * p - lr * scale * orthogonal(u)

    scale is sqrt(max(1, rows / columns)) with adjust_lr_fn "original" or None; 0.2 * sqrt(max(rows, columns)) with
    "match_rms_adamw": entries as large as Adam's steps (Liu et al. 2025, arXiv:2502.16982). torch takes matrices only;
    here a kernel is the matrix of its first dimension by all others, and a bias one of a single row.

    Raises ValueError for negative lr, momentum or weight_decay, an unknown adjust_lr_fn, not three coefficients or a
    hundred steps or more.
    """

    def __init__(
        self, params: Params, lr: float | Tensor = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95,
        nesterov: bool = True, ns_coefficients: Coefficients = (3.4445, -4.7750, 2.0315), eps: float = 1e-7,
        ns_steps: int = 5, adjust_lr_fn: str | None = None,
    ) -> None:  # fmt: skip
        options = locals()
        names = ("lr", "weight_decay", "momentum", "nesterov", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn")
        super().__init__(params, {name: options[name] for name in names})

    def check(self, group: Group) -> None:
        for name in ("lr", "momentum", "weight_decay"):
            self.require(group[name] >= 0, f"expected {name} >= 0, got {group[name]}")
        known = (None, "original", "match_rms_adamw")
        self.require(group["adjust_lr_fn"] in known, f"expected adjust_lr_fn in {known}, got {group['adjust_lr_fn']!r}")
        coefficients, steps = group["ns_coefficients"], group["ns_steps"]
        self.require(len(coefficients) == 3, f"expected three ns_coefficients, got {coefficients}")
        self.require(0 <= steps < 100, f"expected ns_steps in [0, 100), got {steps}")

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: Group) -> None:
        lr, momentum = float(group["lr"]), group["momentum"]
        if not state:
            state["velocity"] = parameter.new_zeros(parameter.shape)
        velocity = state["velocity"] = state["velocity"].to(gradient).lerp_(gradient, 1 - momentum)
        step = gradient.lerp(velocity, momentum) if group["nesterov"] else velocity
        step = step.flatten(1) if step.dim() > 1 else step.reshape(1, -1)
        rows, columns = step.shape
        adamw = group["adjust_lr_fn"] == "match_rms_adamw"
        scale = 0.2 * sqrt(max(rows, columns)) if adamw else sqrt(max(1, rows / columns))
        step = orthogonal(step, group["ns_coefficients"], group["ns_steps"], group["eps"])
        parameter.mul_(1 - lr * group["weight_decay"]).sub_(step.view(parameter.shape), alpha=lr * scale)


def orthogonal(matrix: Tensor, coefficients: Coefficients, steps: int, eps: float) -> Tensor:
    """The matrix divided by its norm, then `steps` times X -> a X + b X X^T X + c X X^T X X^T X: the singular values
    s -> a s + b s^3 + c s^5, which brings those that are not tiny to about one. (Newton and Schulz's iteration)

    Every step multiplies X from the left by a polynomial of its small square G = X X^T. So G and the product of the
    polynomials P are iterated, with G -> P G P, and X itself, which may be ten times as wide, is multiplied once.
    """
    a, b, c = coefficients
    matrix = matrix.float() if matrix.element_size() < 4 else matrix
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.t() if tall else matrix
    wide = wide / wide.square().sum().sqrt().clamp(min=eps)
    gram, polynomial, factor = wide @ wide.t(), None, None
    for _ in range(steps):
        if polynomial is not None:
            gram = polynomial @ gram @ polynomial
        polynomial = gram.addmm(gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        factor = polynomial if factor is None else polynomial @ factor
    result = wide if factor is None else factor @ wide
    return result.t() if tall else result


# ---------------------------------------------------------------------------------------------------- schedules


class Schedule:
    """Sets the rate of an optimiser's groups to `factor(step)` times what they start from; `step()` advances it."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer, self.count = optimizer, 0
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.apply()

    def apply(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self.rates):
            group["lr"] = self.rate(rate, self.count)

    def step(self) -> None:
        """Advance by one step and set the rates."""
        self.count += 1
        self.apply()

    def get_last_lr(self) -> list[float]:
        """The current rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "rates": list(self.rates)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.count, self.rates = state_dict["count"], list(state_dict["rates"])
        self.apply()


class StepLR(Schedule):
    """lr * gamma^(step // step_size). (torch.optim.lr_scheduler.StepLR)"""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, lr: float, step: int) -> float:
        return lr * self.gamma ** (step // self.step_size)


class CosineAnnealingLR(Schedule):
    """From lr down to eta_min in T_max steps along half a cosine. (Loshchilov & Hutter 2017, arXiv:1608.03983)"""

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, lr: float, step: int) -> float:
        return self.eta_min + (lr - self.eta_min) * (1 + cos(pi * step / self.T_max)) / 2


class OneCycleLR(Schedule):
    """Up from max_lr / div_factor to max_lr during pct_start of total_steps, then down to that start divided by
    final_div_factor, both along half a cosine. The momentum stays. (Smith & Topin 2018, arXiv:1708.07120; torch's
    OneCycleLR with cycle_momentum=False)

    Raises ValueError when stepped more than total_steps times.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: float, total_steps: int, *, pct_start: float = 0.3,
        div_factor: float = 25.0, final_div_factor: float = 1e4,
    ) -> None:  # fmt: skip
        if total_steps < 1 or not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: expected total_steps >= 1 and pct_start in [0, 1], got {total_steps} "
                             f"and {pct_start}")  # fmt: skip
        self.max_lr, self.total_steps = max_lr, total_steps
        self.peak = pct_start * total_steps - 1
        self.start, self.end = max_lr / div_factor, max_lr / div_factor / final_div_factor
        super().__init__(optimizer)

    def rate(self, lr: float, step: int) -> float:
        if step > self.total_steps:
            raise ValueError(f"OneCycleLR: stepped {step} times, but total_steps is {self.total_steps}")
        if step <= self.peak:
            low, high, first, last = self.start, self.max_lr, 0, self.peak
        else:
            low, high, first, last = self.max_lr, self.end, self.peak, self.total_steps - 1
        part = (step - first) / (last - first) if last > first else 1
        return high + (low - high) * (1 + cos(pi * part)) / 2
