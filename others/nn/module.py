"""Module: the contract every block keeps, written once.

    forward(input)          computes the output and saves what backward needs (in training mode only)
    backward(grad_output)   returns the gradient of the input and ADDS to the gradients of the parameters
    accumulate(grad_output) does only the second half, for when nobody needs the gradient of the input
    param()                 the (parameter, gradient) pairs, read when called

One law for layers and containers: what forward saved stays until the next forward, `release` or `eval`. So backward may
be called again, and adds again, as torch does with retain_graph. A training loop that goes backward once calls
`accumulate_and_release`: memory falls on the way back. What backward needs goes through `save`: a module that is called
in several places is put back into the state of each call.

Nothing here builds an autograd graph, whatever the global gradient mode: inputs are detached on entry. The law of
forward, backward and accumulation is Torch7's (updateOutput, updateGradInput, accGradParameters).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, dtype, memory_format
    from typing_extensions import Self

#: The `autograd.Tape` that records module calls in this thread or task, or None.
RECORDER: ContextVar[Any] = ContextVar("RECORDER", default=None)
#: Whether this backward is the last one, and `restored` gives away what it puts back.
LAST = ContextVar("LAST", default=False)


@contextmanager
def using(variable: ContextVar, value: Any) -> Iterator[None]:
    """A context variable has this value inside."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def versions(values: Iterable[Any]) -> list[int | None]:
    """How often each tensor among `values` has been written to. (Tensors of inference mode do not count.)"""
    return [v._version if hasattr(v, "is_inference") and not v.is_inference() else None for v in values]


def states(module: Module) -> list[tuple[Module, Any]]:
    """What the module and all below it have saved: (module, saved) pairs, which `restored` puts back."""
    return [(below, below.saved) for below in module.modules()]


@contextmanager
def restored(kept: list[tuple[Module, Any]]) -> Iterator[None]:
    """Inside, the modules are in the states `kept`; afterwards in those they were in before. The last time (`LAST`) the
    list is emptied and the modules end with nothing, so that whatever has been used is freed."""
    last = LAST.get()
    before = [(module, None if last else module.saved) for module, _ in kept]
    put(kept)
    if last:
        kept.clear()
    try:
        yield
    finally:
        put(before)


def put(kept: Iterable[tuple[Module, Any]]) -> None:
    for module, saved in kept:
        module.saved = saved


class Parameters(list["Tensor"]):
    """Tensors, as torch's parameters() gives them, with their (parameter, gradient) `pairs` for an optimiser."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__(parameter for parameter, _ in pairs)
        self.pairs = pairs


class Module:
    """Base class of all blocks. A subclass implements `forward` and `backward`; the rest is inherited.

    Modules assigned as attributes, alone or in lists, tuples and dicts, are children, in the order of assignment.
    Parameters are plain tensors made known by `register`; the gradient of `weight` is the tensor `weight_grad`, from
    the first backward on `weight.grad` too, for torch's optimisers and clipping. (A parameter that requires grad keeps
    its `grad` for torch.) A class may also just override `param`, as in the assignment; torch's optimisers do not see
    the gradients of those parameters.
    """

    training = True
    parameter_names: tuple[str, ...] = ()
    saved = None  # what backward needs of the last forward; containers and Tape keep it call by call (`states`)

    # ------------------------------------------------------------------------------------------------ computing

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        tape = RECORDER.get()
        return self.forward(*inputs, **options) if tape is None else tape.record(self, inputs, options)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, grad_output: Tensor) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no backward; write one, or call it in `with nn.Tape() as "
                                  "tape`, then tape.backward(loss)")  # fmt: skip

    def accumulate(self, grad_output: Tensor) -> None:
        """Add to the parameters' gradients; the input's gradient is not computed where that saves work."""
        self.backward(grad_output)

    def accumulate_and_release(self, grad_output: Tensor) -> None:
        """`accumulate`, for the last time after this forward: what it saved is dropped as soon as it has been used."""
        with using(LAST, True):
            self.accumulate(grad_output)
        self.release()

    def save(self, *values: Any) -> None:
        """Keep what backward needs; in eval mode keep nothing. Raises RuntimeError while a Tape records: it does not
        see a forward that is not called through the module."""
        if self.training and RECORDER.get() is not None:
            raise RuntimeError(f"{self.name()}: forward was called inside a Tape's block, which records calls alone; "
                               "write module(input), not module.forward(input)")  # fmt: skip
        self.saved = (values, versions(values)) if self.training else None

    def recall(self) -> tuple:
        """What the last forward saved. Raises RuntimeError when there is nothing, or something wrote into it since."""
        if self.saved is None and not self.training:
            raise RuntimeError(f"{self.name()}: backward called in eval mode, in which forward saves nothing; call "
                               "network.train() once, then forward and backward")  # fmt: skip
        if self.saved is None:
            raise RuntimeError(f"{self.name()}: backward called before forward, or after what it saved was released; "
                               "call forward first, which keeps it by self.save(...)")  # fmt: skip
        for name in self.parameter_names:
            self.check_shape(name)
        values, written = self.saved
        if versions(values) != written:
            raise RuntimeError(f"{self.name()}: something was written in place into a tensor that backward needs; no "
                               "in-place layer may follow, no weight change between forward and backward")  # fmt: skip
        return values

    def release(self) -> None:
        """Drop what forward saved, here and below: memory, for whoever needs no further backward."""
        for module in self.modules():
            module.saved = None

    def check_parameters(self, input: Tensor, outputs: int) -> None:
        """Raises RuntimeError, as torch, unless weight and bias (`outputs` numbers, or None) have the shapes they were
        made with, and bias and input the weight's dtype. 16-bit floats may meet a 32-bit weight. The layer's `expected`
        describes its input."""
        self.check_shape("weight")
        if self.bias is not None and (self.bias.dtype, *self.bias.shape) != (self.weight.dtype, outputs):
            raise RuntimeError(f"{self.name()}: expected bias ({outputs},) of {self.weight.dtype} like the weight, got "
                               f"{tuple(self.bias.shape)} of {self.bias.dtype}")  # fmt: skip
        mixed = input.is_floating_point() and input.element_size() == 2 and self.weight.element_size() == 4
        if input.dtype != self.weight.dtype and not mixed:
            raise RuntimeError(f"{self.name()}: expected input {self.expected()} of {self.weight.dtype} like the weight"
                               f", got {input.dtype}; convert the input or the layer with .to(dtype)")  # fmt: skip

    def check_gradient(self, grad_output: Tensor, shape: Sequence[int], dtype: dtype | None = None) -> None:
        """Raises RuntimeError unless grad_output has the output's shape, and its dtype where one is given; TypeError
        for what is no tensor."""
        if not hasattr(grad_output, "detach"):
            raise TypeError(f"{self.name()}: expected a tensor as grad_output, got {type(grad_output).__name__}; the "
                            "backward of what comes after it is to return the gradient of its input")  # fmt: skip
        found = tuple(grad_output.shape), grad_output.dtype
        expected = tuple(shape), dtype or grad_output.dtype
        if found != expected:
            texts = [f"{s} of {d}" if found[1] != expected[1] else str(s) for s, d in (expected, found)]
            raise RuntimeError(f"{self.name()}: expected grad_output {texts[0]}, got {texts[1]}")

    # ----------------------------------------------------------------------------------------------- parameters

    def register(self, name: str, tensor: Tensor | None) -> None:
        """Make `tensor` (or None) the parameter `name`, with a gradient of zeros beside it. Raises RuntimeError, as
        torch, unless it is floating-point."""
        if tensor is not None:
            self.check_floating(name, tensor)
        self.__dict__[name] = tensor
        gradient = None
        if tensor is not None:
            gradient = tensor.new_zeros(tensor.shape)
            gradient.__dict__["registered"] = True
        self.__dict__.setdefault("_gradients", {})[name] = gradient
        self.__dict__.setdefault("_shown", set()).discard(name)
        if name not in self.parameter_names:
            self.parameter_names = (*self.parameter_names, name)

    def __getattr__(self, name: str) -> Any:
        """`weight_grad`: the gradient of the parameter `weight`, which backward asks for, so `weight.grad` shows it."""
        parameter = name.removesuffix("_grad")
        if parameter != name and parameter in self.__dict__.get("_gradients", ()):
            return self.gradient(parameter, show=True)
        said = f"{type(self).__name__!r} object has no attribute {name!r}"
        if parameter != name and parameter in self.__dict__:
            said += f"; self.register({parameter!r}, tensor) makes a parameter, with its gradient"
        raise AttributeError(said)

    def gradient(self, name: str, show: bool = False) -> Tensor | None:
        """The gradient of a parameter, always the same tensor: it follows the parameter to other dtypes and devices,
        and once shown as `parameter.grad` what is done to that: None, from torch's zero_grad, means zero."""
        parameter, gradient = self.__dict__[name], self._gradients[name]
        if parameter is None:
            return None
        self.check_shape(name)
        own = not parameter.requires_grad and not parameter.is_inference()  # else autograd writes grad, or nobody can
        shown = parameter.grad if own else None
        if hasattr(shown, "registered"):  # ours; or another module's, which has registered the same tensor: shared
            gradient = self._gradients[name] = shown
            self._shown.add(name)
        if (gradient.dtype, gradient.device) != (parameter.dtype, parameter.device):
            gradient.data = gradient.to(parameter)
        if own and shown is not gradient:
            if shown is not None:
                gradient.copy_(shown.detach())
            elif name in self._shown:
                gradient.zero_()
            if show:
                self._shown.add(name)
                parameter.grad = gradient
        return gradient

    def check_floating(self, name: str, tensor: Tensor) -> None:
        """Raises RuntimeError for integers and complex numbers, which have no gradient here."""
        if not tensor.is_floating_point():
            raise RuntimeError(f"{type(self).__name__}.{name}: expected a floating-point tensor, got {tensor.dtype}")

    def check_shape(self, name: str) -> None:
        """Raises RuntimeError for a parameter that `.data` gave another shape than it was made with."""
        parameter, gradient = self.__dict__[name], self._gradients[name]
        if parameter is not None and parameter.shape != gradient.shape:
            raise RuntimeError(f"{self.name()}: expected {name} {tuple(gradient.shape)}, got {tuple(parameter.shape)}; "
                               "another shape needs a new layer")  # fmt: skip

    def __setattr__(self, name: str, value: Any) -> None:
        """A parameter or its gradient takes the values and stays the same tensor: who holds it (an optimiser) sees them
        (`assign`, `assign_gradient`). Anything else is an attribute like any other."""
        if name in self.parameter_names:
            self.assign(name, value)
        elif (parameter := name.removesuffix("_grad")) in self.parameter_names:
            self.assign_gradient(parameter, value)
        else:
            object.__setattr__(self, name, value)

    def assign_gradient(self, name: str, value: Tensor | None) -> None:
        """Copy `value` into the gradient of a parameter; None means zero, as for torch's optimisers."""
        gradient = self.gradient(name, show=True)
        if gradient is None and value is not None:
            raise AttributeError(f"{self.name()}.{name}: None has no gradient")
        if gradient is not None and value is not gradient:
            gradient.zero_() if value is None else gradient.copy_(value.detach())

    def assign(self, name: str, value: Tensor | None) -> None:
        """Copy `value` into a parameter; None takes a bias away. Raises TypeError for what is no tensor, RuntimeError
        for one that is not floating-point, ValueError for another shape."""
        if not hasattr(value, "detach") and (value is not None or name == "weight"):
            raise TypeError(f"{self.name()}.{name}: expected a tensor, got {type(value).__name__}")
        if self.__dict__[name] is None or value is None:  # a bias is added or taken away
            self.register(name, None if value is None else value.detach().clone())
            return
        self.check_floating(name, value)
        parameter, shape, value = self.__dict__[name], self._gradients[name].shape, value.detach()
        if value.shape != shape:
            raise ValueError(f"{self.name()}.{name}: expected shape {tuple(shape)}, got {tuple(value.shape)}")
        if (value.dtype, value.device, shape) == (parameter.dtype, parameter.device, parameter.shape):
            parameter.detach().copy_(value)
        else:
            parameter.data = value.clone()
            self.gradient(name)

    def set_weight(self, weight: Tensor) -> None:
        """Copy `weight` into the layer's weight."""
        self.weight = weight

    def set_bias(self, bias: Tensor | None) -> None:
        """Copy `bias` into the layer's bias."""
        self.bias = bias

    def children(self) -> list[tuple[str, Module]]:
        """(name, module) of the direct children."""
        return [found for name, value in vars(self).items() if name != "saved" for found in modules_in(name, value)]

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(dotted name, module) of this module and everything below it, each module once."""
        seen, stack = set(), [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module
                stack += [(f"{name}.{child}".lstrip("."), below) for child, below in reversed(module.children())]

    def modules(self) -> list[Module]:
        """This module and everything below it."""
        return [module for _, module in self.named_modules()]

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, tensor) of all parameters, names as in torch: "0.weight"."""
        for prefix, module in self.named_modules():
            for name, parameter in module.own_parameters().items():
                yield f"{prefix}.{name}".lstrip("."), parameter

    def own_parameters(self) -> dict[str, Tensor]:
        """{name: parameter} of this module without those below: what is registered, and what only a `param` of the
        class's own lists, by the name of its attribute, or its number in that list."""
        own = {name: getattr(self, name) for name in self.parameter_names if getattr(self, name) is not None}
        if type(self).param is not Module.param:
            below = [pair[0] for _, child in self.children() for pair in child.param()]
            known, names = set(map(id, (*own.values(), *below))), {id(v): name for name, v in vars(self).items()}
            listed = enumerate(parameter for parameter, _ in self.param())
            own |= {names.get(id(tensor), str(i)): tensor for i, tensor in listed if id(tensor) not in known}
        return own

    def parameters(self) -> Parameters:
        """All parameters, each once: a list of tensors that optimisers take, torch's too."""
        return Parameters(self.param())

    def param(self) -> list[tuple[Tensor, Tensor]]:
        """The (parameter, gradient) pairs of this module and of its children's `param`, each once; [] without any."""
        own = [(getattr(self, name), self.gradient(name)) for name in self.parameter_names]
        pairs = [(parameter, gradient) for parameter, gradient in own if gradient is not None]
        pairs += [pair for _, child in self.children() for pair in child.param()]
        return list({(id(parameter), id(gradient)): (parameter, gradient) for parameter, gradient in pairs}.values())

    def zero_grad(self, set_to_none: bool = False) -> None:
        """Set all gradients to zero, in place. They are never None: set_to_none is there for torch's scripts."""
        for _, gradient in self.param():
            gradient.zero_()

    # ---------------------------------------------------------------------------------------------------- state

    def train(self, mode: bool = True) -> Self:
        """Training mode: forward saves what backward needs. Any other drops what it had saved."""
        for module in self.modules():
            module.training = mode
        if not mode:
            self.release()
        return self

    def eval(self) -> Self:
        """Evaluation mode: forward saves nothing."""
        return self.train(False)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles take along: not what the last forward saved."""
        gradients = {name: self.gradient(name) for name in self.parameter_names}
        return {**self.__dict__, "saved": None, "_gradients": gradients}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Show gradients as `grad` again: pickled tensors come without."""
        self.__dict__.update(state)
        shown, self.__dict__["_shown"] = state.get("_shown", ()), set()
        for name in shown:
            self.gradient(name, show=True)

    def to(self, *args: Any, memory_format: memory_format | None = None, **kwargs: Any) -> Self:
        """Move and convert parameters and gradients, as `Tensor.to`. The tensors stay the same objects.

        A memory_format is for tensors of four dimensions, as in torch.nn. Raises TypeError for a dtype that is not
        floating-point. Nothing changes on an error.
        """
        tensors = [tensor for pair in self.param() for tensor in pair]
        converted = [tensor.to(*args, **kwargs) if args or kwargs else tensor for tensor in tensors]
        if memory_format is not None:
            converted = [new.to(memory_format=memory_format) if new.dim() == 4 else new for new in converted]
        for new in converted:
            if not new.is_floating_point():
                raise TypeError(f"{type(self).__name__}.to: expected a floating-point dtype, got {new.dtype}")
        for tensor, new in zip(tensors, converted):
            tensor.data = new
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """{dotted name: tensor}, keys and layouts as in torch, so that state moves between torch.nn and us. What is
        shared stands under each of its names."""
        own = {name: parameter.detach() for name, parameter in self.own_parameters().items()}
        for prefix, child in self.children():
            own |= {f"{prefix}.{name}": tensor for name, tensor in child.state_dict().items()}
        return own

    def load_state_dict(self, state_dict: dict[str, Tensor], strict: bool = True) -> Self:
        """Copy values into the parameters, in place.

        Raises TypeError for what is no dict, RuntimeError, naming everything that does not fit, before anything is
        changed. With strict=False, missing and unexpected names are allowed; wrong shapes and what is no tensor never.
        """
        if not hasattr(state_dict, "keys"):
            raise TypeError(f"{type(self).__name__}.load_state_dict: expected a dict of tensors, got "
                            f"{type(state_dict).__name__}")  # fmt: skip
        own = self.state_dict()
        wrong = [misfit(name, state_dict[name], own[name]) for name in own if name in state_dict]
        wrong = [text for text in wrong if text]
        if strict:
            wrong += [f"{name} is missing" for name in own if name not in state_dict]
            wrong += [f"{name} is unexpected" for name in state_dict if name not in own]
        if wrong:
            raise RuntimeError(f"{type(self).__name__}.load_state_dict: {'; '.join(wrong)}")
        names = [name for name in own if name in state_dict]
        values = [own[name].new_empty(own[name].shape).copy_(state_dict[name].detach()) for name in names]
        for name, value in zip(names, values):
            own[name].copy_(value)
        return self

    # --------------------------------------------------------------------------------------------------- people

    def name(self) -> str:
        """How errors call this module."""
        return repr(self) if not self.children() else type(self).__name__

    def extra_repr(self) -> str:
        """The constructor's arguments, for repr."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        inside = "\n  " + "\n  ".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inside})"


def modules_in(name: str, value: Any) -> Iterator[tuple[str, Module]]:
    """(dotted name, module) of an attribute that is one, or a list, tuple or dict with some inside."""
    if isinstance(value, Module):
        yield name, value
    elif isinstance(value, (list, tuple, dict)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from modules_in(f"{name}.{key}", part)


def misfit(name: str, value: Any, parameter: Tensor) -> str:
    """What is wrong with a value for a parameter, "" if nothing."""
    if not hasattr(value, "detach"):
        return f"{name} is a {type(value).__name__}, expected a tensor"
    fits = value.shape == parameter.shape
    return "" if fits else f"{name} has shape {tuple(value.shape)}, expected {tuple(parameter.shape)}"
