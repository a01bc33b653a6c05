"""Time training steps and predictions against torch.nn, and against what is done without this project's kernels.

    python benchmarks/speed.py [--networks NAME ...] [--batches 32 100] [--precision fp32 bf16] [--seconds 4]
                               [--fresh] [--scaling] [--out RESULTS.md] [--figure speed.png]

Variants, run in turn in one process: `ours`; `nchw` and `channels_last`, torch.nn with autograd and torch.optim.SGD in
the two memory formats; `unfold`, the same layers written with torch's unfold and fold as most students write them;
`products`, the matrix products of our step alone, with their own operands: the floor under this way of computing. In
bf16 torch runs under autocast, and `unfold` stays in fp32. The rate of a large copy before and after each line shows a
change of the machine. --fresh times each variant in a process of its own as well, which is what a training run is, and
reports its peak memory. --scaling times an epoch against the number of images, their size and the number of channels.
Before anything is timed, our gradients are compared with torch's. Medians; ratios are to the better of torch's two
formats.
"""

import argparse
import platform
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
from others.evaluation import figures

PRODUCTS = ("addmm", "mm", "bmm", "baddbmm")
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
    "prescribed k3, C=9": lambda: denoiser.Denoiser((9, 9), (3, 3)),
    "prescribed k3, C=32": lambda: denoiser.Denoiser((32, 32), (3, 3)),
    "prescribed k3, C=64": lambda: denoiser.Denoiser((64, 64), (3, 3)),
    "prescribed k2, 32-64": lambda: denoiser.Denoiser((32, 64), (2, 2)),
    "prescribed k4, C=32": lambda: denoiser.Denoiser((32, 32), (4, 4)),
    "prescribed k4, C=64": lambda: denoiser.Denoiser((64, 64), (4, 4)),
    "nearest + conv3, C=32": lambda: upsampling_network(32),
    "nearest + conv3, C=64": lambda: upsampling_network(64),
    "shipped prescribed": denoiser.Denoiser,
    "stride 1, k2, 32-64-32": lambda: four_layers((32, 64), kernel_size=2, stride=1, padding=1),
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
    return found


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


def timed(functions, seconds):
    """{name: median seconds}, the functions called in turn for about `seconds`, after three calls of each."""
    for function in functions.values():
        for _ in range(3):
            function()
    times = {name: [] for name in functions}
    started, rounds = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or rounds < 5:
        rounds += 1
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


def memory(entry):
    """A line of Linux's account of this process, MiB: VmRSS is held now, VmHWM the most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(entry))


def timed_and_weighed(make, seconds):
    """Print what `timed` says of the function that make() gives, and the most memory that all of it took, MiB."""
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    print(*timed({"": make()}, seconds).values(), memory("VmHWM") - before)


def one_process(args):
    """(--variant) `timed_and_weighed` for one variant alone."""
    job = args.networks[0], shape_of(args.batches[0]), args.training, PRECISIONS[args.precision[0]]
    timed_and_weighed(lambda: variants(*job)[args.variant], args.seconds)


def fresh(args, name, batch, variant, training, precision):
    """(seconds, MiB) of one variant in a new process."""
    command = [sys.executable, __file__, "--networks", name, "--batches", str(batch), "--variant", variant,
               "--precision", precision, "--seconds", str(args.seconds / 2)]  # fmt: skip
    command += ["--training"] * training
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(map(float, done.stdout.split()))


def shape_of(batch):
    """So many images of 32 x 32, or for -n one of n x n."""
    return (1, 3, -batch, -batch) if batch < 0 else (batch, 3, 32, 32)


def copy_rate():
    """GB/s of copying 64 MiB, read and written: it tells in which state the machine is (see the README)."""
    source = torch.ones(2**24)
    target = torch.empty_like(source)
    return 2 * source.nbytes / timed({"": lambda: target.copy_(source)}, 0)[""] / 1e9


def row(args, name, batch, training, precision):
    """One line of the table, as {column: value}."""
    functions = variants(name, shape_of(batch), training, PRECISIONS[precision])
    functions["products"] = products_of(functions["ours"])
    before = copy_rate()
    times = timed(functions, args.seconds)
    after = copy_rate()
    best = min(times["nchw"], times["channels_last"])
    cells = {
        "network": name,
        "": "step" if training else "predict",
        "batch": f"{-batch} x {-batch}" if batch < 0 else str(batch),
        **{f"{variant} ms": f"{1e3 * seconds:.1f}" for variant, seconds in times.items()},
        "ours / torch": f"{times['ours'] / best:.2f}",
        "products / torch": f"{times['products'] / best:.2f}",
        "ours / products": f"{times['ours'] / times['products']:.2f}",
        "unfold / ours": f"{times['unfold'] / times['ours']:.1f}",
        "copy GB/s": " to ".join(f"{rate:.0f}" for rate in (before, after)),
    }
    if args.fresh:
        alone = {v: fresh(args, name, batch, v, training, precision) for v in ("ours", "nchw", "channels_last")}
        seconds, weight = ({v: figures[i] for v, figures in alone.items()} for i in (0, 1))
        cells["ours / torch, fresh"] = f"{seconds['ours'] / min(seconds['nchw'], seconds['channels_last']):.2f}"
        cells["MiB, ours / torch"] = f"{weight['ours']:.0f} / {min(weight['nchw'], weight['channels_last']):.0f}"
    return cells


def table(rows):
    """Lines of a Markdown table, as the rows come."""
    for number, cells in enumerate(rows):
        if not number:
            yield f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}\n"
        yield f"| {' | '.join(cells.values())} |\n"


def measured(args, precision, kept):
    for name in args.networks:
        check(name)
        jobs = [(batch, True) for batch in args.batches]
        jobs += [(max(args.batches), False), (-512, False)] if name.startswith("shipped") else []
        for batch, training in jobs:
            kept.append(row(args, name, batch, training, precision))
            yield kept[-1]


# ------------------------------------------------------------------------------------------------- figures aimed at

STEP = "ours / torch", "ours / torch, fresh"  # in one warm process, in a process of its own
AIMS = [  # what, the rows it is about, {column: at most}; a row belongs to the first aim about its network and kind
    ("shipped prescribed network, step", lambda row: is_step(row, "shipped prescribed"), dict(zip(STEP, (1.0, 0.85)))),
    ("shipped RED-Net, step", lambda row: is_step(row, "shipped RED-Net"), dict(zip(STEP, (1.0, 0.9)))),
    ("upsampling networks, step", lambda row: is_step(row, "nearest"), dict(zip(STEP, (0.85, 0.7)))),
    ("other networks, step", lambda row: is_step(row, ""), dict(zip(STEP, (1.3, 1.0)))),
    ("shipped networks, prediction", lambda row: row[""] == "predict", dict.fromkeys(STEP, 1.0)),
]
AIMS_BF16 = [("every network, step", lambda row: row[""] == "step", dict.fromkeys(STEP, 1.0))]
PER_PRODUCTS, PER_UNFOLD, MEMORY = 1.25, 3, 1.0


def is_step(row, name):
    return row[""] == "step" and row["network"].startswith(name)


def aims(rows, precision):
    """Lines of a table: what was aimed at, what was reached, and what a miss would take.

    Where the products alone take longer than the aim, no saving elsewhere reaches it: they would have to run faster.
    Elsewhere it is the rest of the step, copies and calls, that would have to shrink.
    """
    left = list(rows)
    for what, concerns, limits in AIMS if precision == "fp32" else AIMS_BF16:
        mine, left = [r for r in left if concerns(r)], [r for r in left if not concerns(r)]
        for column, limit in limits.items():
            if mine and column in mine[0]:
                yield aim(f"{what}, {column}", limit, [float(r[column]) for r in mine],
                          [float(r["products / torch"]) for r in mine])  # fmt: skip
    steps = [row for row in rows if row[""] == "step"]
    yield aim("every step / its products", PER_PRODUCTS, [float(r["ours / products"]) for r in steps])
    if "MiB, ours / torch" in rows[0]:
        weights = [[float(v) for v in r["MiB, ours / torch"].split("/")] for r in rows]
        yield aim("every memory / torch's", MEMORY, [ours / theirs for ours, theirs in weights])
    wide = [r for r in steps if "C=9" not in r["network"]]
    if wide and precision == "fp32":
        reached, floors = ([float(r[f"{v} ms"]) / float(r["unfold ms"]) for r in wide] for v in ("ours", "products"))
        yield aim("time / that of unfold and fold, 32 channels or more", 1 / PER_UNFOLD, reached, floors)


def aim(what, limit, reached, floors=()):
    """One line: `reached` against `limit`; with what the products alone reach, what the misses would take."""
    missed = [(value, floor) for value, floor in zip(reached, floors) if value > limit]
    floors = [floor for _, floor in missed]
    above = [floor / limit for floor in floors if floor > limit]
    rest = [(limit - floor) / (value - floor) for value, floor in missed if floor <= limit]
    takes = [(above, "products {} times as fast and nothing beside them"), (rest, "{} of the time beside the products")]
    return {
        "aim": what,
        "at most": f"{limit:.2f}",
        "reached": span(reached),
        "met": f"{sum(value <= limit for value in reached)} of {len(reached)}",
        "products alone, of the missed": span(floors),
        "a miss would take": "; ".join(f"in {len(v)}: {words.format(span(v))}" for v, words in takes if v),
    }


def span(values):
    """From the least to the most, in words."""
    return " to ".join(dict.fromkeys(f"{end(values):.2f}" for end in (min, max) if values))


# -------------------------------------------------------------------------------------------------------- scaling


def scaling_rows(seconds):
    """How the time of our step grows, one quantity at a time, from 128 images of 32 x 32 and 32 channels."""
    for images in (128, 512, 2048):
        yield scaled("images", images, images, 32, 32, seconds)
    for size in (32, 128, 512, 2048):
        yield scaled("size", size, 1 if size > 128 else 4, size, 32, seconds)
    for channels in (16, 32, 64, 128):
        yield scaled("channels", channels, 128, 32, channels, seconds)


def scaled(what, value, images, size, channels, seconds):
    """A pass over `images` pictures in minibatches of 32 at most, prescribed network with k3."""
    command = [sys.executable, __file__, "--scaled", *map(str, (images, size, channels)), "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken, weight = map(float, done.stdout.split())
    pixels = images * size * size
    return {
        "varied": what,
        "value": str(value),
        "images": f"{images} of {size} x {size}",
        "channels": str(channels),
        "ms": f"{1e3 * taken:.1f}",
        "us per 1,000 pixels": f"{1e9 * taken / pixels:.0f}",
        "MiB": f"{weight:.0f}",
    }


def one_scale(args):
    """(--scaled) `timed_and_weighed` for a pass over the images."""
    images, size, channels = args.scaled

    def make():
        network = denoiser.Denoiser((channels, channels), (3, 3))
        batches = torch.rand(images, 3, size, size).contiguous(memory_format=torch.channels_last).split(32)
        steps = [our_step(network, batch, batch, torch.float32) for batch in batches]
        return lambda: [step() for step in steps]

    timed_and_weighed(make, args.seconds)


# --------------------------------------------------------------------------------------------------------- report


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
    reached = {name: f"{operations[name] / taken / 1e9:.0f}" for name, taken in timed(jobs, 2).items()}
    return (f"On {threads()} of this processor, in fp32, torch's matrix product runs at "
            f"{reached['product']} GFLOP/s (4096 x 1024 x 1024), its convolution at {reached['convolution']} "
            "(64 to 64 channels, 3 x 3, 32 images of 32 x 32).")  # fmt: skip


def report(args, kept):
    gpu = "" if torch.cuda.is_available() else " No GPU was at hand: nothing here was measured on one."
    yield f"# Speed\n\n{machine()}; medians of calls in turn; written by `benchmarks/speed.py`.{gpu}\n"
    yield f"{rates()}\n"
    for precision in args.precision:
        yield f"\n## {precision}\n\n"
        yield from table(measured(args, precision, kept[precision]))
        yield f"\n### Aims, {precision}\n\n"
        yield from table(aims(kept[precision], precision))
    if args.scaling:
        yield "\n## Scaling\n\nOne pass over the images, float32, prescribed network with 3 x 3 kernels.\n\n"
        yield from table(scaling_rows(args.seconds))


def figure(kept, path):
    """Bars of ours / torch and of the products' floor, float32 steps."""
    rows = kept["fp32"]
    names = [f"{row['network']}, {row['']} {row['batch']}" for row in rows]
    drawing = figures.figure_maker()(7, 0.28 * len(rows) + 1)
    axes = drawing.subplots()
    places = range(len(rows))
    axes.barh(places, [float(row["ours / torch"]) for row in rows], color="0.75", label="ours")
    floors = [float(row["products / torch"]) for row in rows]
    axes.plot(floors, places, "k|", markersize=9, markeredgewidth=2, label="its matrix products alone")
    axes.axvline(1, color="k", linewidth=0.8, linestyle="--")
    axes.set_yticks(places, names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("time / time of torch.nn in the better memory format (less is better)")
    axes.legend(fontsize=8)
    drawing.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS, metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 100])
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=["fp32"])
    parser.add_argument("--seconds", type=float, default=4, help="for each line of the table")
    parser.add_argument("--fresh", action="store_true", help="time each variant in its own process too")
    parser.add_argument("--scaling", action="store_true", help="time against images, size and channels too")
    parser.add_argument("--out", type=Path, help="Markdown file for the tables")
    parser.add_argument("--figure", type=Path, help="picture of the ratios (needs matplotlib)")
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    parser.add_argument("--training", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--scaled", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    if args.figure and "fp32" not in args.precision:
        parser.error("--figure draws the table of fp32: add it to --precision")
    if args.variant:
        return one_process(args)
    if args.scaled:
        return one_scale(args)
    kept = {precision: [] for precision in args.precision}
    text = ""
    for part in report(args, kept):
        print(part, end="", flush=True)
        text += part
    if args.out:
        args.out.write_text(text)
    if args.figure:
        figure(kept, args.figure)


if __name__ == "__main__":
    main()
