"""Gradients against central differences, one number each. `python -m others.nn.gradcheck` checks all blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from ..autograd import Tape
from ..module import Module

if TYPE_CHECKING:
    from torch import Tensor

STEP = 1e-5  # of the differences: in float64 their rounding errors are near 1e-10, those of truncation far below
FLOOR = 1e-3  # numbers smaller than this are compared absolutely


class Check(NamedTuple):
    """The slope along one random direction, from backward and from central differences."""

    name: str  # "input 0", or a parameter: "0.weight"
    analytic: float
    numeric: float

    @property
    def error(self) -> float:
        """Relative error."""
        return abs(self.analytic - self.numeric) / max(abs(self.analytic), abs(self.numeric), FLOOR)


def gradcheck(module: Module, *inputs: Tensor, seed: int = 0, tolerance: float = 1e-6, **options: Any) -> list[Check]:
    """Compare all gradients of <module(*inputs, **options), upstream> with central differences, in float64.

    For each input and each parameter: a random direction d, and the two numbers <gradient, d> and the slope along d,
    which agree only if the gradient is right (the check of HIPS/autograd). The upstream gradient is random too.
    Parameters' gradients start from noise, so a backward that does not add is seen. `options` are arguments that nobody
    differentiates: `gradcheck(MSE(), x, target=t)`. Where a function has a kink or a jump (ReLU at 0, equal values in a
    MaxPool2d window) no such check means anything.

    Works on a copy: the module stays as it is, and so does the global random state unless the module draws from it.
    Returns a list of `Check`. Raises AssertionError, with both numbers and the seed, where a relative error exceeds
    `tolerance`, ValueError for a module that gives another output the second time.
    """
    random = Random(seed)
    module = deepcopy(module).train().to(inputs[0].detach().double())
    inputs = tuple(input.detach().double().clone() for input in inputs)
    with Tape() as tape:
        wanted = [input.clone() for input in inputs]
        output = module(*wanted, **options)
    upstream = noise(output, random)
    start = [gradient.detach().copy_(noise(gradient, random)).clone() for _, gradient in module.param()]
    found = tape.backward(output, upstream, wanted)
    found += [gradient.detach() - before for (_, gradient), before in zip(module.param(), start)]

    def value():
        return module(*[input.clone() for input in inputs], **options).detach()

    if bool(((output.detach() - value()).abs() > 0).any()):
        raise ValueError(f"gradcheck of {module.name()}: expected the same output for the same input, got another the "
                         "second time; set the seed in its forward, or take its randomness out")  # fmt: skip
    names = [f"input {i}" for i in range(len(inputs))] + [name for name, _ in module.named_parameters()]
    points = [*inputs, *(parameter.detach() for parameter in module.parameters())]
    checks = []
    for name, point, gradient in zip(names, points, found, strict=True):
        direction = noise(point, random)
        difference = central_difference(value, point, direction)
        checks.append(Check(name, inner(gradient, direction), inner(difference, upstream)))
    complain(module, [check for check in checks if not check.error <= tolerance], tolerance, seed)
    return checks


def noise(like: Tensor, random: Random) -> Tensor:
    """Normal numbers in the shape of a tensor, without torch's random state."""
    return like.new_tensor([random.gauss(0, 1) for _ in range(like.numel())]).view(like.shape)


def inner(gradient: Tensor | None, direction: Tensor) -> float:
    """<gradient, direction>; 0 for no gradient, NaN for one of a wrong shape."""
    if gradient is None:
        return 0.0
    return (gradient * direction).sum().item() if gradient.shape == direction.shape else float("nan")


def central_difference(value: Callable[[], Tensor], point: Tensor, direction: Tensor) -> Tensor:
    """d value / d point along `direction`; `point` is moved in place and put back.

    Of fourth order, h = STEP: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h. The usual (f(h) - f(-h)) / 2h was up to
    7e-8 wrong behind a Tanh, which is too much where the slopes of many outputs nearly cancel.
    (Abramowitz & Stegun 1964, 25.3.6)
    """
    here = point.clone()

    def moved(steps):
        point.copy_(here + steps * STEP * direction)
        return value()

    slope = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * STEP)
    point.copy_(here)
    return slope


def complain(module: Module, wrong: Sequence[Check], tolerance: float, seed: int) -> None:
    """Raise AssertionError if any check is wrong."""
    lines = [
        f"gradient of {check.name}: backward gives {check.analytic!r}, central differences {check.numeric!r}, "
        f"relative error {check.error:.1e} > {tolerance:.1e}"
        for check in wrong
    ]
    if lines:
        raise AssertionError("\n  ".join([f"gradcheck of {module.name()}, seed {seed}:", *lines]))
