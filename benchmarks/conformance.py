"""How far `others.nn` is torch.nn: PyTorch's own test inputs, run against our blocks, forward and backward.

    python benchmarks/conformance.py [--out docs/results/conformance.md]

Four collections of torch's test suite are read: `module_db`, `op_db`, `get_new_module_tests` with `criterion_tests`,
and `optim_db`. Every input of theirs that concerns one of our blocks is a case: it passes, fails, or is out of scope
for a stated reason. Exit status 0 only if none failed. Needs numpy, expecttest and setuptools; no network.

A case passes when the output, the gradient of the input and the gradient of every parameter have torch's shape, dtype
and values for a random upstream gradient, in training mode; when the output has, and backward is refused, in
evaluation mode; when the parameters after ten steps have, for an optimiser; and when the same type of exception is
raised, for an input that torch refuses. Functional inputs are given to the layer that holds their weight and bias.
"""

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from inspect import getclosurevars
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from others import nn  # noqa: E402

#: float64: the goal stated in the project; float32: what torch.testing.assert_close takes when not told otherwise.
TOLERANCES = {torch.float64: {"rtol": 1e-9, "atol": 1e-9}, torch.float32: {"rtol": 1.3e-6, "atol": 1e-5}}
BLOCKS = ("Conv2d", "ConvTranspose2d", "Linear", "ReLU", "LeakyReLU", "ELU", "Tanh", "Sigmoid", "MaxPool2d", "Flatten",
          "MSELoss", "L1Loss")  # fmt: skip

NOT_2D = "signals and volumes: the blocks take images, (N, C, H, W) or (C, H, W)"
NO_LAYER = "a weight that is not 4-dimensional: no layer has one, assigning it is refused before forward"
OTHER_DTYPE = (
    "dtypes other than float64 and float32: no gradients (integers), no complex images, 16 bits only as mixed precision"
)
HOW = "`foreach`, `fused`, `differentiable`: how torch computes, not what"
NAMES = "named parameters: an optimiser takes modules or (parameter, gradient) pairs"


class Case(NamedTuple):
    """One of torch's inputs. `run` raises when we do not conform; `reason` says why it is out of scope."""

    source: str
    block: str
    name: str
    run: Callable | None = None
    reason: str = ""


class Result(NamedTuple):
    case: Case
    failure: str = ""


# ------------------------------------------------------------------------------------------------------- comparing


def close(ours, theirs, what):
    """Raise AssertionError unless shape, dtype and values are the same."""
    tolerance = TOLERANCES[theirs.dtype] if theirs.is_floating_point() else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(ours, theirs, equal_nan=True, **tolerance, msg=lambda text: f"{what}: {text}")


def compare(block, reference, parameters, inputs, training=True):
    """`block` against `reference(*inputs)`, a function with the leaves `parameters`, by name."""
    input, *others = inputs
    leaf, before = input.detach().requires_grad_(), input.detach().clone()
    expected, output = listed(reference(leaf, *others)), listed(block.train(training).forward(leaf, *others))
    for ours, theirs in zip(output, expected, strict=True):
        assert not ours.requires_grad, "the output has an autograd graph"
        close(ours, theirs.detach(), "output")
    close(input.detach(), before, "input after forward")
    upstream = torch.randn_like(expected[0])
    if not training:
        return expect(lambda: block.backward(upstream), RuntimeError)
    grad_input, *grads = torch.autograd.grad(expected[0], [leaf, *parameters.values()], upstream)
    close(block.backward(upstream), grad_input, "input gradient")
    names = [name for name, _ in block.named_parameters()]
    assert sorted(names) == sorted(parameters), f"parameters {names}, expected {list(parameters)}"
    for name, gradient in zip(parameters, grads):
        close(dict(zip(names, (g for _, g in block.param())))[name], gradient, f"{name} gradient")


def listed(output):
    """A tensor, or a tuple of them -> tuple."""
    return output if isinstance(output, tuple) else (output,)


def raised(action):
    """The type of the exception that action() raises, or of the warning it gives; None if neither."""
    try:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            action()
    except Exception as error:
        return type(error)
    return given[0].category if given else None


def expect(action, expected):
    found = raised(action)
    assert expected is not None, "torch accepts this"
    assert found is expected, f"expected {expected.__name__}, got {found and found.__name__}"


# ------------------------------------------------------------------------------------------------- layers of torch


def twin_case(source, block, name, construct, inputs, training=True):
    """A case that constructs the same layer twice, `construct(namespace)`, and gives both torch's weights."""

    def run():
        theirs, ours = construct(torch.nn), construct(nn)
        theirs.to(inputs[0].dtype), ours.to(inputs[0].dtype)
        ours.load_state_dict(theirs.state_dict())
        compare(ours, theirs.train(training), dict(theirs.named_parameters()), inputs, training)

    return Case(source, block, name, run)


def module_cases():
    from torch.testing._internal.common_modules import module_db

    for info in module_db:
        block = info.module_cls.__name__
        if block not in BLOCKS:
            continue
        for dtype in info.dtypes:
            for training in (True, False):
                samples = info.module_inputs_func(info, "cpu", dtype, requires_grad=True, training=training)
                for i, sample in enumerate(samples):
                    name = f"{short(dtype)} {'train' if training else 'eval'} {i} {sample.desc}".strip()
                    yield module_case(block, name, dtype, sample, training)
        for i, error in enumerate(error_samples(info)):
            yield Case("module_db", block, f"error {i}", partial(check_module_error, block, error))


def module_case(block, name, dtype, sample, training):
    if dtype not in TOLERANCES:
        return Case("module_db", block, name, reason=OTHER_DTYPE)
    return twin_case("module_db", block, name, partial(construct, block, sample), inputs_of(sample), training)


def inputs_of(sample):
    return (*sample.forward_input.args, *sample.forward_input.kwargs.values())


def construct(block, sample, namespace):
    arguments = sample.constructor_input
    return getattr(namespace, block)(*arguments.args, **arguments.kwargs)


def error_samples(info):
    if info.module_error_inputs_func is None:
        return []
    return info.module_error_inputs_func(info, "cpu", torch.float64, requires_grad=False, training=True)


def check_module_error(block, error):
    sample = error.module_error_input
    expect(lambda: construct(block, sample, nn).forward(*inputs_of(sample)), error.error_type)


# ---------------------------------------------------------------------------------------------- functions of torch


def hold(layer, weight, bias):
    """The layer with these tensors as parameters, whatever their dtype."""
    own = isinstance(layer, nn.Module)
    for name, tensor in (("weight", weight), ("bias", bias)):
        if tensor is not None:
            setattr(layer, name, tensor if own else torch.nn.Parameter(tensor.detach(), requires_grad=False))
    return layer


def conv2d(namespace, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    layer = namespace.Conv2d(weight.shape[1] * groups, weight.shape[0], weight.shape[2:], stride, padding, dilation,
                             groups, bias is not None, dtype=torch.float64)  # fmt: skip
    return hold(layer, weight, bias)


def conv_transpose2d(namespace, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    layer = namespace.ConvTranspose2d(weight.shape[0], weight.shape[1] * groups, weight.shape[2:], stride, padding,
                                      output_padding, groups, bias is not None, dilation,
                                      dtype=torch.float64)  # fmt: skip
    return hold(layer, weight, bias)


def linear(namespace, weight, bias=None):
    return hold(namespace.Linear(*weight.shape[::-1], bias is not None, dtype=torch.float64), weight, bias)


def loss(name, namespace, target, **options):
    """A loss's second argument belongs to forward, so `target` is not used here."""
    return getattr(namespace, name)(**options)


def layer(name, namespace, *args, **options):
    return getattr(namespace, name)(*args, **options)


#: name in torch.nn.functional -> (block, namespace, *arguments behind the input -> layer)
FUNCTIONS = {
    "conv2d": ("Conv2d", conv2d),
    "conv_transpose2d": ("ConvTranspose2d", conv_transpose2d),
    "linear": ("Linear", linear),
    "interpolate": ("Upsample", partial(layer, "Upsample")),
    "upsample_nearest": ("Upsample", partial(layer, "Upsample")),
    "mse_loss": ("MSELoss", partial(loss, "MSELoss")),
    "l1_loss": ("L1Loss", partial(loss, "L1Loss")),
    **{
        name: (block, partial(layer, block))
        for name, block in (("relu", "ReLU"), ("leaky_relu", "LeakyReLU"), ("elu", "ELU"), ("sigmoid", "Sigmoid"),
                            ("tanh", "Tanh"), ("max_pool2d", "MaxPool2d"))
    },
}  # fmt: skip


def function_case(source, name, function, input, args, options, torch_function=None):
    """`torch_function(input, *args, **options)` against the layer that holds the arguments."""
    block, build = FUNCTIONS[function]
    if any(tensor.dtype not in TOLERANCES for tensor in filter(torch.is_tensor, (input, *args))):
        return Case(source, block, name, reason=OTHER_DTYPE)
    if block == "Upsample" and input.dim() != 4:
        return Case(source, block, name, reason=NOT_2D)
    call = torch_function or getattr(torch.nn.functional, function)
    return Case(source, block, name, partial(run_function, call, build, input, args, options))


def run_function(call, build, input, args, options):
    ours, inputs, parameters = build(nn, *args, **options), (input,), {}
    if isinstance(ours, nn.losses.Loss):
        inputs, args = (input, args[0].detach()), args[1:]
    else:
        leaves = [arg.detach().requires_grad_() if isinstance(arg, torch.Tensor) else arg for arg in args]
        parameters, args = dict(zip(("weight", "bias"), filter(torch.is_tensor, leaves))), leaves
    compare(ours, lambda *inputs: call(*inputs, *args, **options), parameters, inputs)


def operator_cases():
    from torch.testing._internal.common_methods_invocations import op_db

    for op in op_db:
        function = op.name.split(".")[-1]
        if function not in FUNCTIONS or op.variant_test_name not in ("", "nearest"):
            continue
        for dtype in sorted(op.dtypes, key=str):
            samples = op.sample_inputs("cpu", dtype, requires_grad=dtype in TOLERANCES)
            for i, s in enumerate(samples):
                yield function_case(
                    "op_db", f"{function} {short(dtype)} {i}", function, s.input, s.args, s.kwargs, op.op
                )
        for i, error in enumerate(op.error_inputs("cpu") if op.error_inputs_func else ()):
            yield operator_error(function, f"{function} error {i}", error.sample_input)


def operator_error(function, name, sample):
    """The type torch's own layer raises for these arguments, in its constructor or in forward."""
    block, build = FUNCTIONS[function]
    if block.startswith("Conv") and sample.args[0].dim() != 4:
        return Case("op_db", block, name, reason=NO_LAYER)
    inputs = (sample.input, *sample.args[:1]) if block.endswith("Loss") else (sample.input,)

    def attempt(namespace):
        return raised(lambda: build(namespace, *sample.args, **sample.kwargs).forward(*inputs))

    def run():
        expect(lambda: build(nn, *sample.args, **sample.kwargs).forward(*inputs), attempt(torch.nn))

    return Case("op_db", block, name, run)


# --------------------------------------------------------------------------------- torch's older tests of its layers


def new_module_cases():
    from torch.testing._internal import common_nn

    for test in common_nn.get_new_module_tests():
        name = test.get("fullname") or f"{test['module_name']} {test.get('desc') or ''}".strip()
        block = next((b for b in BLOCKS if name.split("_")[0].split()[0] == b), None)
        if block or name.startswith("interpolate_nearest"):
            input = common_nn.TestBase(
                None, **{k: v for k, v in test.items() if k not in ("constructor", "module_name")}
            )
            for dtype in TOLERANCES:
                yield new_module_case(common_nn, block, f"{name} {short(dtype)}", test, input._get_input(), dtype)
    for test in common_nn.criterion_tests:
        block = test["fullname"].split("_")[0]
        for dtype in TOLERANCES if block in BLOCKS else ():
            inputs = [torch.randn(test[size], dtype=dtype) for size in ("input_size", "target_size")]
            construct = partial(in_namespace, common_nn, test["constructor"])
            yield twin_case("common_nn", block, f"{test['fullname']} {short(dtype)}", construct, inputs)


def new_module_case(common_nn, block, name, test, input, dtype):
    if input.is_complex():
        return Case("common_nn", block, name, reason=OTHER_DTYPE)
    input, constructor = input.to(dtype), test.get("constructor")
    if constructor is None:
        construct = partial(layer, block)
        args = test.get("constructor_args", ())
        return twin_case("common_nn", block, name, lambda namespace: construct(namespace, *args), (input,))
    if not isinstance(constructor, type):
        return twin_case("common_nn", block, name, partial(in_namespace, common_nn, constructor), (input,))
    function, args, options = functional_call(common_nn, constructor, input)
    return function_case("common_nn", name, function, input, args, options)


def in_namespace(common_nn, constructor, namespace):
    """Run a constructor of torch's test file with `nn` bound to `namespace`: the import, changed."""
    with patch.object(common_nn, "nn", namespace):
        return constructor()


def functional_call(common_nn, constructor, input):
    """(name, arguments behind the input, options) of the functional call that a FunctionalModule of theirs wraps."""
    wrapped = getclosurevars(constructor.forward).nonlocals
    if wrapped["fn"] is torch.nn.functional.interpolate:
        return "interpolate", (), wrapped["kwargs"]
    calls = []

    class Listener:
        def __getattr__(self, name):
            return lambda *args, **options: calls.append((name, args[1:], options))

    with patch.object(common_nn, "F", Listener()):
        wrapped["fn"](input)
    return calls[0]


# ------------------------------------------------------------------------------------------------------ optimisers


def optimiser_cases():
    from torch.testing._internal import common_optimizers

    for info in common_optimizers.optim_db:
        block = info.optim_cls.__name__
        if block not in ("SGD", "Adam"):
            continue
        for config in common_optimizers._get_optim_inputs_including_global_cliquey_kwargs("cpu", torch.float64, info):
            flags = {key: config.kwargs.pop(key) for key in info.supported_impls if key in config.kwargs}
            for dtype in TOLERANCES:
                run = partial(compare_steps, block, config.kwargs, dtype)
                reason = HOW if any(flags.values()) else ""
                yield Case("optim_db", block, f"{config.desc} {short(dtype)}", None if reason else run, reason)
        for i, error in enumerate(info.optim_error_inputs_func("cpu", torch.float64)):
            yield optimiser_error(block, f"error {i}: {error.optimizer_error_input.desc}", error)


def compare_steps(block, options, dtype):
    """Ten steps with random gradients."""
    shapes = [(3, 4), (5,), (2, 1, 3, 3), ()]
    theirs = [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    pairs = [(tensor.detach().clone(), torch.zeros_like(tensor)) for tensor in theirs]
    ours, torchs = getattr(nn, block)(pairs, **options), getattr(torch.optim, block)(theirs, **options)
    for _ in range(10):
        for tensor, (_, gradient) in zip(theirs, pairs):
            tensor.grad = torch.randn_like(tensor)
            gradient.copy_(tensor.grad)
        ours.step(), torchs.step()
    for tensor, (parameter, _) in zip(theirs, pairs):
        close(parameter, tensor.detach(), "parameter after 10 steps")


def optimiser_error(block, name, error):
    params, options = error.optimizer_error_input.params, dict(error.optimizer_error_input.kwargs)
    if "with/without names" in name:
        return Case("optim_db", block, name, reason=NAMES)
    if options.keys() & {"foreach", "fused", "differentiable"}:
        return Case("optim_db", block, name, reason=HOW)
    params = [torch.zeros(2, 2)] if params is None else params
    construct = partial(getattr(nn, block), **options)
    return Case("optim_db", block, name, lambda: expect(lambda: construct(as_pairs(params)), error.error_type))


def as_pairs(params):
    """torch's parameters, lists of them and groups -> the same with (parameter, gradient) pairs."""
    if isinstance(params, torch.Tensor):
        return params
    if isinstance(params[0], dict):
        groups = ((group, group["params"]) for group in params)
        return [{**group, "params": as_pairs([p] if torch.is_tensor(p) else p)} for group, p in groups]
    return [(tensor, torch.zeros_like(tensor)) for tensor in params]


# --------------------------------------------------------------------------------------------------------- running


def short(dtype):
    return str(dtype).removeprefix("torch.")


def all_cases():
    """Every case, in torch's order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for cases in (module_cases(), operator_cases(), new_module_cases(), optimiser_cases()):
            yield from cases


def attempt(case):
    """Run one case. The seed is fixed, so that it fails alone as it fails in company."""
    if case.reason:
        return Result(case)
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.run()
    except Exception as error:
        return Result(case, f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])
    return Result(case)


def verdict(result):
    return "out of scope" if result.case.reason else "failed" if result.failure else "passed"


def report(results):
    """docs/results/conformance.md: the counts, every failure, everything out of scope by name."""
    counts = Counter(verdict(result) for result in results)
    tried = counts["passed"] + counts["failed"]
    return "\n".join([
        "# Conformance with PyTorch",
        "",
        f"**{counts['passed']} of {tried} cases in scope pass ({100 * counts['passed'] / max(1, tried):.1f} %)**; "
        f"{counts['out of scope']} are out of scope, listed below. torch {torch.__version__}. "
        "Written by `python benchmarks/conformance.py`; what a case is and when it passes is said there.",
        "",
        "Tolerances: " + ", ".join(f"{short(d)} rtol {t['rtol']:g}, atol {t['atol']:g}" for d, t in TOLERANCES.items())
        + ".",
        "",
        *table(results),
        *failures(results),
        *exclusions(results),
    ]) + "\n"  # fmt: skip


def table(results):
    rows = {}
    for result in results:
        rows.setdefault((result.case.source, result.case.block), Counter())[verdict(result)] += 1
    rows["all", ""] = sum(rows.values(), Counter())
    yield "| source | block | passed | failed | out of scope |"
    yield "|---|---|---:|---:|---:|"
    for (source, block), counts in rows.items():
        yield f"| {source} | {block} | {counts['passed']} | {counts['failed']} | {counts['out of scope']} |"


def failures(results):
    failed = [result for result in results if result.failure]
    if failed:
        yield from ("", "## Failed", "")
        for case, failure in failed:
            yield f"* {case.source} {case.block}, {case.name}: {failure}"


def exclusions(results):
    """One paragraph a reason, one line a source and block; runs of numbers are joined: `conv2d int64 0 .. 29`."""
    groups = {}
    for case, _ in results:
        if case.reason:
            groups.setdefault(case.reason, {}).setdefault((case.source, case.block), []).append(case.name)
    for reason, lines in groups.items():
        count = sum(len(names) for names in lines.values())
        yield from ("", f"## Out of scope: {reason} ({count})", "")
        for (source, block), names in lines.items():
            yield f"* {source} {block} ({len(names)}): {', '.join(joined(names))}"


def joined(names):
    """["a 0", "a 1", "a 2", "b"] -> ["a 0 .. 2", "b"]"""
    runs = []
    for name in names:
        stem, _, number = name.rpartition(" ")
        if runs and number.isdigit() and runs[-1][0] == stem and runs[-1][2] == int(number) - 1:
            runs[-1][2] += 1
        elif stem and number.isdigit():
            runs.append([stem, int(number), int(number)])
        else:
            runs.append([name, None, None])
    return [stem + ("" if a is None else f" {a}" if a == b else f" {a} .. {b}") for stem, a, b in runs]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/conformance.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = [attempt(case) for case in all_cases()]
    args.out.write_text(report(results))
    print("\n".join([*table(results), *failures(results)]))
    print(f"\ntorch {torch.__version__}; written to {args.out}")
    return any(result.failure for result in results)


if __name__ == "__main__":
    sys.exit(main())
