"""How training scales over processes: measured for 1 and 2 here, predicted for more machines by a model.

    python benchmarks/scaling.py [--denoiser rednet] [--out benchmarks/SCALING.md]

The model: a step of P processes takes the measured time of one process on its share of the minibatch, plus a ring
all-reduce of S bytes: 2 (P - 1) messages of S / P bytes, each a latency and its bytes over the bandwidth (Thakur,
Rabenseifner & Gropp 2005, section 4.4). It leaves out that processes wait for the slowest.
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
from Miniproject_2.model import Model
from others.nn import SGD
from others.training import Recipe, train_step
from others.workers import joined

LATENCY, BANDWIDTH = 50e-6, 10e9 / 8  # seconds a message, bytes a second: 10 Gbit/s Ethernet
BATCH = 256  # of the whole: 64 processes have 4 images each


def seconds_per_step(denoiser, batch, workers=None, steps=5):
    """Median time of a training step on this process's share of `batch` images of 32 x 32, one thread."""
    torch.set_num_threads(1)
    model, options = Model(denoiser, device="cpu"), {"workers": workers} if workers else {}
    network, times = model.network.train(), []
    optimizer, count = SGD(network.param(), 0.0), batch // (workers.size if workers else 1)
    images = torch.randint(0, 256, (max(1, count), 3, 32, 32), dtype=torch.uint8)
    for _ in range(steps + 1):
        started = time.perf_counter()
        train_step(network, optimizer, images, images, Recipe(), **options)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[steps // 2], 4 * (sum(p.numel() for p in network.parameters()) + 2)


def all_reduce(processes, size):
    """Seconds of a ring all-reduce of `size` bytes."""
    return 2 * (processes - 1) * (LATENCY + size / processes / BANDWIDTH)


def measured(denoiser, processes):
    """Seconds per step of real processes on this machine."""
    with socket.socket() as free, tempfile.NamedTemporaryFile("r") as file:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}",
                   f"--master-port={port}", __file__, "--denoiser", denoiser, "--inside", file.name]  # fmt: skip
        subprocess.run(command, check=True)
        return float(file.read())


def inside(denoiser, out):
    """One of the processes."""
    with joined() as workers:
        seconds, _ = seconds_per_step(denoiser, BATCH, workers)
        if workers.rank == 0:
            out.write_text(str(seconds))


def table(denoiser):
    alone, size = seconds_per_step(denoiser, BATCH)
    yield f"{denoiser}, minibatches of {BATCH}, {size / 2**20:.1f} MiB of gradients a step, one thread a process:"
    yield ""
    yield "| processes | ms a step | images/s | efficiency | |"
    yield "|---|---|---|---|---|"
    for processes, seconds, how in rows(denoiser, alone, size):
        efficiency = alone / processes / seconds
        yield f"| {processes} | {1000 * seconds:.1f} | {BATCH / seconds:.0f} | {efficiency:.0%} | {how} |"


def rows(denoiser, alone, size):
    yield 1, alone, "measured"
    yield 2, measured(denoiser, 2), "measured, one machine"
    for processes in (8, 16, 32, 64):
        share, _ = seconds_per_step(denoiser, BATCH // processes)
        yield processes, share + all_reduce(processes, size), "predicted, a machine each"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--denoiser", default="prescribed")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        return inside(args.denoiser, args.inside)
    text = "\n".join(table(args.denoiser)) + "\n"
    print(text)
    if args.out:
        args.out.write_text("# Scaling\n\nWritten by `benchmarks/scaling.py`; predictions assume 10 Gbit/s and 50 "
                            f"microseconds a message.\n\n{text}")  # fmt: skip


if __name__ == "__main__":
    main()
