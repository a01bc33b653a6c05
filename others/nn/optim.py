"""Optimisers and learning-rate schedules, with torch's update rules, arguments and errors.

An optimiser takes a Module, its `param()` or `parameters()`, a list of tensors with their gradients as `grad`, or
parameter groups: dicts with one of these under "params" and options of their own. Updates are written into the
parameters in place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import starmap
from math import cos, inf, pi, sqrt
from numbers import Real
from typing import TYPE_CHECKING, Any
from warnings import warn

from .module import Module

if TYPE_CHECKING:
    from torch import Tensor

    Group = dict[str, Any]  # "params", "state" and options
    Params = Module | Iterable[Tensor] | Iterable[tuple[Tensor, Tensor]] | Iterable[Group]
    Rate = float | Tensor

#: torch's options that choose how a step is computed, not what it gives. There is one way here.
WAYS = ("foreach", "fused", "differentiable", "capturable")


class Optimizer:
    """Base class: parameter groups, gradients, state. Subclasses implement `update`, or `step`.

    Each group's `state` holds (parameter, its state) under the parameter's id, so that parameters may come and go.
    torch's foreach, fused, differentiable and capturable are taken where they are None or False.
    """

    def __init__(self, params: Params, defaults: dict[str, Any], ways: dict[str, Any] | None = None) -> None:
        self.defaults = self.without_ways({**defaults, **(ways or {})})
        if unknown := self.defaults.keys() - defaults.keys():
            raise TypeError(f"{type(self).__name__}: unexpected option {', '.join(sorted(unknown))}")
        self.param_groups: list[Group] = []
        unordered = hasattr(params, "detach") or isinstance(params, (set, frozenset))
        if unordered or not (isinstance(params, Module) or hasattr(params, "__iter__")):
            raise TypeError(f"{type(self).__name__}: expected a module or a list of parameters, got a "
                            f"{type(params).__name__}")  # fmt: skip
        groups = [{"params": params}] if isinstance(params, Module) else list(getattr(params, "pairs", params))
        if not groups:
            raise ValueError(f"{type(self).__name__}: optimizer got an empty parameter list")
        for group in groups if isinstance(groups[0], dict) else [{"params": groups}]:
            self.add_param_group(group)

    def without_ways(self, options: dict[str, Any]) -> dict[str, Any]:
        """The options but for `WAYS`. Raises NotImplementedError where one of these is wanted."""
        for name in WAYS:
            if options.get(name):
                raise NotImplementedError(f"{type(self).__name__}: {name}={options[name]} is not supported, a step is "
                                          f"computed in one way; leave {name} out")  # fmt: skip
        return {name: value for name, value in options.items() if name not in WAYS}

    def check(self, group: Group) -> None:
        """Raise TypeError or ValueError for options that are impossible."""
        raise NotImplementedError

    def update(self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: Group) -> None:
        """Write one step into the parameter and its state."""
        raise NotImplementedError

    def add_param_group(self, group: Group) -> None:
        """Add parameters with options of their own; options not given are the optimiser's."""
        if not isinstance(group, dict) or "params" not in group:
            found = list(group) if isinstance(group, dict) else type(group).__name__
            raise TypeError(f"{type(self).__name__}: expected a parameter group, a dict with 'params', got {found}")
        group = {**self.defaults, **self.without_ways(group)}
        params: Params = group["params"]
        if not isinstance(params, Module):
            group["params"] = [params] if hasattr(params, "detach") else list(getattr(params, "pairs", params))
            self.check_params(group["params"])
        self.check(group)
        self.check_duplicates(self.pairs(group))
        self.param_groups.append({**group, "state": {}})

    def check_params(self, params: Sequence[Any]) -> None:
        """Raises TypeError for what is neither a tensor nor a pair of two, ValueError for two of different shapes."""
        for item in params:
            pair = item if isinstance(item, (tuple, list)) else (item, item)
            if len(pair) != 2 or not all(hasattr(tensor, "detach") for tensor in pair):
                raise TypeError(f"{type(self).__name__}: expected a module, (parameter, gradient) pairs as from "
                                f"param(), or tensors with a grad, got {type(item).__name__}")  # fmt: skip
            shape, found = (tuple(tensor.shape) for tensor in pair)
            self.require(shape == found, f"expected a gradient {shape} as the parameter, got {found}")

    def check_duplicates(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """A parameter in two groups is an error, twice in one group it is updated twice: a warning, as in torch."""
        new = [id(parameter) for parameter, _ in pairs]
        known = {id(parameter) for group in self.param_groups for parameter, _ in self.pairs(group)}
        self.require(known.isdisjoint(new), "some parameters appear in more than one parameter group")
        if len(set(new)) < len(new):
            warn(f"{type(self).__name__}: a parameter group with duplicate parameters", stacklevel=4)

    def pairs(self, group: Group) -> list[tuple[Tensor, Tensor]]:
        """The group's (parameter, gradient) pairs; a Module is asked anew each time, a tensor for its `grad`."""
        params = group["params"]
        return params.param() if isinstance(params, Module) else list(map(paired, params))

    def step(self, *, each: Callable[..., Iterable[Tensor]] = starmap) -> None:
        """Update every parameter once from its gradient. each: computes what takes long, and may share it out; it takes
        a function and tuples of arguments, as itertools.starmap. Raises RuntimeError, as `every`."""
        for group, parameter, gradient in self.every():
            state, gradient = self.state_of(parameter, group), gradient.detach()
            self.update(parameter.detach(), -gradient if group.get("maximize") else gradient, state, group)

    def every(self) -> list[tuple[Group, Tensor, Tensor]]:
        """(group, parameter, gradient) of all groups. Raises RuntimeError if one of a list of tensors has None for its
        `grad`: torch would leave it as it is without a word."""
        every = [(group, *pair) for group in self.param_groups for pair in self.pairs(group)]
        without = [tuple(parameter.shape) for _, parameter, gradient in every if gradient is None]
        if without:
            raise RuntimeError(f"{type(self).__name__}.step: grad is None for {len(without)} of {len(every)} tensors, "
                               f"first for one of shape {without[0]}; call backward first, or give the optimiser the "
                               "network or its param() instead of a list of tensors")  # fmt: skip
        return every

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Set all gradients to zero, in place. They never become None: set_to_none is there for torch's scripts."""
        for group in self.param_groups:
            for _, gradient in self.pairs(group):
                if gradient is not None:
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
        """Take over options and state; tensors of the state get dtype and device of their parameter, as in torch.

        Raises ValueError, before anything is changed, if it is no state of such an optimiser or its groups do not fit.
        """
        parameters = [[parameter for parameter, _ in self.pairs(group)] for group in self.param_groups]
        saved = self.check_state(state_dict, parameters)
        for group, options, owners in zip(self.param_groups, saved, parameters):
            state = {id(owner): (owner, copied(known, owner)) for owner, known in zip(owners, options["state"])}
            group.update({**copied(options), "state": state})

    def check_state(self, state_dict: dict[str, Any], parameters: list[list[Tensor]]) -> list[dict[str, Any]]:
        """The saved groups, if they can be those of `parameters`, a list for each group."""
        who = "load_state_dict:"
        saved: Any = state_dict.get("param_groups") if isinstance(state_dict, dict) else None
        known = isinstance(saved, (list, tuple)) and all(isinstance(options, dict) for options in saved)
        self.require(known and all("state" in options for options in saved), f"{who} expected what state_dict() of an "
                     f"optimiser from others.nn gave, got {type(state_dict).__name__}")  # fmt: skip
        for options in saved:
            missing = [name for name in self.defaults if name not in options]
            self.require(not missing, f"{who} this is the state of another optimiser, without {', '.join(missing)}")
        found, expected = [len(options["state"]) for options in saved], list(map(len, parameters))
        self.require(found == expected, f"{who} the saved groups do not match the parameters: expected groups of "
                     f"{expected} parameters, got {found}")  # fmt: skip
        for options, owners in zip(saved, parameters):
            for owner, state in zip(owners, options["state"]):
                shapes = {tuple(value.shape) for value in state.values() if hasattr(value, "shape")}
                self.require(shapes <= {tuple(owner.shape)}, f"{who} the state of a parameter {tuple(owner.shape)} has "
                             f"shape {', '.join(map(str, shapes))}")  # fmt: skip
        return saved

    def require(self, condition: object, message: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {message}")

    def check_numbers(self, values: dict[str, Any], smallest: float = 0) -> None:
        """Raises TypeError unless each of {name: value} is a number or a tensor of one, ValueError unless it is at
        least `smallest`, which NaN is not."""
        for name, value in values.items():
            size = value.numel() if hasattr(value, "numel") else 1
            self.require(size == 1, f"expected {name} to be a number, a tensor must have 1 element, got {value}")
            if not hasattr(value, "numel") and not isinstance(value, Real):
                raise TypeError(f"{type(self).__name__}: expected {name} to be a number, got {value!r}")
            self.require(value >= smallest, f"expected {name} >= {smallest}, got {value}")


def paired(item: Any) -> tuple[Tensor, Tensor]:
    """A tensor with its `grad`; a pair as it is."""
    return (item, item.grad) if hasattr(item, "detach") else item


def copied(state: dict[str, Any], owner: Tensor | None = None) -> dict[str, Any]:
    """A state with tensors of its own, of the dtype and device of their `owner`."""
    return {
        key: value.detach().to(value if owner is None else owner, copy=True) if hasattr(value, "detach") else value
        for key, value in state.items()
    }


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as torch.optim.SGD:

        g = gradient + weight_decay * p;   v = momentum * v + (1 - dampening) * g  (v = g in the first step)
        p = p - lr * (g + momentum * v  if nesterov else  v)

    Raises ValueError for negative lr, momentum or weight_decay, and for nesterov without momentum or with dampening.
    """

    def __init__(
        self, params: Params, lr: Rate = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, *, maximize: bool = False, **ways: Any,
    ) -> None:  # fmt: skip
        options = locals()
        names = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
        super().__init__(params, {name: options[name] for name in names}, ways)

    def check(self, group: Group) -> None:
        self.check_numbers({name: group[name] for name in ("lr", "momentum", "weight_decay")})
        self.check_numbers({"dampening": group["dampening"]}, smallest=-inf)
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
        self, params: Params, lr: Rate = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False, **ways: Any,
    ) -> None:  # fmt: skip
        options = locals()
        names = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize")
        super().__init__(params, {name: options[name] for name in names}, ways)

    def check(self, group: Group) -> None:
        self.check_numbers({name: group[name] for name in ("lr", "eps", "weight_decay")})
        betas = group["betas"]
        two = isinstance(betas, (tuple, list)) and len(betas) == 2
        self.require(two, f"expected two betas, got {betas!r}")
        for i, beta in enumerate(betas):
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
        self, params: Params, lr: Rate = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95, nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315), eps: float = 1e-7, ns_steps: int = 5,
        adjust_lr_fn: str | None = None, **ways: Any,
    ) -> None:  # fmt: skip
        options = locals()
        names = ("lr", "weight_decay", "momentum", "nesterov", "ns_coefficients", "eps", "ns_steps", "adjust_lr_fn")
        super().__init__(params, {name: options[name] for name in names}, ways)

    def check(self, group: Group) -> None:
        self.check_numbers({name: group[name] for name in ("lr", "momentum", "weight_decay", "eps")})
        known = (None, "original", "match_rms_adamw")
        self.require(group["adjust_lr_fn"] in known, f"expected adjust_lr_fn in {known}, got {group['adjust_lr_fn']!r}")
        coefficients, steps = group["ns_coefficients"], group["ns_steps"]
        three = isinstance(coefficients, (tuple, list)) and len(coefficients) == 3
        self.require(three, f"expected three ns_coefficients, got {coefficients!r}")
        self.check_numbers({f"ns_coefficients[{i}]": number for i, number in enumerate(coefficients)}, smallest=-inf)
        whole = hasattr(steps, "__index__") and 0 <= steps < 100
        self.require(whole, f"expected ns_steps to be a whole number in [0, 100), got {steps!r}")

    def step(self, *, each: Callable[..., Iterable[Tensor]] = starmap) -> None:
        """As `Optimizer.step`. What takes long is to make the matrices orthogonal, each of which needs no other."""
        every = self.every()
        works = (self.work(parameter, gradient.detach(), group) for group, parameter, gradient in every)
        for (group, parameter, _), step in zip(every, each(orthogonal, works)):
            self.move(parameter.detach(), step, group)

    def work(self, parameter: Tensor, gradient: Tensor, group: Group) -> tuple[Any, ...]:
        """The arguments of `orthogonal`: u, a matrix of 32 bits or more, after v has been updated; and options."""
        momentum, state = group["momentum"], self.state_of(parameter, group)
        if not state:
            state["velocity"] = parameter.new_zeros(parameter.shape)
        velocity = state["velocity"] = state["velocity"].to(gradient).lerp_(gradient, 1 - momentum)
        step = gradient.lerp(velocity, momentum) if group["nesterov"] else velocity
        step = step.flatten(1) if step.dim() > 1 else step.reshape(1, -1)
        step = step.float() if step.element_size() < 4 else step
        return step, group["ns_coefficients"], group["ns_steps"], group["eps"]

    def move(self, parameter: Tensor, step: Tensor, group: Group) -> None:
        """Write the step, a matrix, into the parameter."""
        lr, (rows, columns) = float(group["lr"]), step.shape
        adamw = group["adjust_lr_fn"] == "match_rms_adamw"
        scale = 0.2 * sqrt(max(rows, columns)) if adamw else sqrt(max(1, rows / columns))
        parameter.mul_(1 - lr * group["weight_decay"]).sub_(step.view(parameter.shape), alpha=lr * scale)


SPAN = 5  # steps between two computations of X X^T


def orthogonal(matrix: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """The matrix (of 32 bits or more) divided by its norm, then `steps` times X -> a X + b X X^T X + c X X^T X X^T X:
    the singular values s -> a s + b s^3 + c s^5, which brings those that are not tiny to about one. (Newton and
    Schulz's iteration)

    Every step multiplies X from the left by a polynomial of its small square G = X X^T. So G and the product of the
    polynomials P are iterated, with G -> P G P, and X itself, which may be ten times as wide, is multiplied once in
    `SPAN` steps. No more: rounding makes eigenvalues of G that should be 0 negative, which no X X^T has; each step
    multiplies them by about a^2, and above 1 there is no way back.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    wide = matrix.t() if tall else matrix
    wide = wide / wide.square().sum().sqrt().clamp(min=max(eps, 1e-37))  # a gradient of zeros stays one
    for done in range(0, steps, SPAN):
        wide = iterate(wide @ wide.t(), coefficients, min(SPAN, steps - done)) @ wide
    return wide.t() if tall else wide


def iterate(gram: Tensor, coefficients: Sequence[float], steps: int) -> Tensor:
    """The product of `steps` polynomials, from the square G (n, n) of the first X."""
    a, b, c = coefficients

    def polynomial_of(gram):
        polynomial = gram.addmm(gram, gram, beta=b, alpha=c)
        polynomial.diagonal().add_(a)
        return polynomial

    factor = polynomial = polynomial_of(gram)
    for _ in range(steps - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = polynomial_of(gram)
        factor = polynomial @ factor
    return factor


# ---------------------------------------------------------------------------------------------------- schedules


class Schedule:
    """Sets the rates of an optimiser's groups as torch does: `step()` changes the rates it finds, so that several
    schedules of one optimiser act together and a rate changed by hand counts. Subclasses implement `rate`.

    Where a group started is its `initial_lr`, which the first schedule notes.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__}: expected an optimiser, got {type(optimizer).__name__}")
        self.optimizer, self.count = optimizer, 0
        self.initial: list[float] = []
        self.apply()

    def rate(self, group: Group, lr: float, initial: float) -> float:
        """The rate after `count` steps of a group that has the rate lr and started with `initial`."""
        raise NotImplementedError

    def begin(self, group: Group) -> None:
        """Note where a group starts that this schedule has not seen."""
        group.setdefault("initial_lr", float(group["lr"]))

    def apply(self) -> None:
        groups = self.optimizer.param_groups
        for group in groups[len(self.initial) :]:
            self.begin(group)
            self.initial.append(group["initial_lr"])
        rates = [self.rate(group, float(group["lr"]), initial) for group, initial in zip(groups, self.initial)]
        self.put(rates)

    def put(self, rates: Sequence[float]) -> None:
        """Set the groups' rates; a rate that is a tensor stays the same one."""
        for group, rate in zip(self.optimizer.param_groups, rates):
            if hasattr(group["lr"], "fill_"):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self.last = list(rates)

    def step(self) -> None:
        """Advance by one step and set the rates."""
        self.count += 1
        self.apply()

    def get_last_lr(self) -> list[float]:
        """The rate of each group that this schedule set last."""
        return list(self.last)

    def state_dict(self) -> dict[str, Any]:
        """Steps done, where the groups started, and their rates now."""
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        return {"count": self.count, "rates": list(self.initial), "now": rates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state and set the rates that belong to it. Raises ValueError for one of other groups."""
        count, initial, rates = (state_dict[name] for name in ("count", "rates", "now"))
        if not len(initial) == len(rates) == len(self.optimizer.param_groups):
            raise ValueError(f"{type(self).__name__}.load_state_dict: expected rates of "
                             f"{len(self.optimizer.param_groups)} parameter groups, got {len(rates)}")  # fmt: skip
        self.count, self.initial = count, list(initial)
        self.put(rates)


class StepLR(Schedule):
    """The rate times gamma, every step_size steps. (torch.optim.lr_scheduler.StepLR)"""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if not step_size >= 1:
            raise ValueError(f"StepLR: expected step_size >= 1, got {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def rate(self, group: Group, lr: float, initial: float) -> float:
        return lr if self.count == 0 or self.count % self.step_size else lr * self.gamma


class CosineAnnealingLR(Schedule):
    """From the initial rate down to eta_min in T_max steps along half a cosine, then up again; each step changes the
    rate by the ratio of two neighbours on that curve. (Loshchilov & Hutter 2017, arXiv:1608.03983; torch's
    CosineAnnealingLR)"""

    def __init__(self, optimizer: Optimizer, T_max: float, eta_min: float = 0.0) -> None:
        if not T_max > 0:
            raise ValueError(f"CosineAnnealingLR: expected T_max > 0, got {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def rate(self, group: Group, lr: float, initial: float) -> float:
        if self.count == 0:
            return lr
        if (self.count - 1 - self.T_max) % (2 * self.T_max) == 0:  # at eta_min, where the ratio would be 0 / 0
            return lr + (initial - self.eta_min) * (1 - cos(pi / self.T_max)) / 2
        now, before = (1 + cos(pi * count / self.T_max) for count in (self.count, self.count - 1))
        return now / before * (lr - self.eta_min) + self.eta_min


class OneCycleLR(Schedule):
    """Up from max_lr / div_factor to max_lr during pct_start of total_steps, then down to that start divided by
    final_div_factor, both along half a cosine. The momentum stays. (Smith & Topin 2018, arXiv:1708.07120; torch's
    OneCycleLR with cycle_momentum=False)

    As in torch the three rates stand in the groups, for a later OneCycleLR to replace, and a rate changed by hand
    lasts until the next step. Raises ValueError when stepped more than total_steps times.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: float, total_steps: int, *, pct_start: float = 0.3,
        div_factor: float = 25.0, final_div_factor: float = 1e4,
    ) -> None:  # fmt: skip
        if total_steps < 1 or not 0 <= pct_start <= 1:
            raise ValueError(f"OneCycleLR: expected total_steps >= 1 and pct_start in [0, 1], got {total_steps} "
                             f"and {pct_start}")  # fmt: skip
        start = max_lr / div_factor
        self.rates = {"initial_lr": start, "max_lr": max_lr, "min_lr": start / final_div_factor}
        self.total_steps, self.peak = total_steps, pct_start * total_steps - 1
        super().__init__(optimizer)

    def begin(self, group: Group) -> None:
        group.update(self.rates)

    def rate(self, group: Group, lr: float, initial: float) -> float:
        if self.count > self.total_steps:
            raise ValueError(f"OneCycleLR: stepped {self.count} times, but total_steps is {self.total_steps}")
        if self.count <= self.peak:
            low, high, first, last = group["initial_lr"], group["max_lr"], 0.0, self.peak
        else:
            low, high, first, last = group["max_lr"], group["min_lr"], self.peak, self.total_steps - 1
        part = (self.count - first) / (last - first) if last > first else 1
        return high + (low - high) * (1 + cos(pi * part)) / 2
