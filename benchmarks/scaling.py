"""How training scales over processes: measured for 1 and 2 here, predicted for more machines by a model.

    python benchmarks/scaling.py [prescribed] [rednet] [--batch 256] [--out docs/results/scaling.md]

Twice: a minibatch is shared out among the processes, so that each has less to do (strong scaling); every process has a
minibatch of its own (weak scaling). Efficiency is images a second and process, by those of a process alone. It
exceeds 100 % where the part of Muon's matrices that others take lasts longer than the sums.

The step is that of the denoiser's recipe. The model: a step of P processes takes the measured time of rank 0, to which
Muon's most expensive matrix falls, on its share of images and matrices, plus a ring all-reduce for each sum of a step,
of S bytes: 2 (P - 1) messages of S / P bytes, each a latency and its bytes over the bandwidth (Thakur, Rabenseifner &
Gropp 2005, section 4.4). There are two: of the gradients, and of Muon's steps, to which each process adds its own and
zeros. It leaves out that processes wait for the slowest.
"""

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.quality import DENOISERS
from others.model import Model
from others.training import train_step
from others.training.run import OPTIMIZERS
from others.training.workers import ALONE, Workers, joined

LATENCY, BANDWIDTH = 50e-6, 10e9 / 8  # seconds a message, bytes a second: 10 Gbit/s Ethernet
STEPS = 5  # of which the median counts


class First(Workers):
    """Rank 0 of `size` processes without the others: it notes the bytes of each sum."""

    def __init__(self, size):
        super().__init__()
        self.size, self.sums = size, []

    def together(self, operation, bucket):
        self.sums.append(bucket.numel() * bucket.element_size())


def seconds_per_step(denoiser, images, workers=ALONE):
    """Median time of this process's training step on its `images` of 32 x 32, one thread."""
    torch.set_num_threads(1)
    model, times = Model(denoiser, device="cpu"), []
    network, recipe = model.network.train(), model.recipe()._replace(lr=0.0)
    optimizer = OPTIMIZERS[recipe.optimizer](network.param(), recipe)
    images = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8)
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        train_step(network, optimizer, images, images, recipe, workers=workers)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[STEPS // 2]


def all_reduce(processes, size):
    """Seconds of a ring all-reduce of `size` bytes."""
    return 2 * (processes - 1) * (LATENCY + size / processes / BANDWIDTH)


def predicted(denoiser, images, processes):
    """Seconds per step of so many processes with `images` each, by the model; and the bytes of each sum of a step."""
    first = First(processes)
    seconds = seconds_per_step(denoiser, images, first)
    sums = first.sums[: len(first.sums) // (STEPS + 1)]
    return seconds + sum(all_reduce(processes, size) for size in sums), sums


def measured(denoiser, images, processes):
    """Seconds per step of real processes on this machine, with `images` each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.NamedTemporaryFile("r") as file:
        torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
        command = [sys.executable, *torchrun, __file__, denoiser, "--batch", str(images), "--inside", file.name]
        subprocess.run(command, check=True)
        return float(file.read())


def inside(denoiser, images, out):
    """One of the processes."""
    with joined() as workers:
        seconds = seconds_per_step(denoiser, images, workers)
        if workers.rank == 0:
            out.write_text(str(seconds))


def tables(denoiser, batch):
    alone, (_, sums) = seconds_per_step(denoiser, batch), predicted(denoiser, 1, 2)
    sizes = " and ".join(f"{size / 2**20:.1f} MiB" for size in sums)
    for shared in (True, False):
        how = f"a minibatch of {batch} shared out" if shared else f"{batch} images a process"
        yield f"{denoiser}, {how}, sums of {sizes} a step, one thread a process:"
        yield ""
        yield from table(batch / alone, rows(denoiser, batch, alone, shared))
        yield ""


def table(alone, rows):
    """alone: images a second of one process."""
    yield "| processes | images a process | ms a step | images/s | efficiency | |"
    yield "|---|---|---|---|---|---|"
    for processes, images, seconds, how in rows:
        rate = processes * images / seconds
        yield f"| {processes} | {images} | {1000 * seconds:.1f} | {rate:.0f} | {rate / processes / alone:.0%} | {how} |"


def rows(denoiser, batch, alone, shared):
    """(processes, images of each, seconds per step, how that is known); shared: of one minibatch."""
    yield 1, batch, alone, "measured"
    for processes in (2, 8, 16, 32, 64):
        images = max(1, batch // processes) if shared else batch
        if processes == 2:
            yield processes, images, measured(denoiser, images, processes), "measured, one machine"
        else:
            seconds, _ = predicted(denoiser, images, processes)
            yield processes, images, seconds, "predicted, a machine each"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("denoiser", nargs="*", default=DENOISERS)
    parser.add_argument("--batch", type=int, default=256, help="images: of all processes together, then of each")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return inside(args.denoiser[0], args.batch, args.inside)
    text = "\n".join(line for denoiser in args.denoiser for line in tables(denoiser, args.batch))
    print(text)
    if args.out:
        args.out.write_text("# Scaling\n\nWritten by `benchmarks/scaling.py`, which states the model. Predictions "
                            "assume 10 Gbit/s and 50 microseconds a message; none was tried on several machines. "
                            "Efficiency is images a second and process, by those of a process alone.\n\n"
                            f"{text}")  # fmt: skip


if __name__ == "__main__":
    main()
