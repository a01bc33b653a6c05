"""A network as an ONNX file, built node by node; needs onnx (the extra `export`).

Input `image` and output `denoised` are (N, 3, H, W), float32 in [0, 1], of any N; H and W multiples of what the
network's strides need.
"""

from __future__ import annotations

from functools import singledispatch
from typing import TYPE_CHECKING, Any

import torch

from . import nn
from .extras import install
from .nn.spectrum import UNIT

if TYPE_CHECKING:
    import numpy
    from onnx import ModelProto

OPSET = 17


def modules() -> tuple[Any, ...]:
    """onnx's parts that are needed. Raises ImportError that says what to install."""
    try:
        from onnx import TensorProto, checker, helper, numpy_helper, reference
    except ImportError as error:
        raise ImportError(f"ONNX needs onnx: {install('export')}") from error
    return helper, numpy_helper, TensorProto, checker, reference


class Graph:
    """The nodes and weights so far; values are named by number."""

    def __init__(self) -> None:
        self.helper, self.numpy_helper, self.types, *_ = modules()
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node -> the name of its output."""
        output = f"v{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def halves(self, value: str) -> tuple[str, str]:
        """The first and the second half of the channels."""
        outputs = f"v{len(self.nodes)}", f"v{len(self.nodes)}b"
        self.nodes.append(self.helper.make_node("Split", [value], outputs, axis=1))
        return outputs

    def weight(self, tensor: torch.Tensor) -> str:
        return self.constant(tensor.float())

    def number(self, value: float) -> str:
        return self.weight(torch.tensor(value))

    def constant(self, tensor: torch.Tensor) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(self.numpy_helper.from_array(tensor.detach().cpu().contiguous().numpy(), name))
        return name


def build(network: nn.Module, about: str = "") -> ModelProto:
    """The ONNX model of a network, checked. Raises NotImplementedError for a module that has no rule here."""
    helper, _, types, checker, _ = modules()
    graph = Graph()
    graph.nodes.append(helper.make_node("Identity", [emit(network, graph, "image")], ["denoised"]))
    shapes = {"image": ["N", 3, "H", "W"], "denoised": ["N", None, None, None]}
    values = [helper.make_tensor_value_info(name, types.FLOAT, shape) for name, shape in shapes.items()]
    made = helper.make_graph(graph.nodes, "denoiser", values[:1], values[1:], graph.weights)
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opset, producer_name="noise2noise-scratch", doc_string=about)
    model.ir_version = 8
    checker.check_model(model, full_check=True)
    return model


@singledispatch
def emit(module: nn.Module, graph: Graph, value: str) -> str:
    """Add the nodes of a module that reads `value` -> the name of its output."""
    raise NotImplementedError(f"export: no ONNX rule for {type(module).__name__}")


@emit.register
def _(module: nn.Sequential, graph: Graph, value: str) -> str:
    for child in module:
        value = emit(child, graph, value)
    return value


@emit.register
def _(module: nn.Skip, graph: Graph, value: str) -> str:
    return graph.add("Add", emit(module.body, graph, value), value)


@emit.register
def _(module: nn.Concatenate, graph: Graph, value: str) -> str:
    return graph.add("Concat", emit(module.body, graph, value), value, axis=1)


@emit.register(nn.ReLU)
@emit.register(nn.Sigmoid)
@emit.register(nn.Tanh)
@emit.register(nn.Identity)
def _(module: nn.Module, graph: Graph, value: str) -> str:
    return graph.add(type(module).__name__.replace("ReLU", "Relu"), value)


@emit.register
def _(module: nn.Conv2d, graph: Graph, value: str) -> str:
    if module.padding_mode != "zeros":
        raise NotImplementedError(f"export: no ONNX rule for padding_mode {module.padding_mode!r}")
    (top, bottom), (left, right) = module.margins()
    pads = [top, left, bottom, right]
    return graph.add("Conv", value, *parameters(module, graph), pads=pads, **geometry(module))


@emit.register
def _(module: nn.TransposeConv2d, graph: Graph, value: str) -> str:
    pads = [*module.padding, *module.padding]
    return graph.add(
        "ConvTranspose",
        value,
        *parameters(module, graph),
        pads=pads,
        output_padding=list(module.output_padding),
        **geometry(module),
    )


@emit.register
def _(module: nn.Spectrum, graph: Graph, value: str) -> str:
    """H and W are to exceed half a block: ONNX does not say how to mirror further."""
    half = module.half
    value = graph.add("Pad", value, graph.constant(torch.tensor([0, 0, half, half] * 2)), mode="reflect")
    return graph.add("Conv", value, fixed(module, graph), **windows(module))


@emit.register
def _(module: nn.InverseSpectrum, graph: Graph, value: str) -> str:
    return graph.add("ConvTranspose", value, fixed(module, graph), pads=[module.half] * 4, **windows(module))


@emit.register
def _(module: nn.Correction, graph: Graph, value: str) -> str:
    size = graph.add("Mul", graph.add("Abs", value), graph.number(UNIT))
    logarithm = graph.add("Log", graph.add("Add", size, graph.number(1)))
    signed = graph.add("Mul", logarithm, graph.add("Sign", value))
    features = graph.add("Concat", graph.add("Sub", logarithm, graph.number(2)), signed, axis=1)
    noise, guess = graph.halves(emit(module.body, graph, features))
    noise = graph.add("Mul", graph.add("Sigmoid", noise), value)
    return graph.add("Neg", graph.add("Add", noise, graph.add("Mul", guess, graph.number(0.1))))


def fixed(module: nn.Spectrum | nn.InverseSpectrum, graph: Graph) -> str:
    return graph.weight(module.filters(torch.empty(0)))


def windows(module: nn.Spectrum | nn.InverseSpectrum) -> dict[str, Any]:
    return {"kernel_shape": [module.block] * 2, "strides": [module.half] * 2}


def parameters(module: nn.Conv2d | nn.TransposeConv2d, graph: Graph) -> list[str]:
    return [graph.weight(tensor) for tensor in (module.weight, module.bias) if tensor is not None]


def geometry(module: nn.Conv2d | nn.TransposeConv2d) -> dict[str, Any]:
    return {
        "kernel_shape": list(module.kernel_size),
        "strides": list(module.stride),
        "dilations": list(module.dilation),
        "group": module.groups,
    }


def run(model: ModelProto, images: torch.Tensor) -> numpy.ndarray:
    """What onnx's own reference evaluator makes of (N, 3, H, W) in [0, 1]: a numpy array."""
    reference = modules()[4]
    return reference.ReferenceEvaluator(model).run(None, {"image": images.numpy()})[0]
