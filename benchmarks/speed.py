"""Time training steps and predictions against torch.nn.

    python benchmarks/speed.py [--rows TEXT] [--rounds 3] [--seconds 1] [--out FILE] [--figure FILE]

Variants: `ours`; `nchw` and `channels_last`, torch.nn with autograd and torch.optim.SGD in the two memory formats;
`unfold`, the same layers written with torch's unfold and fold as most students write them. Each runs in processes of
its own, in turn, as a training does: where torch's backward has run, its threads go on spinning on the other core, and
what is timed next in that process pays for it. A figure is the median over processes of each one's median call; ratios
are to the better of torch's formats, which the first round finds. "busy" is the same ratio with another program on one
core. In bf16 torch runs under autocast. Before anything is timed, our gradients are compared with torch's.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn as theirs
from torch.nn.functional import fold, unfold

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from others import denoiser, denoiser_bonus, nn
from others.check_denoiser import memory_of
from others.evaluation import figures

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


# ------------------------------------------------------------------------------------------------------ networks


def upsampling_network(channels):
    network = nn.Sequential(
        nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 3, 2, 1), nn.ReLU(inplace=True),
        nn.UpsamplingConv2d(channels, channels), nn.ReLU(inplace=True),
        nn.UpsamplingConv2d(channels, 3), nn.Sigmoid(),
    )  # fmt: skip
    network.multiple = 4
    return network


def four_layers(channels, **sizes):
    """S3's network: all four layers with the same kernel, stride, padding and dilation."""
    half, quarter = channels
    network = nn.Sequential(
        nn.Conv2d(3, half, **sizes), nn.ReLU(inplace=True),
        nn.Conv2d(half, quarter, **sizes), nn.ReLU(inplace=True),
        nn.TransposeConv2d(quarter, half, **sizes), nn.ReLU(inplace=True),
        nn.TransposeConv2d(half, 3, **sizes), nn.Sigmoid(),
    )  # fmt: skip
    network.multiple = 1  # whatever the stride: experiments find sizes that do not come back, and fill nothing up
    return network


NETWORKS = {
    "shipped prescribed": denoiser.Denoiser,
    "shipped RED-Net": denoiser_bonus.Denoiser,
    "RED-Net 8 x 64": lambda: denoiser_bonus.Denoiser(((64, 3, 1),) * 4),
    "prescribed k3, C=64": lambda: denoiser.Denoiser((64, 64), (3, 3)),
    "prescribed k3, C=32": lambda: denoiser.Denoiser((32, 32), (3, 3)),
    "nearest + conv3, C=64": lambda: upsampling_network(64),
}


class Case(NamedTuple):
    """What is timed, on so many images of side x side."""

    network: str
    what: str = "step"
    images: int = 32
    side: int = 32

    def __str__(self):
        return f"{self.network}, {self.what}, {self.size}"

    @property
    def size(self):
        return str(self.images) if self.side == 32 else f"{self.side} x {self.side}"


CASES = [
    Case("shipped prescribed"),
    Case("shipped prescribed", images=64),
    Case("shipped RED-Net"),
    Case("shipped RED-Net", images=64),
    Case("RED-Net 8 x 64"),
    Case("prescribed k3, C=64", images=100),
    Case("prescribed k3, C=32"),
    Case("nearest + conv3, C=64"),
    Case("shipped prescribed", "predict", 100),
    Case("shipped prescribed", "predict", 1, 512),
    Case("shipped RED-Net", "predict", 1, 512),
]


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
        network.accumulate_and_release(criterion.backward().to(dtype))
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


def made(case, variant, dtype):
    """The function to time; all variants have the same weights and input."""
    torch.manual_seed(0)
    network, shape = NETWORKS[case.network](), (case.images, 3, case.side, case.side)
    x, target = torch.rand(shape), torch.rand(shape)
    if variant in ("ours", "channels_last"):
        x, target = (image.contiguous(memory_format=torch.channels_last) for image in (x, target))
    if variant == "unfold":
        network, dtype = in_unfold(network), torch.float32
    if variant in ("nchw", "channels_last"):
        network = in_torch(network).to(memory_format=getattr(torch, variant, torch.contiguous_format))
        return torch_step(network, x, target, dtype) if case.what == "step" else torch_prediction(network, x, dtype)
    if case.what == "step":
        return our_step(network, x, target, dtype)
    network.eval()
    return lambda: network.forward(x.to(dtype))


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


def timed(function, seconds):
    """Median seconds of a call, called for about so long after three calls."""
    for _ in range(3):
        function()
    times, started = [], time.perf_counter()
    while time.perf_counter() - started < seconds or len(times) < 5:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return median(times)


def one_process(case, variant, precision, seconds):
    """Print the seconds of a call, and the most memory that making and calling it took, MiB."""
    found = []
    most = memory_of(lambda: found.append(timed(made(case, variant, PRECISIONS[precision]), seconds)))
    print(*found, most / 2**20)


class Measurement(NamedTuple):
    """Seconds of each process, and the median of their MiB."""

    seconds: list
    memory: float

    @property
    def median(self):
        return median(self.seconds)

    @property
    def spread(self):
        """How far apart processes are, as a part of their median."""
        return (max(self.seconds) - min(self.seconds)) / self.median


def measured(args, case, variants, rounds, precision="fp32", threads=None):
    """{variant: Measurement}, each round a process for each variant."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads or torch.get_num_threads())}
    found = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            command = [sys.executable, __file__, "--one", *map(str, case), variant, precision]
            command += ["--seconds", str(args.seconds)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            found[variant].append(tuple(map(float, done.stdout.split())))
    return {variant: Measurement(*(list(values), median(memories)))
            for variant, (values, memories) in ((v, zip(*each)) for v, each in found.items())}  # fmt: skip


@contextmanager
def busy():
    """Another program computes on one core."""
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


# --------------------------------------------------------------------------------------------------------- tables


def row(args, case):
    """One line of the main table, {column: value}."""
    first = measured(args, case, ("ours", "nchw", "channels_last", "unfold"), 1)
    best = better_format(first)
    pair = measured(args, case, ("ours", best), args.rounds)
    with busy():
        disturbed = measured(args, case, ("ours", best), max(1, args.rounds - 1))
    times = {name: each.median for name, each in {**first, **pair}.items()}
    return {
        "network": case.network,
        "": case.what,
        "images": case.size,
        **{f"{name}, ms": f"{1e3 * seconds:.1f}" for name, seconds in times.items()},
        "ours / torch": f"{ratio(pair, best):.2f}",
        "spread": f"{max(each.spread for each in pair.values()):.0%}",
        "busy": f"{ratio(disturbed, best):.2f}",
        "memory / torch's": f"{pair['ours'].memory / pair[best].memory:.2f}",
        "unfold / ours": f"{times['unfold'] / times['ours']:.1f}",
    }


def better_format(measured):
    """The faster of torch's two memory formats."""
    return min(("nchw", "channels_last"), key=lambda variant: measured[variant].median)


def ratio(pair, best):
    return pair["ours"].median / pair[best].median


def other_row(args, case, **how):
    """A line of a table of the shipped networks: one thread, or bf16."""
    first = measured(args, case, ("nchw", "channels_last"), 1, **how)
    best = better_format(first)
    pair = measured(args, case, ("ours", best), args.rounds, **how)
    return {
        "network": case.network,
        "": case.what,
        "images": case.size,
        "ours, ms": f"{1e3 * pair['ours'].median:.1f}",
        "torch, ms": f"{1e3 * pair[best].median:.1f}",
        "ours / torch": f"{ratio(pair, best):.2f}",
        "spread": f"{max(each.spread for each in pair.values()):.0%}",
    }


def table(rows):
    """Lines of a Markdown table, as the rows come."""
    for number, cells in enumerate(rows):
        if not number:
            yield f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}\n"
        yield f"| {' | '.join(cells.values())} |\n"


def machine():
    """The processor's name, threads and versions."""
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name")] if Path("/proc/cpuinfo").exists() else []  # fmt: skip
    name = names[0] if names else platform.processor() or platform.machine()
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name} ({capability}), {threads()}, torch {torch.__version__}, Python {platform.python_version()}"


def threads():
    return f"{torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def rates():
    """What the matrix product that the rules allow reaches, and torch's convolution, in fp32: a sentence."""
    a, b = torch.rand(4096, 1024), torch.rand(1024, 1024)
    image = torch.rand(32, 64, 32, 32).contiguous(memory_format=torch.channels_last)
    weight = torch.rand(64, 64, 3, 3).contiguous(memory_format=torch.channels_last)
    jobs = {"product": lambda: a.mm(b), "convolution": lambda: torch.conv2d(image, weight, padding=1)}
    operations = {"product": 2 * 4096 * 1024 * 1024, "convolution": 2 * 32 * 32 * 32 * 64 * 64 * 9}
    reached = {name: f"{operations[name] / timed(job, 2) / 1e9:.0f}" for name, job in jobs.items()}
    return (f"On {threads()} of this processor, in fp32, torch's matrix product runs at "
            f"{reached['product']} GFLOP/s (4096 x 1024 x 1024), its convolution at {reached['convolution']} "
            "(64 to 64 channels, 3 x 3, 32 images of 32 x 32).")  # fmt: skip


def report(args, rows):
    gpu = "" if torch.cuda.is_available() else " No GPU was at hand: nothing here was measured on one."
    cases = [case for case in CASES if args.rows in str(case)]
    shipped = [case for case in cases if "shipped" in case.network and case.images in (1, 32)]
    yield f"# Speed\n\n{machine()}; written by `benchmarks/speed.py`, which says how it measures.{gpu}\n\n"
    yield "Ratios are to the better of torch's two formats; spread: of processes; busy: with one core occupied.\n\n"
    yield f"{rates()}\n\n## fp32\n\n"
    for case in cases:
        rows[str(case)] = row(args, case)
        yield from list(table([rows[str(case)]]))[len(rows) > 1 :]
    yield "\n## bf16, against torch's autocast\n\n"
    yield from table(other_row(args, case, precision="bf16") for case in shipped if case.what == "step")
    yield "\n## One thread\n\n"
    yield from table(other_row(args, case, threads=1) for case in shipped)


def figure(rows, path):
    """Bars of ours / torch, quiet and with one core busy."""
    drawing = figures.figure_maker()(7, 0.4 * len(rows) + 1)
    axes = drawing.subplots()
    for place, (column, colour, label) in enumerate(
        (("ours / torch", "0.35", "quiet"), ("busy", "0.75", "one core busy"))
    ):
        places = [number + 0.4 * place - 0.2 for number in range(len(rows))]
        axes.barh(places, [float(each[column]) for each in rows.values()], 0.38, color=colour, label=label)
    axes.axvline(1, color="k", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("time / time of torch.nn in the better memory format (less is better)")
    axes.legend(fontsize=8)
    drawing.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="", metavar="TEXT", help="only those with this in their name")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each variant")
    parser.add_argument("--seconds", type=float, default=1, help="that each of them calls it")
    parser.add_argument("--out", type=Path, help="Markdown file for the tables")
    parser.add_argument("--figure", type=Path, help="picture of the ratios (needs matplotlib)")
    parser.add_argument("--one", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    if args.one:
        network, what, images, side, variant, precision = args.one
        return one_process(Case(network, what, int(images), int(side)), variant, precision, args.seconds)
    for name in NETWORKS:
        check(name)
    rows, text = {}, ""
    for part in report(args, rows):
        print(part, end="", flush=True)
        text += part
    if args.out:
        args.out.write_text(text)
    if args.figure:
        figure(rows, args.figure)


if __name__ == "__main__":
    main()
