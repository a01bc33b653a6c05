"""Modules that connect others: chains, skips, concatenations, and the nodes of a graph.

Sequential, Skip and Concatenate save what the modules below them saved (`module.states`), call by call: a module may
stand in several places, at any depth. The next forward begins by dropping it all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import TYPE_CHECKING, Any

from torch import cat

from .module import Module, restored, states, versions

if TYPE_CHECKING:
    from torch import Tensor


class Sequential(Module):
    """Applies its modules one after the other; backward goes through them in reverse. (torch.nn.Sequential)

    Takes modules, or one ordered dict of named modules. A module may stand in several places: what each of its
    calls saved is kept with the place. An error in a child names the child's position.
    """

    def __init__(self, *modules: Module | dict[str, Module]) -> None:
        self.names: list[str] = []
        self.add_modules(*modules)

    def add_modules(self, *modules: Module | dict[str, Module]) -> Sequential:
        """Append modules, or the named modules of a dict.

        Raises TypeError for anything else, KeyError for a name that is taken or has a dot, as torch does.
        """
        if len(modules) == 1 and isinstance(modules[0], dict):
            named: Iterable[tuple[str, object]] = modules[0].items()
        else:
            free = (str(i) for i in count(len(self.names)) if str(i) not in self.names)
            named = zip(free, modules)
        for name, module in named:
            if not isinstance(module, Module):
                raise TypeError(f"Sequential: expected a Module at position {name}, got {type(module).__name__}")
            if hasattr(self, name) or "." in name:
                raise KeyError(f"Sequential: {name!r} cannot be a module's name, it has a dot or is taken")
            self.names.append(name)
            setattr(self, name, module)
        return self

    def append(self, module: Module) -> Sequential:
        """Add one module at the end."""
        return self.add_modules(module)

    def children(self) -> list[tuple[str, Module]]:
        return [(name, getattr(self, name)) for name in self.names]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Module]:
        return iter([child for _, child in self.children()])

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return Sequential(OrderedDict(self.children()[index]))
        return getattr(self, self.names[index])

    def forward(self, input: Tensor) -> Tensor:
        begin(self)
        input, calls = input.detach(), []
        for position, child in enumerate(self):
            input = located(self, position, child.forward, input)
            calls.append((position, child, states(child) if self.training else []))
        self.save(calls)
        return input

    def backward(self, grad_output: Tensor) -> Tensor:
        (calls,) = self.recall()
        for position, child, below in reversed(calls):
            with restored(below):
                grad_output = located(self, position, child.backward, grad_output)
        return grad_output

    def accumulate(self, grad_output: Tensor) -> None:
        (calls,) = self.recall()
        first = next((n for n, (_, child, _) in enumerate(calls) if child.param()), len(calls))
        for position, child, below in reversed(calls[first:]):
            step = child.backward if position > first else child.accumulate
            with restored(below):
                grad_output = located(self, position, step, grad_output)


def begin(container: Module) -> None:
    """Before a forward: drop what the last one saved, else both would be held."""
    if container.saved is not None:
        container.release()


def located(container: Module, position: int, step: Callable[[Tensor], Any], value: Tensor) -> Any:
    """step(value); an error gets the position of the failing child in front."""
    try:
        return step(value)
    except (RuntimeError, ValueError) as error:
        where = f"{type(container).__name__}[{position}]: "
        error.args = (where + str(error), *error.args[1:])
        raise


def through(container: Skip | Concatenate, input: Tensor) -> Tensor:
    """body(input). Raises RuntimeError if the body wrote into its input, which the container needs again."""
    begin(container)
    before = versions([input])
    output = container.body.forward(input)
    if versions([input]) != before:
        raise RuntimeError(f"{container.name()}: the body wrote into its input, which is needed again; its first layer "
                           "must not be in place")  # fmt: skip
    return output


class Skip(Module):
    """x + body(x): the shape of body's output is that of its input. (He et al. 2016; Mao et al. 2016)"""

    def __init__(self, body: Module) -> None:
        self.body = body

    def forward(self, input: Tensor) -> Tensor:
        input = input.detach()
        output = through(self, input)
        if output.shape != input.shape:
            raise RuntimeError(f"Skip: expected the body to keep {tuple(input.shape)}, got {tuple(output.shape)}")
        self.save(states(self.body))
        return output + input

    def backward(self, grad_output: Tensor) -> Tensor:
        (below,) = self.recall()
        with restored(below):
            return self.body.backward(grad_output) + grad_output.detach()

    def accumulate(self, grad_output: Tensor) -> None:
        (below,) = self.recall()
        with restored(below):
            self.body.accumulate(grad_output)


class Concatenate(Module):
    """[body(x), x] along the channels: (N, C, H, W) -> (N, C_body + C, H, W), or the same without N.
    (Ronneberger et al. 2015)"""

    def __init__(self, body: Module) -> None:
        self.body = body

    def forward(self, input: Tensor) -> Tensor:
        input = input.detach()
        output = through(self, input)
        if output.shape[-2:] != input.shape[-2:]:
            raise RuntimeError(f"Concatenate: expected the body to keep {tuple(input.shape[-2:])}, "
                               f"got {tuple(output.shape[-2:])}")  # fmt: skip
        both = cat((output, input), -3)
        self.save(states(self.body), output.shape[-3], both.shape)
        return both

    def backward(self, grad_output: Tensor) -> Tensor:
        below, own, passed = self.parts(grad_output)
        with restored(below):
            return self.body.backward(own) + passed

    def accumulate(self, grad_output: Tensor) -> None:
        below, own, _ = self.parts(grad_output)
        with restored(below):
            self.body.accumulate(own)

    def parts(self, grad_output: Tensor) -> tuple[list[tuple[Module, Any]], Tensor, Tensor]:
        """What the body saved, and the gradients of its output and of what goes past it."""
        below, channels, shape = self.recall()
        self.check_gradient(grad_output, shape)
        grad_output = grad_output.detach()
        return below, grad_output[..., :channels, :, :], grad_output[..., channels:, :, :]


class Identity(Module):
    """Returns its input. Takes and ignores any arguments, as torch.nn.Identity."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        self.save(input.shape)
        return input.detach()

    def backward(self, grad_output: Tensor) -> Tensor:
        (shape,) = self.recall()
        self.check_gradient(grad_output, shape)
        return grad_output.detach()


class Flatten(Module):
    """Joins the dimensions start_dim .. end_dim: (N, C, H, W) -> (N, C * H * W) by default. (torch.nn.Flatten)"""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        output = input.detach().flatten(self.start_dim, self.end_dim)
        self.save(input.shape, output.shape)
        return output

    def backward(self, grad_output: Tensor) -> Tensor:
        shape, joined = self.recall()
        self.check_gradient(grad_output, joined)
        return grad_output.detach().reshape(shape)


class Add(Module):
    """The sum of its inputs, which have one shape: several paths of a graph meet. Any shape -> same shape."""

    def forward(self, *inputs: Tensor) -> Tensor:
        if len({input.shape for input in inputs}) != 1:
            raise RuntimeError(f"Add: expected inputs of one shape, got {[tuple(input.shape) for input in inputs]}")
        self.save(len(inputs), inputs[0].shape)
        first, *others = (input.detach() for input in inputs)
        return sum(others, first)

    def backward(self, grad_output: Tensor) -> tuple[Tensor, ...]:
        """A tuple, one gradient for each input."""
        count, shape = self.recall()
        self.check_gradient(grad_output, shape)
        return (grad_output.detach(),) * count


class Concat(Module):
    """Its inputs one after the other along dimension `dim`: (N, C1, H, W), (N, C2, H, W) -> (N, C1 + C2, H, W)."""

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def forward(self, *inputs: Tensor) -> Tensor:
        output = cat([input.detach() for input in inputs], self.dim)
        self.save([input.shape[self.dim] for input in inputs], output.shape)
        return output

    def backward(self, grad_output: Tensor) -> tuple[Tensor, ...]:
        """A tuple, one gradient for each input."""
        lengths, shape = self.recall()
        self.check_gradient(grad_output, shape)
        return tuple(grad_output.detach().split(lengths, self.dim))
