"""Reverse-mode differentiation of any graph of module calls, on top of the modules' own backward.

    with Tape() as tape:
        y = net(x)
        loss = total(criterion(y, target), penalty(y, zeros))     # total = Add(): y is used twice
    tape.backward(loss)                                           # adds to the gradients of all parameters
    (dx,) = tape.backward(loss, inputs=[x])                       # or that, and the gradient of x

Why it works. While a tape is active, every module call in training mode appends one line to it: which module, which
tensors went in, which tensor came out. Tensors only come out of calls already made, so the list is in topological
order whatever the shape of the graph: read backwards, all users of a tensor come before the call that made it. When
`backward` reaches a call, the gradient of its output is therefore complete. The module turns it into gradients of
its inputs (the chain rule for one call, which every module brings along), and where a tensor is used several times
these add up (the chain rule for sums over paths). That is all of reverse-mode differentiation; the rest is care:

* A tensor is known by its identity. The tape keeps it alive, so no other can get the same one.
* Arithmetic on what a call returned (`y * 2`, `a + b`, `buffer += y`; `Recorded` notices it) and calls of modules in
  eval mode are lines too, which can only complain: backward raises an error where a gradient would have to pass through
  one, before anything is changed. Use modules (Add, Concat), or `detach()` to end it on purpose. A layer's `forward`
  refuses to be called past the tape (`Module.save`). Arithmetic before the first call (`net(2 * x)`) is not noticed.
* Identity says nothing about values: what is written in place into a tensor that a call made or read is no call, and
  no line. So the tape notes how often each was written to, and a later use of one that has changed is an error. (The
  result of an in-place layer is a line like any other: use that.)
* A module used twice has saved the state of its last call only. So what the module (and every module inside it) has
  saved moves to the line, and is put back while the line goes backward.
* A module with a backward of its own, a Sequential or Skip too, is one line: what it calls inside is its own affair.
  A module that has only a forward calls others, and these write the lines.
* Nobody pays for gradients that nobody needs: a call that leads to no parameter and to no requested input is passed
  over, and where only parameters need one, the module is asked to `accumulate`.

Lines are dropped as backward reads them, with all that forward saved: the graph can be used once. Outside of the `with`
block nothing is written. The active tape is a context variable, each thread has its own. (Wengert 1964, "A simple
automatic derivative evaluation program"; Baydin et al. 2018, arXiv:1502.05767, section 3.2)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from inspect import signature
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from torch import empty

from .module import LAST, RECORDER, Module, restored, states, using, versions

if TYPE_CHECKING:
    from torch import Tensor
else:
    Tensor = type(empty(0))

Given = TypeVar("Given")


class Call(NamedTuple):
    """One line of the tape."""

    module: Module | None
    inputs: tuple  # the arguments of forward in order; what is no tensor is ignored
    output: object
    states: list  # (module, saved) of the module and all inside it, as the call left them
    impassable: str = ""  # what no gradient passes, if it passes none


class Recorded(Tensor):
    """What a call returned. Arithmetic on it while the tape is active becomes a line, and the result is Recorded; but
    what torch makes without a gradient (detach(), y > 0, zeros_like) is a plain tensor, as is all made later. What it
    is written into (`buffer += y`) gets a line, too."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        tape = RECORDER.get()
        if tape is None:
            return Tensor.__torch_function__(function, (), args, kwargs)
        inputs = tuple(leaves((args, kwargs)))
        with using(RECORDER, None):
            before = versions(inputs)
            result = Tensor.__torch_function__(function, (), args, kwargs)
            written = [tensor for tensor, old, new in zip(inputs, before, versions(inputs)) if old != new]
            written += [tensor._base for tensor in written if tensor._base is not None]  # what it is a view of
        # an attribute, y.data, comes as the `__get__` of what describes it
        name = getattr(function.__self__, "__name__", "") if function.__name__ == "__get__" else function.__name__
        constant = name in ("detach", "data") or name.startswith("new_") or name.endswith("_like")
        what = f"{name.strip('_')}(), which is no call of a module; use Add, Concat, or detach() what it is applied to"
        tape.calls += [Call(None, inputs, tensor, [], what) for tensor in written]
        return result if constant else tape.barrier(what, inputs, result)

    def backward(self, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError("Tape: a tensor has no graph of its own; after the with block call tape.backward(loss)")

    def __repr__(self, *, tensor_contents=None):
        return repr(self.detach())

    def __deepcopy__(self, memo: dict) -> Tensor:
        return self.detach().clone()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.detach().__reduce_ex__(protocol)


def leaves(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists and dicts."""
    if hasattr(value, "detach"):
        yield value
    elif isinstance(value, (tuple, list, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            yield from leaves(part)


def recorded(tensor: Tensor) -> Tensor:
    """The same numbers as an object of its own. (Tensors of other classes, such as torch's fake ones, stay theirs.)"""
    tensor = tensor.detach()
    return tensor.as_subclass(Recorded) if type(tensor) is Tensor else tensor


def plain(value: Any) -> Any:
    """What a module computes with."""
    return value.detach() if isinstance(value, Recorded) else value


class Tape:
    """Records the module calls of a `with` block; `backward` differentiates them. The module docstring explains."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        #: {id of a tensor on the tape: how often it had been written to when it came there}
        self.known: dict[int, list] = {}

    def __enter__(self) -> Tape:
        if self.calls:
            raise RuntimeError("Tape: this one has been recorded on and not read; use a new one")
        self.token = RECORDER.set(self)
        return self

    def __exit__(self, *error: object) -> None:
        RECORDER.reset(self.token)

    def record(self, module: Module, inputs: tuple, options: dict[str, Any]) -> Any:
        """forward of `module`, written down; `Module.__call__` comes here while the tape is active."""
        if module.training and type(module).backward is Module.backward:
            return module.forward(*inputs, **options)
        before = self.unchanged((*inputs, *options.values()), f"{module.name()} got") if module.training else {}
        with using(RECORDER, None):
            output = module.forward(*map(plain, inputs), **{name: plain(value) for name, value in options.items()})
        if not module.training:
            what = f"{module.name()} in eval mode, which saved nothing; call its train(), or detach() its result"
            return self.barrier(what, tuple(leaves((inputs, options))), output)
        if not hasattr(output, "detach"):
            raise RuntimeError(f"Tape: expected one tensor from {module.name()}, got {type(output).__name__}")
        output = recorded(output)  # an object of its own, even if forward returned one of its inputs
        bound = signature(module.forward).bind(*inputs, **options)
        bound.apply_defaults()  # else `args` ends before the first argument that is not given
        if any(hasattr(value, "detach") for value in bound.kwargs.values()):
            raise RuntimeError(f"Tape: {module.name()} takes a tensor by keyword alone; give `forward` positional ones")
        self.calls.append(Call(module, bound.args, output, states(module)))
        module.release()
        self.known.update({**before, id(output): versions([output])})
        return output

    def barrier(self, what: str, inputs: tuple, result: Any) -> Any:
        """`result`, with a line that no gradient passes for each tensor of it that could have one."""
        if isinstance(result, (tuple, list)) and any(hasattr(part, "detach") for part in result):
            return type(result)([self.barrier(what, inputs, part) for part in result])
        if not hasattr(result, "detach") or not result.is_floating_point() or any(result is input for input in inputs):
            return result
        result = recorded(result)
        self.calls.append(Call(None, inputs, result, [], what))
        return result

    def unchanged(self, values: Iterable[Any], what: str) -> dict[int, list]:
        """{id of each tensor among `values`: how often it has been written to}. Raises RuntimeError if that has changed
        since a call first read or made it."""
        now = {id(value): versions([value]) for value in values if hasattr(value, "detach")}
        if any(self.known.get(key, number) != number for key, number in now.items()):
            raise RuntimeError(f"Tape: {what} a tensor that was written in place since another call made or read it; "
                               "use what the in-place layer returned")  # fmt: skip
        return now

    def backward(
        self,
        outputs: Tensor | Sequence[Tensor],
        grad_outputs: Tensor | Sequence[Tensor | None] | None = None,
        inputs: Tensor | Sequence[Tensor] = (),
    ) -> list[Tensor | None]:
        """Add to all parameters' gradients; return those of the tensors `inputs`, None where outputs do not depend.

        `outputs`, `grad_outputs` and `inputs` are a tensor each or lists of them; a missing gradient of a single number
        is 1. Raises RuntimeError if there is nothing to differentiate: no such output on the tape (any more), no
        parameters before it; and where a needed gradient does not exist.
        """
        inputs, outputs = listed(inputs), listed(outputs)
        upstream = [None] * len(outputs) if grad_outputs is None else listed(grad_outputs)
        self.unchanged(outputs, "backward got")
        pairs = [call.module.param() if call.module else [] for call in self.calls]
        own = {id(parameter): gradient for parameter, gradient in chain(*pairs)}  # may be inputs, too: of a penalty
        kept = {*map(id, inputs), *own}
        needed = self.needed(kept, pairs)
        gradients: dict[int, Tensor] = {}
        for output, gradient in zip(outputs, upstream, strict=True):
            if id(output) not in needed:
                raise RuntimeError("Tape: this output has no gradient. Was it made inside the with block, from "
                                   "parameters, by calls (net(x), not net.forward(x)) of modules in training mode that "
                                   "have a backward? Was backward called before?")  # fmt: skip
            add(gradients, output, one(output) if gradient is None else gradient)
        self.check_barriers(gradients, needed)
        self.known = {}
        with using(RECORDER, None), using(LAST, True):
            while self.calls:
                call = self.calls.pop()
                key = id(call.output)
                gradient = gradients.get(key) if key in kept else gradients.pop(key, None)
                if gradient is not None:
                    differentiate(call, gradient, needed, gradients)
        for key in own.keys() & gradients.keys():
            own[key].add_(gradients[key])
        return [gradients.get(id(tensor)) for tensor in inputs]

    def needed(self, wanted: set[int], pairs: Sequence[Sequence[object]]) -> set[int]:
        """The ids of all tensors whose gradient leads to a parameter or to one of `wanted`. pairs: of each call."""
        needed = set(wanted)
        for call, own in zip(self.calls, pairs, strict=True):
            if own or not needed.isdisjoint(map(id, call.inputs)):
                needed.add(id(call.output))
        return needed

    def check_barriers(self, outputs: Iterable[int], needed: set[int]) -> None:
        """Raises RuntimeError where a gradient would have to pass a line that is no call in training mode."""
        reached = set(outputs)
        for call in reversed(self.calls):
            through = needed.intersection(map(id, call.inputs)) if id(call.output) in reached else ()
            if through and call.impassable:
                raise RuntimeError(f"Tape: no gradient passes {call.impassable}")
            reached.update(through)


def listed(tensors: Tensor | Sequence[Given]) -> Sequence[Tensor | Given]:
    """One tensor as a list; lists as they are."""
    return [tensors] if isinstance(tensors, Tensor) else tensors


def differentiate(call: Call, gradient: Tensor, needed: set[int], gradients: dict[int, Tensor]) -> None:
    """The chain rule for one call: from the gradient of its output to those of its inputs and parameters."""
    assert call.module is not None, "a barrier, which `check_barriers` lets nobody reach"
    with restored(call.states):
        if needed.isdisjoint(map(id, call.inputs)):
            call.module.accumulate(gradient)
            return
        found = call.module.backward(gradient)
    found = found if isinstance(found, (tuple, list)) else (found,)
    if not needed.isdisjoint(map(id, call.inputs[len(found) :])):
        raise RuntimeError(f"Tape: {call.module.name()} gives no gradient for input {len(found)} (counted from 0), "
                           "which needs one; detach() it if it is a constant, such as a target")  # fmt: skip
    for tensor, part in zip(call.inputs, found):
        if part is not None and id(tensor) in needed:
            add(gradients, tensor, part)


def add(gradients: dict[int, Tensor], tensor: Tensor, part: Tensor) -> None:
    """Add to the gradient of a tensor, without writing into what a module returned."""
    known = gradients.get(id(tensor))
    gradients[id(tensor)] = part.detach() if known is None else known + part.detach()


def one(output: Tensor) -> Tensor:
    """The gradient of a single number with respect to itself."""
    if output.numel() != 1:
        raise RuntimeError(f"Tape: expected grad_outputs for an output of shape {tuple(output.shape)}")
    return output.new_ones(output.shape)
