"""Time and memory of predictions on large images, each in a process of its own; written to docs/results/large.md.

    python benchmarks/large.py [--sides 2048 4096] [--threads 1] [--out docs/results/large.md]

The memory is the most that the process held during the prediction (VmHWM of Linux), less what it held before (the
interpreter, torch, the weights and the image) and the result, float32 (1, 3, side, side). The last lines of a side are
those of `noise2noise denoise` on a PNG of 8 bits, from reading to writing, less the picture's bytes and the result's;
with camera as it picks it for photographs, its limit on what is taken away included. On one thread a megapixel takes 2
to 4 s with prescribed, 5 to 7 s with rednet, 9 to 11 s with camera.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from benchmarks.quality import table  # noqa: E402
from others import pictures  # noqa: E402
from others.model import denoisers  # noqa: E402

PREDICT = """
import sys, time, torch
from others.check_denoiser import memory_of
from others.model import Model

name, side = sys.argv[1], int(sys.argv[2])
model = Model(name, device="cpu")
model.load_pretrained_model()
model.predict(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
image = torch.empty(1, 3, side, side).random_(256)
start = time.perf_counter()
most = memory_of(lambda: model.predict(image))
print(time.perf_counter() - start, (most - image.numel() * 4) / 2**20)
"""

DENOISE = """
import resource, subprocess, sys
sys.exit(subprocess.run([sys.executable, "-m", "others", "denoise", *sys.argv[1:]], stdout=2).returncode or
         print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024))
"""

COMMANDS = {"prescribed": ["--denoiser", "prescribed"], "camera": ["--noise", "camera"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "large.md")
    args = parser.parse_args()
    rows = []
    for side in args.sides:
        for name in denoisers():
            seconds, extra = python(args.threads, PREDICT, name, side)
            rows.append((f"`predict`, {name}", f"{side} x {side}, float32", f"{seconds:.0f}", f"{extra:.0f}"))
            show(args, rows)
        for name, options in COMMANDS.items():
            idle = denoised(args.threads, 8, options)[1]
            seconds, peak = denoised(args.threads, side, options)
            extra = peak - idle - 5 * 3 * side**2 / 2**20  # 8 bits read, 32 bits of the result
            rows.append((f"`noise2noise denoise`, {name}", f"{side} x {side}, PNG", f"{seconds:.0f}", f"{extra:.0f}"))
            show(args, rows)


def python(threads, script, *arguments):
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [float(number) for number in done.stdout.split()]


def denoised(threads, side, options):
    """(seconds, peak MiB) of the command with these options on a smooth picture with noise."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "x.png"
        shade = torch.arange(side).view(1, side, 1).mul(200).div(side).to(torch.uint8)
        page = torch.randint(0, 40, (side, side, 3), dtype=torch.uint8) + shade
        pictures.write(source, pictures.Picture("PNG", [page], {}))
        del page
        start = time.perf_counter()
        (peak,) = python(threads, DENOISE, source, *options)
        return time.perf_counter() - start, peak


def show(args, rows):
    about = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(": ")[1] for line in about if line.startswith("model name")), "")
    text = f"# Large images\n\n`benchmarks/large.py`, {args.threads} thread(s) of {cpu.strip()}.\n\n"
    args.out.write_text(text + table(rows, ("what", "image", "seconds", "MiB beside image and result")) + "\n")
    print("  ".join(rows[-1]), flush=True)


if __name__ == "__main__":
    main()
