"""`Model.train` as graders call it, one epoch or a few: seconds, and PSNR A on the validation pairs before and after.

    python benchmarks/epoch.py DATA_FOLDER [--denoiser NAME ...] [--from scratch pretrained] [--epochs 1]
                               [--precision fp32 bf16] [--seeds 0 1 2]

DATA_FOLDER holds train_data.pkl and val_data.pkl. Prints a line of Markdown table for each run.
"""

import argparse
import sys
import time
from itertools import product
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.quality import DENOISERS
from others import data
from others.evaluation import metrics
from others.model import PRECISIONS, Model


def psnr(model, noisy, clean):
    return metrics.psnr_a(model.predict(noisy) / 255, clean.float() / 255)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("--denoiser", nargs="+", default=DENOISERS)
    parser.add_argument("--from", nargs="+", default=["pretrained", "scratch"], dest="starts")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=[None], help="default: as Model chooses")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the initial weights and the minibatches")
    args = parser.parse_args()
    pairs, validation = (data.load_pairs(args.folder / f"{name}_data.pkl") for name in ("train", "val"))
    print(f"{len(pairs[0]):,} pairs, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    columns = "denoiser", "from", "precision", "seed", "epochs", "PSNR A before", "after", "seconds"
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name, start, precision, seed in product(args.denoiser, args.starts, args.precision, args.seeds):
        torch.manual_seed(seed)
        model = Model(name, precision=precision)
        if start == "pretrained":
            model.load_pretrained_model()
        before, started = psnr(model, *validation), time.perf_counter()
        model.train(*pairs, args.epochs, recipe=model.recipe()._replace(seed=seed), progress=False)
        seconds = time.perf_counter() - started
        print(f"| {name} | {start} | {model.training_precision} | {seed} | {args.epochs} | {before:.2f} "
              f"| {psnr(model, *validation):.2f} | {seconds:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
