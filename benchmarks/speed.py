"""Time training steps and predictions against torch.nn, and against what is done without this project's kernels.

    python benchmarks/speed.py [--networks NAME ...] [--batches 32 100] [--seconds 4] [--out RESULTS.md]

Variants, run in turn in one process: `ours`; `nchw` and `channels_last`, torch.nn with autograd and torch.optim.SGD in
the two memory formats; `unfold`, the same layers written with torch's unfold and fold as most students write them;
`products`, the matrix products of our step alone, with their own operands: the floor for any framework under the
assignment's rules. --precision bf16 compares with torch's autocast instead. --fresh times each variant in a process of
its own as well, which is what a training run is, and reports its peak memory. Before anything is timed, our gradients
are compared with torch's. Medians; ratios are ours / the better of torch's two formats.
"""

import argparse
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import nn as theirs
from torch.nn.functional import fold, unfold
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from others import denoiser, denoiser_bonus, nn

PRODUCTS = ("addmm", "mm", "bmm", "baddbmm")
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


# ------------------------------------------------------------------------------------------------------ networks


def upsampling_network(channels):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU(inplace=True),
        nn.UpsamplingConv2d(channels, channels), nn.ReLU(inplace=True),
        nn.UpsamplingConv2d(channels, 3), nn.Sigmoid(),
    )  # fmt: skip


def stride_one_network():
    layers = nn.Conv2d(3, 32, 2, 1, 1), nn.Conv2d(32, 64, 2, 1, 1), nn.TransposeConv2d(64, 32, 2, 1, 1)
    last = nn.TransposeConv2d(32, 3, 2, 1, 1)
    return nn.Sequential(*(m for layer in layers for m in (layer, nn.ReLU(inplace=True))), last, nn.Sigmoid())


NETWORKS = {
    "prescribed k3, C=9": lambda: denoiser.Denoiser((9, 9), (3, 3)),
    "prescribed k3, C=32": lambda: denoiser.Denoiser((32, 32), (3, 3)),
    "prescribed k3, C=64": lambda: denoiser.Denoiser((64, 64), (3, 3)),
    "prescribed k2, 32-64": lambda: denoiser.Denoiser((32, 64), (2, 2)),
    "prescribed k4, C=32": lambda: denoiser.Denoiser((32, 32), (4, 4)),
    "prescribed k4, C=64": lambda: denoiser.Denoiser((64, 64), (4, 4)),
    "nearest + conv3, C=32": lambda: upsampling_network(32),
    "nearest + conv3, C=64": lambda: upsampling_network(64),
    "shipped prescribed": denoiser.Denoiser,
    "stride 1, k2, 32-64-32": stride_one_network,
    "RED-Net 8 x 64": lambda: denoiser_bonus.Denoiser(((64, 3, 1),) * 4),
    "shipped RED-Net": denoiser_bonus.Denoiser,
}


class Residual(theirs.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x) + x


def in_torch(module):
    """The same network of torch.nn, with the same weights."""
    if isinstance(module, nn.Sequential):
        return theirs.Sequential(*map(in_torch, module))
    if isinstance(module, nn.Skip):
        return Residual(in_torch(module.body))
    if not isinstance(module, (nn.Conv2d, nn.TransposeConv2d, nn.UpsamplingConv2d)):
        return getattr(theirs, type(module).__name__)(**({"inplace": True} if isinstance(module, nn.ReLU) else {}))
    sizes = module.in_channels, module.out_channels, module.kernel_size
    if isinstance(module, nn.TransposeConv2d):
        layer = theirs.ConvTranspose2d(*sizes, module.stride, module.padding, module.output_padding)
    else:
        enlarged = isinstance(module, nn.UpsamplingConv2d)
        layer = theirs.Conv2d(*sizes, 1 if enlarged else module.stride, module.padding)
    layer.load_state_dict(module.state_dict())
    if isinstance(module, nn.UpsamplingConv2d):
        return theirs.Sequential(theirs.Upsample(scale_factor=module.stride), layer)
    return layer


# ------------------------------------------------------------------------------- the layers as students write them


class UnfoldConv2d(nn.Conv2d):
    accumulate = nn.Module.accumulate

    def forward(self, x):
        self.columns, self.size = unfold(x, self.kernel_size, padding=self.padding, stride=self.stride), x.shape[2:]
        y = self.weight.flatten(1) @ self.columns + self.bias.view(-1, 1)
        rows = (x.shape[2] + 2 * self.padding[0] - self.kernel_size[0]) // self.stride[0] + 1
        return y.view(*y.shape[:2], rows, -1)

    def backward(self, grad):
        grad = grad.flatten(2)
        self.weight_grad += (grad @ self.columns.transpose(1, 2)).sum(0).view_as(self.weight)
        self.bias_grad += grad.sum((0, 2))
        columns = self.weight.flatten(1).t() @ grad
        return fold(columns, self.size, self.kernel_size, padding=self.padding, stride=self.stride)


class FoldTransposeConv2d(nn.TransposeConv2d):
    accumulate = nn.Module.accumulate

    def forward(self, x):
        self.x, self.shape = x.flatten(2), x.shape
        columns = self.weight.flatten(1).t() @ self.x
        size = self.size(x, None)
        y = fold(columns, size, self.kernel_size, padding=self.padding, stride=self.stride)
        return y + self.bias.view(-1, 1, 1)

    def backward(self, grad):
        columns = unfold(grad, self.kernel_size, padding=self.padding, stride=self.stride)
        self.weight_grad += (self.x @ columns.transpose(1, 2)).sum(0).view_as(self.weight)
        self.bias_grad += grad.sum((0, 2, 3))
        return (self.weight.flatten(1) @ columns).view(self.shape)


class Repeat(nn.NearestUpsampling):
    def forward(self, x):
        self.shape = x.shape
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def backward(self, grad):
        return grad.view(*self.shape[:3], 2, self.shape[3], 2).sum((3, 5))


def in_unfold(module):
    """The same network with unfold and fold, with the same weights."""
    if isinstance(module, nn.Sequential):
        return nn.Sequential(*map(in_unfold, module))
    if isinstance(module, nn.Skip):
        return nn.Skip(in_unfold(module.body))
    if not isinstance(module, (nn.Conv2d, nn.TransposeConv2d, nn.UpsamplingConv2d)):
        return type(module)()
    sizes = module.in_channels, module.out_channels, module.kernel_size
    if isinstance(module, nn.TransposeConv2d):
        layer = FoldTransposeConv2d(*sizes, module.stride, module.padding, module.output_padding)
    else:
        enlarged = isinstance(module, nn.UpsamplingConv2d)
        layer = UnfoldConv2d(*sizes, 1 if enlarged else module.stride, module.padding)
    layer.load_state_dict(module.state_dict())
    return nn.Sequential(Repeat(2), layer) if isinstance(module, nn.UpsamplingConv2d) else layer


# ------------------------------------------------------------------------------------------------------ variants


def our_step(network, x, target, dtype):
    optimizer, criterion = nn.SGD(network.param(), 1e-4), nn.MSE()

    def step():
        optimizer.zero_grad()
        criterion.forward(network.forward(x.to(dtype)).float(), target)
        network.accumulate(criterion.backward().to(dtype))
        optimizer.step()

    return step


def torch_step(network, x, target, dtype):
    optimizer, criterion = torch.optim.SGD(network.parameters(), 1e-4), theirs.MSELoss()

    def step():
        with torch.enable_grad():
            optimizer.zero_grad()
            with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                output = network(x)
            criterion(output.float(), target).backward()
        optimizer.step()

    return step


def torch_prediction(network, x, dtype):
    def predict():
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return network(x)

    return predict


class Recorder(TorchDispatchMode):
    """Keeps the matrix products that are called, with their operands."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function._schema.name.split("::")[1].rstrip("_") in PRODUCTS:
            self.calls.append((function, [a.clone() if isinstance(a, torch.Tensor) else a for a in args], kwargs or {}))
        return function(*args, **(kwargs or {}))


def products_of(step):
    step()
    with Recorder() as recorder:
        step()

    def products():
        for function, args, kwargs in recorder.calls:
            function(*args, **kwargs)

    return products


def variants(name, shape, training, dtype):
    """{variant: function to time}, all for one network, one input and the same weights."""
    torch.manual_seed(0)
    network = NETWORKS[name]()
    last = torch.channels_last
    x, target = torch.rand(shape), torch.rand(shape)
    nhwc_x, nhwc_target = x.contiguous(memory_format=last), target.contiguous(memory_format=last)
    nchw, nhwc = in_torch(network), in_torch(network).to(memory_format=last)
    if training:
        found = {
            "ours": our_step(network, nhwc_x, nhwc_target, dtype),
            "nchw": torch_step(nchw, x, target, dtype),
            "channels_last": torch_step(nhwc, nhwc_x, nhwc_target, dtype),
            "unfold": our_step(in_unfold(network), x, target, torch.float32),
        }
    else:
        network.eval()
        unfolded = in_unfold(network)
        found = {
            "ours": lambda: network.forward(nhwc_x.to(dtype)),
            "nchw": torch_prediction(nchw, x, dtype),
            "channels_last": torch_prediction(nhwc, nhwc_x, dtype),
            "unfold": lambda: unfolded.forward(x),
        }
    return found | {"products": lambda: products_of(found["ours"])}


def check(name):
    """Raise unless our gradients are torch's (float64)."""
    network = NETWORKS[name]()
    reference, unfolded = in_torch(network).double(), in_unfold(network)
    x, target = torch.rand(4, 3, 32, 32).double(), torch.rand(4, 3, 32, 32).double()
    for candidate in (network.to(torch.float64), unfolded.to(torch.float64)):
        criterion = nn.MSE()
        criterion.forward(candidate.forward(x), target)
        candidate.backward(criterion.backward())
        reference.zero_grad()
        with torch.enable_grad():
            theirs.MSELoss()(reference(x), target).backward()
        for (_, ours), parameter in zip(candidate.param(), reference.parameters()):
            error = float((ours - parameter.grad).abs().max() / parameter.grad.abs().max())
            if error > 1e-9:
                raise SystemExit(f"{name}: gradients differ from torch's by {error:.1e} of their size")


# -------------------------------------------------------------------------------------------------------- timing


def median(values):
    return sorted(values)[len(values) // 2]


def interleaved(functions, seconds):
    """{name: median seconds}, the functions called in turn for about `seconds`."""
    for function in functions.values():
        for _ in range(2):
            function()
    times = {name: [] for name in functions}
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times["ours"]) < 5:
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def one_process(args):
    """(--variant) time one variant alone: prints median seconds and the peak memory above that of the imports, MiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    function = variants(args.networks[0], shape_of(args.batches[0]), args.training, PRECISIONS[args.precision])
    function = function[args.variant]
    for _ in range(3):
        function()
    times = []
    started = time.perf_counter()
    while time.perf_counter() - started < args.seconds or len(times) < 5:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    print(median(times), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def fresh(args, name, batch, variant, training):
    """(seconds, MiB) of one variant in a new process."""
    command = [sys.executable, __file__, "--networks", name, "--batches", str(batch), "--variant", variant,
               "--precision", args.precision, "--seconds", str(args.seconds / 2)]  # fmt: skip
    command += ["--training"] * training
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()))


def shape_of(batch):
    return (1, 3, -batch, -batch) if batch < 0 else (batch, 3, 32, 32)


def row(args, name, batch, training):
    """One line of the table."""
    functions = variants(name, shape_of(batch), training, PRECISIONS[args.precision])
    functions["products"] = functions["products"]()
    times = interleaved(functions, args.seconds)
    best = min(times["nchw"], times["channels_last"])
    what = f"{-batch} x {-batch}" if batch < 0 else str(batch)
    cells = [name, "step" if training else "predict", what, *(f"{1e3 * times[v]:.1f}" for v in times)]
    cells += [f"{times['ours'] / best:.2f}", f"{times['ours'] / times['products']:.2f}"]
    cells += [f"{times['unfold'] / times['ours']:.1f}"]
    if args.fresh:
        alone = {v: fresh(args, name, batch, v, training) for v in ("ours", "nchw", "channels_last")}
        seconds, memory = ({v: figures[i] for v, figures in alone.items()} for i in (0, 1))
        cells += [f"{seconds['ours'] / min(seconds['nchw'], seconds['channels_last']):.2f}"]
        cells += [f"{memory['ours']:.0f} / {min(memory['nchw'], memory['channels_last']):.0f}"]
    return cells


def report(args):
    header = ["network", "", "batch", "ours ms", "nchw ms", "channels_last ms", "unfold ms", "products ms",
              "ours / torch", "ours / products", "unfold / ours"]  # fmt: skip
    header += ["ours / torch, fresh process", "MiB ours / torch"] * args.fresh
    machine = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    yield f"# Speed, {args.precision}\n\n{machine}, torch {torch.__version__}, Python {platform.python_version()}; "
    yield "medians of calls in turn; `benchmarks/speed.py`.\n\n"
    yield f"| {' | '.join(header)} |\n|{'---|' * len(header)}\n"
    for name in args.networks:
        check(name)
        jobs = [(batch, True) for batch in args.batches]
        jobs += [(max(args.batches), False), (-512, False)] if name.startswith("shipped") else []
        for batch, training in jobs:
            yield f"| {' | '.join(row(args, name, batch, training))} |\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 100])
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32")
    parser.add_argument("--seconds", type=float, default=4, help="for each line of the table")
    parser.add_argument("--fresh", action="store_true", help="time each variant in its own process too")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--training", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    if args.variant:
        one_process(args)
        return
    text = ""
    for part in report(args):
        print(part, end="", flush=True)
        text += part
    if args.out:
        args.out.write_text(text)


if __name__ == "__main__":
    main()
