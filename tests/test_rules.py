"""The rules of the assignment, proved: what the framework imports, which operators it runs, that it builds no graph.
And one of this project: public signatures have types."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from others import denoiser, denoiser_bonus, denoiser_camera, nn
from others.nn import choice, winograd

ROOT = Path(__file__).resolve().parents[1]
FRAMEWORK = ROOT / "others" / "nn"
FILES = sorted(FRAMEWORK.rglob("*.py"))

# ------------------------------------------------------------------------------------------------------------ imports

ALLOWED = {"torch": {"empty", "cat", "arange"}, "torch.nn.functional": {"fold", "unfold"}}
#: Module.gradient shows a gradient as `parameter.grad`, for torch's optimisers, unless autograd has the use of it.
#: `optim.paired` reads it there, for an optimiser that was given a list of tensors.
SHOWN = {"module.py": {"parameter.grad", "parameter.requires_grad"}, "optim.py": {"item.grad"}}
FORBIDDEN_NAMES = {"__import__", "eval", "exec", "import_module", "importlib"}
FORBIDDEN_ATTRIBUTES = {"autograd", "grad", "grad_fn", "requires_grad", "requires_grad_", "retain_grad",
                        "register_hook", "enable_grad", "no_grad", "set_grad_enabled", "import_module"}  # fmt: skip


def running(tree):
    """All nodes but the imports under `if TYPE_CHECKING`, which never run."""
    types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = {id(line) for node in types for line in node.body if isinstance(line, (ast.Import, ast.ImportFrom))}
    return [node for node in ast.walk(tree) if id(node) not in imports]


def forbidden(source, depth=1):
    """Everything in a file, `depth` packages below `others`, that the rules do not allow."""
    for node in running(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.split(".")[0] not in sys.stdlib_module_names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield from [ast.unparse(node)] * (node.level > depth)
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] not in sys.stdlib_module_names:
            allowed = ALLOWED.get(node.module, set())
            yield from (f"{node.module}.{a.name}" for a in node.names if a.name not in allowed)
        elif isinstance(node, ast.Name) and node.id == "TYPE_CHECKING" and isinstance(node.ctx, ast.Store):
            yield "TYPE_CHECKING set, under which imports are not looked at"
        elif isinstance(node, ast.Name) and node.id in FORBIDDEN_NAMES:
            yield node.id
        elif isinstance(node, ast.Attribute) and node.attr in FORBIDDEN_ATTRIBUTES:
            yield ast.unparse(node)


def test_all_files_are_audited():
    assert {"convolution.py", "kernels.py", "module.py", "optim.py", "autograd.py"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FRAMEWORK)))
def test_a_file_of_the_framework_imports_only_what_is_allowed(path):
    depth = len(path.relative_to(FRAMEWORK).parts)
    assert set(forbidden(path.read_text(), depth)) == SHOWN.get(path.name, set())


@pytest.mark.parametrize("module", [denoiser, denoiser_bonus, denoiser_camera], ids=lambda module: module.NAME)
def test_a_denoiser_is_built_from_the_framework_alone(module):
    assert list(forbidden(Path(module.__file__).read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "import torch",
        "import math, torch.nn as nn",
        "from torch import nn",
        "from torch import empty, zeros",
        "from torch import *",
        "from torch.nn.functional import fold, conv2d",
        "from torch.nn import functional",
        "import numpy",
        "from ..training import fit",
        "def f():\n    import torch",
        "x.requires_grad_()",
        "y = x.sum().grad_fn",
        "exec('import torch')",
        "t = __import__('torch')",
        "if TYPE_CHECKING:\n    t = exec('import torch')",
        "if TYPE_CHECKING:\n    from torch import Tensor\nelse:\n    from torch import Tensor",
        "TYPE_CHECKING = True",
        "if not TYPE_CHECKING:\n    from torch import Tensor",
    ],
)
def test_the_audit_finds_what_is_forbidden(source):
    assert list(forbidden(source))


def test_the_audit_passes_what_is_allowed():
    allowed = """
        if TYPE_CHECKING: from torch import Tensor
        import math, threading
        from collections import OrderedDict
        from torch import empty, cat, arange
        from torch.nn.functional import fold, unfold
        from . import init
        from .kernels import correlate
        y = layer.backward(x.detach().clamp_min(0))
    """
    assert list(forbidden("\n".join(line.strip() for line in allowed.splitlines()))) == []


# -------------------------------------------------------------------------------------------------------------- types


def signatures(body, inside=""):
    """(name, function) of the public functions and methods, constructors and `__call__` included."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield from signatures(node.body, f"{inside}{node.name}.")
        elif isinstance(node, ast.FunctionDef) and (node.name[0] != "_" or node.name in ("__init__", "__call__")):
            yield f"{inside}{node.name}", node


def without_types(source):
    """Names of the public functions and methods that lack the type of a parameter or of the result."""
    for name, function in signatures(ast.parse(source).body):
        given = function.args
        every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
        parameters = [each for each in every[("." in name) :] if each]  # of a method without self
        if function.returns is None or any(each.annotation is None for each in parameters):
            yield name


@pytest.mark.parametrize("path", sorted((ROOT / "others").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_public_signatures_have_types(path):
    assert list(without_types(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "def f(x) -> int: ...",
        "def f(x: int): ...",
        "def f(*, x=1) -> int: ...",
        "def f(*x, **y: int) -> None: ...",
        "class A:\n    def f(self): ...",
        "class A:\n    def __init__(self, x) -> None: ...",
    ],
)
def test_a_missing_type_is_seen(source):
    assert len(list(without_types(source))) == 1


def test_what_is_private_or_inside_a_function_needs_no_types():
    source = (
        "def f(x: int) -> int:\n    def g(y): ...\ndef _h(x): ...\nclass A:\n    def f(self, *, x: int) -> None: ..."
    )
    assert list(without_types(source)) == []


# ---------------------------------------------------------------------------------------------------------- operators

#: `empty`, `cat`, `arange`, `fold`, `unfold`, and what indexing, `data`, `to`, `matmul`, `1 - x`, float() run inside.
PARTS = {"empty", "cat", "arange", "col2im", "im2col",
         "slice", "alias", "_to_copy", "_unsafe_view", "rsub", "_local_scalar_dense"}  # fmt: skip


class Recorder(TorchDispatchMode):
    """The names of all operators that torch runs inside the `with` block."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))

    def forbidden(self):
        """Operators that are no tensor methods, nor parts of the allowed functions."""
        return {name for name in self.names if name not in PARTS and not hasattr(torch.Tensor, name)}


IMAGE = (2, 4, 6, 9)
BLOCKS = {
    "Conv2d": lambda: nn.Conv2d(4, 10, (3, 2), stride=(2, 1), padding=(1, 0)),
    "Conv2d grouped": lambda: nn.Conv2d(4, 6, 3, padding="same", groups=2),
    "Conv2d reflecting": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"),
    "Conv2d circular": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"),
    "Conv2d replicating": lambda: nn.Conv2d(4, 3, 3, padding=1, padding_mode="replicate"),
    "Conv2d of many channels": lambda: nn.Sequential(nn.Conv2d(4, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)),
    "TransposeConv2d": lambda: nn.TransposeConv2d(4, 10, (3, 4), stride=2, padding=1, output_padding=1),
    "TransposeConv2d few": lambda: nn.TransposeConv2d(4, 3, 4, stride=2, padding=1),
    "UpsamplingConv2d": lambda: nn.UpsamplingConv2d(4, 10),
    "NearestUpsampling": lambda: nn.NearestUpsampling(scale_factor=(2, 1.5)),
    "Upsample": lambda: nn.Upsample(size=(9, 7)),
    "MaxPool2d": lambda: nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
    "Linear": lambda: nn.Linear(9, 5),
    "ReLU": nn.ReLU,
    "LeakyReLU": nn.LeakyReLU,
    "ELU": nn.ELU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "Identity": nn.Identity,
    "Flatten": nn.Flatten,
    "Skip": lambda: nn.Skip(nn.Conv2d(4, 4, 3, padding=1)),
    "Concatenate": lambda: nn.Concatenate(nn.Conv2d(4, 2, 1)),
    "Sequential": lambda: nn.Sequential(nn.Conv2d(4, 5, 1, bias=False), nn.ReLU(inplace=True), nn.Conv2d(5, 4, 2)),
    "prescribed": lambda: nn.Sequential(nn.Conv2d(4, 3, 1), denoiser.Denoiser(channels=(6, 12))),
    "rednet": lambda: nn.Sequential(nn.Conv2d(4, 3, 1), denoiser_bonus.Denoiser(layers=((6, 3, 1), (12, 3, 2)))),
    "camera": lambda: nn.Sequential(nn.Conv2d(4, 3, 1), denoiser_camera.Denoiser(channels=6, blocks=1)),
    "Spectrum": lambda: nn.Sequential(nn.Conv2d(4, 3, 1), nn.Spectrum(2)),
    "InverseSpectrum": lambda: nn.Sequential(nn.Conv2d(4, 12, 1), nn.InverseSpectrum(2)),
    "MatchedSpectrum": lambda: nn.Sequential(nn.Conv2d(4, 3, 1), nn.MatchedSpectrum(2, 2, 3)),
    "Correction": lambda: nn.Correction(nn.Conv2d(10, 6, 1)),
}
TWO_INPUTS = {"MSE": nn.MSE, "L1Loss": nn.L1Loss, "Add": nn.Add, "Concat": nn.Concat}
ALL = pytest.mark.parametrize("name", [*BLOCKS, *TWO_INPUTS])


def make(name, requires_grad=False, dtype=torch.float64):
    """A block and its inputs, the same ones every time."""
    torch.manual_seed(0)
    block = (BLOCKS | TWO_INPUTS)[name]()
    shape = (2, 4, 8, 8) if name in ("prescribed", "rednet", "camera") else IMAGE
    inputs = [torch.randn(shape, dtype=dtype).requires_grad_(requires_grad) for _ in range(1 + (name in TWO_INPUTS))]
    block.to(dtype)
    for parameter in block.parameters():
        parameter.requires_grad_(requires_grad)
    return block, inputs


def life(block, inputs):
    """Everything a block does while it trains, and once in evaluation mode -> (output, gradients)."""
    output = block.forward(*inputs)
    upstream = output.detach().cos()
    gradients = block.backward(upstream)
    block.forward(*inputs)
    block.accumulate(upstream)
    for optimiser in (nn.SGD, nn.Adam, nn.Muon) if block.param() else ():
        optimiser(block, lr=0.1, weight_decay=0.1).step()
    block.zero_grad()
    block.eval().forward(*inputs)
    block.train()
    return output, gradients if isinstance(gradients, tuple) else (gradients,)


def test_every_block_is_here():
    blocks = {
        name for name in nn.__all__ if isinstance(getattr(nn, name), type) and issubclass(getattr(nn, name), nn.Module)
    }
    used = {type(module).__name__ for name in (*BLOCKS, *TWO_INPUTS) for module in make(name)[0].modules()}
    assert blocks - used == {"Module", "ConvTranspose2d", "MSELoss"}  # the base class, and second names


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@ALL
def test_only_tensor_methods_run(name, dtype, plain, monkeypatch):
    monkeypatch.setattr(choice, "PLAIN", plain)
    block, inputs = make(name, dtype=dtype)
    with Recorder() as recorder:
        life(block, inputs)
    assert recorder.forbidden() == set()
    assert recorder.names


@pytest.mark.parametrize("name", ["Conv2d", "Conv2d of many channels", "TransposeConv2d", "UpsamplingConv2d"])
def test_only_tensor_methods_run_in_winograds_way(name, monkeypatch):
    monkeypatch.setattr(choice, "TILES_BELOW", float("inf"))
    monkeypatch.setattr(choice, "PLAIN", False)
    winograd.transforms_of.cache_clear()
    block, inputs = make(name)
    with Recorder() as recorder:
        life(block, inputs)
    assert recorder.forbidden() == set()
    assert winograd.transforms_of.cache_info().currsize


def test_only_tensor_methods_run_in_mixed_precision():
    net = nn.Sequential(nn.Conv2d(4, 10, 3), nn.ReLU(), nn.TransposeConv2d(10, 4, 3), nn.Linear(9, 3), nn.Sigmoid())
    x = torch.randn(IMAGE).bfloat16()
    with Recorder() as recorder:
        life(net, [x])
    assert recorder.forbidden() == set()


def trained(layer, x):
    layer(x.requires_grad_()).square().sum().backward()


@pytest.mark.parametrize(
    "forbidden_call, operator",
    [
        (lambda x: trained(torch.nn.Conv2d(4, 3, 2), x), "convolution"),
        (lambda x: trained(torch.nn.Conv2d(4, 3, 2), x), "convolution_backward"),
        (lambda x: trained(torch.nn.ConvTranspose2d(4, 3, 2), x), "convolution"),
        (lambda x: trained(torch.nn.MaxPool2d(2), x), "max_pool2d_with_indices"),
        (lambda x: trained(torch.nn.Upsample(scale_factor=2), x), "upsample_nearest2d"),
        (lambda x: trained(torch.nn.ReLU(), x), "threshold_backward"),
        (lambda x: trained(torch.nn.Sigmoid(), x), "sigmoid_backward"),
        (lambda x: torch.nn.functional.mse_loss(x, x), "mse_loss"),
        (lambda x: torch.nn.functional.leaky_relu(x), "leaky_relu"),
    ],
)
def test_the_recorder_finds_what_is_forbidden(forbidden_call, operator):
    with Recorder() as recorder:
        forbidden_call(torch.randn(IMAGE))
    assert operator in recorder.forbidden()


# ----------------------------------------------------------------------------------------------------------- autograd


@ALL
def test_no_graph_is_built_whatever_the_grad_mode(name):
    results = []
    for grad_mode in (True, False):
        with torch.set_grad_enabled(grad_mode):
            block, inputs = make(name, requires_grad=True)
            output, gradients = life(block, inputs)
            assert torch.is_grad_enabled() is grad_mode
        found = [output, *gradients, *(tensor for pair in block.param() for tensor in pair)]
        assert all(tensor.grad_fn is None and tensor.grad is None for tensor in found)
        assert not any(tensor.requires_grad for tensor in (output, *gradients))
        assert all(tensor.is_leaf and tensor.grad is None for tensor in inputs)
        results.append([output, *gradients, *block.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_no_file_of_the_framework_prints():
    """Only what is run as a command does: the gradient checker."""
    printing = {
        path.relative_to(FRAMEWORK).parts[0] for path in FILES if re.search(r"^\s*print\(", path.read_text(), re.M)
    }
    assert printing <= {"gradcheck"}


STATE = """
import torch
def state():
    return (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), torch.get_num_threads(),
            torch.is_inference_mode_enabled(), torch.are_deterministic_algorithms_enabled(), torch.initial_seed(),
            torch.get_rng_state().tolist(), torch.backends.mkldnn.enabled)
before = state()
import others.nn
import others.nn.autograd, others.nn.kernels
assert state() == before
"""


def test_importing_changes_no_global_state_and_prints_nothing():
    done = subprocess.run([sys.executable, "-c", STATE], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
