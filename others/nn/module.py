"""Module: the contract every block keeps, written once.

    forward(input)          computes the output and saves what backward needs (in training mode only)
    backward(grad_output)   returns the gradient of the input and ADDS to the gradients of the parameters
    accumulate(grad_output) does only the second half, for when nobody needs the gradient of the input
    param()                 the (parameter, gradient) pairs, read when called

Nothing here builds an autograd graph, whatever the global gradient mode: inputs are detached on entry. The law of
forward, backward and accumulation is Torch7's (updateOutput, updateGradInput, accGradParameters).
"""

from contextvars import ContextVar

#: The `autograd.Tape` that records module calls in this thread or task, or None.
RECORDER = ContextVar("RECORDER", default=None)


def versions(values):
    """How often each tensor among `values` has been written to. (Tensors of inference mode do not count.)"""
    return [v._version if hasattr(v, "is_inference") and not v.is_inference() else None for v in values]


class Parameters(list):
    """Tensors, as torch's parameters() gives them, with their (parameter, gradient) `pairs` for an optimiser."""

    def __init__(self, pairs):
        super().__init__(parameter for parameter, _ in pairs)
        self.pairs = pairs


class Module:
    """Base class of all blocks. A subclass implements `forward` and `backward`; the rest is inherited.

    Modules assigned as attributes are children, in the order of assignment. Parameters are plain tensors made known
    by `register`; the gradient of `weight` is the tensor `weight_grad`.
    """

    training = True
    parameter_names = ()
    saved = None  # what backward needs of the last forward; Sequential and Tape keep it call by call

    # ------------------------------------------------------------------------------------------------ computing

    def __call__(self, *inputs, **options):
        tape = RECORDER.get()
        if tape is None or not self.training:
            return self.forward(*inputs, **options)
        return tape.record(self, inputs, options)

    def forward(self, input):
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def backward(self, grad_output):
        raise NotImplementedError(f"{type(self).__name__} has no backward")

    def accumulate(self, grad_output):
        """Add to the parameters' gradients; the input's gradient is not computed where that saves work."""
        self.backward(grad_output)

    def save(self, *values):
        """Keep what backward needs; in eval mode keep nothing."""
        self.saved = (values, versions(values)) if self.training else None

    def recall(self):
        """What the last forward saved. Raises RuntimeError when there is nothing, or something wrote into it since."""
        if self.saved is None:
            hint = (
                "call forward first, once for each backward"
                if self.training
                else "call train() and forward first: eval mode saves nothing"
            )
            raise RuntimeError(f"{self.name()}: backward called before forward; {hint}")
        values, written = self.saved
        if versions(values) != written:
            raise RuntimeError(f"{self.name()}: something was written in place into a tensor that backward needs; no "
                               "in-place layer may follow, no weight change between forward and backward")  # fmt: skip
        return values

    def take(self):
        """`recall`, for the last time: nothing is saved any longer."""
        values, self.saved = self.recall(), None
        return values

    def check_dtype(self, input):
        """For layers with a weight and a description of the `expected` input: the weight's dtype, or 16-bit floats for
        a 32-bit weight. Raises RuntimeError, as torch."""
        mixed = input.is_floating_point() and input.element_size() == 2 and self.weight.element_size() == 4
        if input.dtype != self.weight.dtype and not mixed:
            raise RuntimeError(f"{self.name()}: expected input {self.expected()} of {self.weight.dtype} like the weight"
                               f", got {input.dtype}; convert the input or the layer with .to(dtype)")  # fmt: skip

    def check_gradient(self, grad_output, shape, dtype=None):
        """Raises RuntimeError unless grad_output has the output's shape, and its dtype where one is given."""
        found = tuple(grad_output.shape), grad_output.dtype
        expected = tuple(shape), dtype or grad_output.dtype
        if found != expected:
            texts = [f"{s} of {d}" if found[1] != expected[1] else str(s) for s, d in (expected, found)]
            raise RuntimeError(f"{self.name()}: expected grad_output {texts[0]}, got {texts[1]}")

    # ----------------------------------------------------------------------------------------------- parameters

    def register(self, name, tensor):
        """Make `tensor` (or None) the parameter `name`, with a gradient of zeros beside it."""
        self.__dict__[name] = tensor
        self.__dict__[f"{name}_grad"] = None if tensor is None else tensor.new_zeros(tensor.shape)
        if name not in self.parameter_names:
            self.parameter_names = (*self.parameter_names, name)

    def __setattr__(self, name, value):
        """Assigning to a parameter copies into it, so that whoever holds it (an optimiser) sees the new values."""
        if name not in self.parameter_names:
            object.__setattr__(self, name, value)
            return
        if not hasattr(value, "detach") and (value is not None or name == "weight"):
            raise TypeError(f"{self.name()}.{name}: expected a tensor, got {type(value).__name__}")
        if self.__dict__[name] is None or value is None:  # a bias is added or taken away
            self.register(name, None if value is None else value.detach().clone())
            return
        parameter, gradient, value = self.__dict__[name], self.__dict__[f"{name}_grad"], value.detach()
        if value.shape != parameter.shape:
            raise ValueError(f"{self.name()}.{name}: expected shape {tuple(parameter.shape)}, got {tuple(value.shape)}")
        if (value.dtype, value.device) == (parameter.dtype, parameter.device):
            parameter.detach().copy_(value)
        else:
            parameter.data = value.clone()
            gradient.data = gradient.to(value)

    def set_weight(self, weight):
        """Copy `weight` into the layer's weight."""
        self.weight = weight

    def set_bias(self, bias):
        """Copy `bias` into the layer's bias."""
        self.bias = bias

    def children(self):
        """(name, module) of the direct children."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Module)]

    def named_modules(self, prefix=""):
        """(dotted name, module) of this module and everything below it, each module once."""
        seen, stack = set(), [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield name, module
                stack += [(f"{name}.{child}".lstrip("."), below) for child, below in reversed(module.children())]

    def modules(self):
        """This module and everything below it."""
        return [module for _, module in self.named_modules()]

    def named_parameters(self):
        """(dotted name, tensor) of all parameters, names as in torch: "0.weight"."""
        for prefix, module in self.named_modules():
            for name in module.parameter_names:
                if getattr(module, name) is not None:
                    yield f"{prefix}.{name}".lstrip("."), getattr(module, name)

    def parameters(self):
        """All parameters, each once: a list of tensors that optimisers take, too."""
        return Parameters(self.param())

    def param(self):
        """The (parameter, gradient) pairs of this module and everything below it; [] if there are none."""
        return [
            (getattr(module, name), getattr(module, f"{name}_grad"))
            for module in self.modules()
            for name in module.parameter_names
            if getattr(module, name) is not None
        ]

    def zero_grad(self, set_to_none=False):
        """Set all gradients to zero, in place. They are never None: set_to_none is there for torch's scripts."""
        for _, gradient in self.param():
            gradient.zero_()

    # ---------------------------------------------------------------------------------------------------- state

    def train(self, mode=True):
        """Training mode: forward saves what backward needs. Any other drops what it had saved."""
        for module in self.modules():
            module.training = mode
            module.saved = module.saved if mode else None
        return self

    def eval(self):
        """Evaluation mode: forward saves nothing."""
        return self.train(False)

    def __getstate__(self):
        """What copies and pickles take along: not what the last forward saved."""
        return {**self.__dict__, "saved": None}

    def to(self, *args, **kwargs):
        """Move and convert parameters and gradients, as `Tensor.to`. The tensors stay the same objects."""
        for parameter, gradient in self.param():
            parameter.data = parameter.to(*args, **kwargs)
            gradient.data = gradient.to(*args, **kwargs)
        return self

    def state_dict(self):
        """{dotted name: tensor}, keys and layouts as in torch, so that state moves between torch.nn and us. What is
        shared stands under each of its names."""
        own = {name: getattr(self, name).detach() for name in self.parameter_names if getattr(self, name) is not None}
        for prefix, child in self.children():
            own |= {f"{prefix}.{name}": tensor for name, tensor in child.state_dict().items()}
        return own

    def load_state_dict(self, state_dict, strict=True):
        """Copy values into the parameters, in place.

        Raises RuntimeError, naming everything that does not fit, before anything is changed. With strict=False,
        missing and unexpected names are allowed; wrong shapes never are.
        """
        own = self.state_dict()
        wrong = [
            f"{name} has shape {tuple(state_dict[name].shape)}, expected {tuple(own[name].shape)}"
            for name in own
            if name in state_dict and state_dict[name].shape != own[name].shape
        ]
        if strict:
            wrong += [f"{name} is missing" for name in own if name not in state_dict]
            wrong += [f"{name} is unexpected" for name in state_dict if name not in own]
        if wrong:
            raise RuntimeError(f"{type(self).__name__}.load_state_dict: {'; '.join(wrong)}")
        for name, parameter in own.items():
            if name in state_dict:
                parameter.copy_(state_dict[name].detach())
        return self

    # --------------------------------------------------------------------------------------------------- people

    def name(self):
        """How errors call this module."""
        return repr(self) if not self.children() else type(self).__name__

    def extra_repr(self):
        """The constructor's arguments, for repr."""
        return ""

    def __repr__(self):
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.children()]
        inside = "\n  " + "\n  ".join(lines) + "\n" if lines else self.extra_repr()
        return f"{type(self).__name__}({inside})"
