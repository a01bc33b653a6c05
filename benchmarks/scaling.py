"""How training scales over processes: measured for 1 and 2 here, predicted for more machines by a model.

    python benchmarks/scaling.py [prescribed] [rednet] [--batch 256] [--out docs/results/scaling.md]

The step is that of the denoiser's recipe; its optimiser's part, every process does in full. The model: a step of P
processes takes the measured time of one process on its share of the minibatch, plus a ring all-reduce of S bytes:
2 (P - 1) messages of S / P bytes, each a latency and its bytes over the bandwidth (Thakur, Rabenseifner & Gropp 2005,
section 4.4). It leaves out that processes wait for the slowest.
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
from others.model import Model, architectures
from others.training import train_step
from others.training.run import OPTIMIZERS
from others.training.workers import ALONE, joined

LATENCY, BANDWIDTH = 50e-6, 10e9 / 8  # seconds a message, bytes a second: 10 Gbit/s Ethernet
STEPS = 5  # of which the median counts


def seconds_per_step(denoiser, batch, workers=ALONE):
    """Median time of a training step on this process's share of `batch` images of 32 x 32, one thread; and the bytes
    that a step sums over the processes."""
    torch.set_num_threads(1)
    model, times = Model(denoiser, device="cpu"), []
    network, recipe = model.network.train(), model.recipe()._replace(lr=0.0)
    optimizer = OPTIMIZERS[recipe.optimizer](network.param(), recipe)
    images = torch.randint(0, 256, (max(1, batch // workers.size), 3, 32, 32), dtype=torch.uint8)
    for _ in range(STEPS + 1):
        started = time.perf_counter()
        train_step(network, optimizer, images, images, recipe, workers=workers)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[STEPS // 2], 4 * (sum(p.numel() for p in network.parameters()) + 2)


def all_reduce(processes, size):
    """Seconds of a ring all-reduce of `size` bytes."""
    return 2 * (processes - 1) * (LATENCY + size / processes / BANDWIDTH)


def measured(denoiser, batch, processes):
    """Seconds per step of real processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.NamedTemporaryFile("r") as file:
        torchrun = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
        command = [sys.executable, *torchrun, __file__, denoiser, "--batch", str(batch), "--inside", file.name]
        subprocess.run(command, check=True)
        return float(file.read())


def inside(denoiser, batch, out):
    """One of the processes."""
    with joined() as workers:
        seconds, _ = seconds_per_step(denoiser, batch, workers)
        if workers.rank == 0:
            out.write_text(str(seconds))


def table(denoiser, batch):
    alone, size = seconds_per_step(denoiser, batch)
    yield f"{denoiser}, minibatches of {batch}, {size / 2**20:.1f} MiB of gradients a step, one thread a process:"
    yield ""
    yield "| processes | ms a step | images/s | efficiency | |"
    yield "|---|---|---|---|---|"
    for processes, seconds, how in rows(denoiser, batch, alone, size):
        efficiency = alone / processes / seconds
        yield f"| {processes} | {1000 * seconds:.1f} | {batch / seconds:.0f} | {efficiency:.0%} | {how} |"
    yield ""


def rows(denoiser, batch, alone, size):
    yield 1, alone, "measured"
    yield 2, measured(denoiser, batch, 2), "measured, one machine"
    for processes in (8, 16, 32, 64):
        share, _ = seconds_per_step(denoiser, max(1, batch // processes))
        yield processes, share + all_reduce(processes, size), "predicted, a machine each"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("denoiser", nargs="*", default=list(architectures()))
    parser.add_argument("--batch", type=int, default=256, help="of all processes together: 4 images for each of 64")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return inside(args.denoiser[0], args.batch, args.inside)
    text = "\n".join(line for denoiser in args.denoiser for line in table(denoiser, args.batch))
    print(text)
    if args.out:
        args.out.write_text("# Scaling\n\nWritten by `benchmarks/scaling.py`, which states the model. Predictions "
                            "assume 10 Gbit/s and 50 microseconds a message; none was tried on several machines.\n\n"
                            f"{text}")  # fmt: skip


if __name__ == "__main__":
    main()
