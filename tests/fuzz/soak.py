"""Train and predict in turns for a long time; the memory of the process must stay flat to 1 %.

    python tests/fuzz/soak.py --minutes 30

Every round builds or reuses Models of both kinds, trains with a checkpoint, predicts several sizes, loads the shipped
weights, and meets a file that is refused. The first tenth of the time, and at least 20 rounds, are a warm-up. Exit
status 1 when the memory grew.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from Miniproject_2.model import Model
from others.storage.checkpoint import CheckpointError

WARM_UP = 20  # rounds


def resident():
    """MiB of this process that are in memory and its own. (Linux)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def work(number, models, folder):
    """One round: what a long-lived service does."""
    generator = torch.Generator().manual_seed(number)

    def images(count, height, width):
        return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)

    model = models[number % 2]
    path = folder / "training.pth"
    path.unlink(missing_ok=True)
    model.train(images(16, 32, 32), images(16, 32, 32), 1, progress=False, checkpoint=path)
    for size in ((1, 32, 32), (20, 32, 32), (1, 1 + number % 50, 77), (1, 256, 256)):
        assert model.predict(images(*size)).isfinite().all()
    if number % 5 == 0:
        model.load_pretrained_model()
    (folder / "broken.pth").write_bytes(bytes(1000))
    try:
        model.load_pretrained_model(folder / "broken.pth")
    except CheckpointError:
        return
    raise AssertionError("a broken file was loaded")


def soak(seconds):
    """-> rounds, MiB at the end of the warm-up, most MiB in the last tenth of the time"""
    models = [Model("prescribed"), Model("rednet")]
    started, number, before, last = time.monotonic(), 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        while (passed := time.monotonic() - started) < seconds:
            work(number, models, Path(folder))
            number += 1
            if passed < seconds / 10 or number <= WARM_UP:
                before = max(before, resident())
            elif passed > 0.9 * seconds:
                last = max(last, resident())
    return number, before, last


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    args = parser.parse_args()
    rounds, before, last = soak(60 * args.minutes)
    growth = last / before - 1
    print(f"{rounds} rounds in {args.minutes:g} minutes: {before:.1f} MiB after the warm-up, at most {last:.1f} MiB at "
          f"the end, {growth:+.2%}")  # fmt: skip
    return 1 if growth > 0.01 else 0


if __name__ == "__main__":
    sys.exit(main())
