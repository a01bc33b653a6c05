"""A network as an ONNX file, built node by node; needs onnx (the extra `export`).

Input `image` and output `denoised` are (N, 3, H, W), float32 in [0, 1], of any N; H and W multiples of what the
network's strides need.
"""

from __future__ import annotations

from functools import reduce, singledispatch
from typing import TYPE_CHECKING, Any

import torch

from . import nn
from .extras import install
from .nn.matching import shifts
from .nn.spectrum import CENTRE, GUESS, UNIT

if TYPE_CHECKING:
    import numpy
    from onnx import ModelProto

OPSET = 17
END = torch.iinfo(torch.int64).max  # of a Slice: up to the last


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
        return self.several(1, operator, *inputs, **attributes)[0]

    def several(self, count: int, operator: str, *inputs: str, **attributes: Any) -> list[str]:
        """Append a node -> the names of its `count` outputs."""
        outputs = [f"v{len(self.nodes)}.{number}" for number in range(count)]
        self.nodes.append(self.helper.make_node(operator, inputs, outputs, **attributes))
        return outputs

    def weight(self, tensor: torch.Tensor) -> str:
        return self.constant(tensor.float())

    def number(self, value: float) -> str:
        return self.weight(torch.tensor(value))

    def integers(self, values: int | list[int]) -> str:
        return self.constant(torch.tensor(values))

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
    return graph.add("Conv", mirrored(graph, value, module.half), fixed(module, graph), **windows(module))


@emit.register
def _(module: nn.MatchedSpectrum, graph: Graph, value: str) -> str:
    """Of blocks that differ equally from one, but for rounding, `MatchedSpectrum` may choose others."""
    around = mirrored(graph, value, module.half + module.reach)
    inner = shifted(graph, around, module.reach, module.reach, 2 * module.reach)
    own = graph.add("Conv", inner, fixed(module, graph), **windows(module))
    mean = mean_block(module, graph, around, nearest(module, graph, around, inner))
    filters = graph.weight(module.by_pixel(module.filters(torch.empty(0))))
    mean = graph.add("Transpose", graph.add("MatMul", mean, filters), perm=[0, 3, 1, 2])
    return graph.add("Concat", own, mean, axis=1)


@emit.register
def _(module: nn.InverseSpectrum, graph: Graph, value: str) -> str:
    return graph.add("ConvTranspose", value, fixed(module, graph), pads=[module.half] * 4, **windows(module))


@emit.register
def _(module: nn.Correction, graph: Graph, value: str) -> str:
    x, mean = graph.several(2, "Split", value, axis=1)
    difference, _ = described(graph, graph.add("Sub", x, mean))
    features = graph.add("Concat", *described(graph, x), *described(graph, mean), difference, axis=1)
    noise, guess, share = graph.several(3, "Split", emit(module.body, graph, features), axis=1)
    unknown = graph.add("Sub", x, graph.add("Mul", graph.add("Sigmoid", share), mean))
    noise = graph.add("Mul", graph.add("Sigmoid", noise), unknown)
    return graph.add("Neg", graph.add("Add", noise, graph.add("Mul", guess, graph.number(GUESS))))


def described(graph: Graph, x: str) -> tuple[str, str]:
    """As in `nn.spectrum`."""
    size = graph.add("Mul", graph.add("Abs", x), graph.number(UNIT))
    logarithm = graph.add("Log", graph.add("Add", size, graph.number(1)))
    return graph.add("Sub", logarithm, graph.number(CENTRE)), graph.add("Mul", logarithm, graph.add("Sign", x))


def mirrored(graph: Graph, value: str, margin: int) -> str:
    """`margin` more on each side, as in `nn.convolution`. (Pad is not defined where that is more than the image.)"""
    for axis in (2, 3):
        size = length(graph, value, axis)
        limit = graph.add("Add", size, graph.integers(margin))
        last = graph.add("Sub", size, graph.integers(1))
        period = graph.add("Max", graph.add("Add", last, last), graph.integers(1))
        place = graph.add("Range", graph.integers(-margin), limit, graph.integers(1))
        place = graph.add("Mod", place, period)
        value = graph.add("Gather", value, graph.add("Min", place, graph.add("Sub", period, place)), axis=axis)
    return value


def length(graph: Graph, value: str, axis: int) -> str:
    return graph.add("Squeeze", graph.add("Shape", value, start=axis, end=axis + 1))


def shifted(graph: Graph, value: str, down: int, right: int, less: int) -> str:
    """`less` rows and columns fewer, from these on."""
    starts, ends = [0, 0, down, right], [END, END, down - less or END, right - less or END]
    return graph.add("Slice", value, graph.integers(starts), graph.integers(ends))


def nearest(module: nn.MatchedSpectrum, graph: Graph, around: str, inner: str) -> str:
    """Indices into `shifts`: (N, count, rows, columns). Each distance is reduced before the next begins, so memory for
    one difference of images is needed, and for all distances 144 bytes a pixel (blocks of 8, reach 8)."""
    distances = []
    for down, right in shifts(module.reach):
        apart = graph.add("Sub", inner, shifted(graph, around, down, right, 2 * module.reach))
        squares = graph.add("ReduceSumSquare", apart, axes=[1])
        distances.append(graph.add("AveragePool", squares, **windows(module)))
    found = graph.add("Concat", *distances, axis=1)
    return graph.several(2, "TopK", found, graph.integers([module.count]), axis=1, largest=0, sorted=0)[1]


def mean_block(module: nn.MatchedSpectrum, graph: Graph, around: str, nearest: str) -> str:
    """(N, rows, columns, block * block * 3); similar blocks are added one after the other, to save memory."""
    pixels = graph.add("Transpose", around, perm=[0, 2, 3, 1])
    width = length(graph, pixels, 2)
    numbers = in_rows(graph, shifts(module.reach), width)
    places = graph.add("Add", graph.add("Gather", numbers, nearest), first_pixels(module, graph, pixels))
    places = graph.add("Unsqueeze", places, graph.integers([4]))
    inside = in_rows(graph, [divmod(number, module.block) for number in range(module.block**2)], width)
    pixels, blocks = graph.add("Reshape", pixels, graph.integers([-1, 3])), []
    for number in range(module.count):
        place = graph.add("Gather", places, graph.integers(number), axis=1)
        blocks.append(graph.add("Gather", pixels, graph.add("Add", place, inside)))
    total = reduce(lambda total, block: graph.add("Add", total, block), blocks)
    mean = graph.add("Div", total, graph.number(module.count))
    return graph.add("Reshape", mean, graph.integers([0, 0, 0, 3 * module.block**2]))


def in_rows(graph: Graph, places: list[tuple[int, int]], width: str) -> str:
    """(row, column) -> number of the pixel in an image of this width."""
    rows, columns = (graph.integers(list(part)) for part in zip(*places))
    return graph.add("Add", graph.add("Mul", rows, width), columns)


def first_pixels(module: nn.MatchedSpectrum, graph: Graph, pixels: str) -> str:
    """Where the places to compare with begin, of each block: (N, 1, rows, columns), numbers of pixels of all images."""
    shape = graph.add("Shape", pixels, end=3)
    total = graph.add("ReduceProd", shape, keepdims=0)
    numbers = graph.add("Reshape", graph.add("Range", graph.integers(0), total, graph.integers(1)), shape)
    end, axes, steps = 1 - module.block - 2 * module.reach, [1, 2], [module.half] * 2
    numbers = graph.add("Slice", numbers, *map(graph.integers, ([0, 0], [end, end], axes, steps)))
    return graph.add("Unsqueeze", numbers, graph.integers([1]))


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
