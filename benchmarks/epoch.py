"""One epoch of `Model.train` as graders call it: seconds, and PSNR A on the validation pairs before and after.

    python benchmarks/epoch.py DATA_FOLDER [--denoiser NAME ...] [--from scratch pretrained] [--seeds 1]

DATA_FOLDER holds train_data.pkl and val_data.pkl. Prints a line of Markdown table for each run.
"""

import argparse
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from Miniproject_2.model import Model
from others import data, metrics


def psnr(model, noisy, clean):
    return metrics.psnr_a(model.predict(noisy) / 255, clean.float() / 255)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DATA_FOLDER")
    parser.add_argument("--denoiser", nargs="+", default=["prescribed", "rednet"])
    parser.add_argument("--from", nargs="+", default=["pretrained", "scratch"], dest="starts")
    parser.add_argument("--seeds", type=int, default=1, help="repeat with so many initial weights")
    args = parser.parse_args()
    pairs, validation = (data.load_pairs(args.folder / f"{name}_data.pkl") for name in ("train", "val"))
    print(f"{len(pairs[0]):,} pairs, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| denoiser | from | PSNR A before | after one epoch | seconds |\n|---|---|---|---|---|")
    for name in args.denoiser:
        for start in args.starts:
            for seed in range(args.seeds):
                torch.manual_seed(seed)
                model = Model(name)
                if start == "pretrained":
                    model.load_pretrained_model()
                before, started = psnr(model, *validation), time.perf_counter()
                model.train(*pairs, 1, progress=False)
                seconds = time.perf_counter() - started
                print(
                    f"| {name} | {start} | {before:.2f} | {psnr(model, *validation):.2f} | {seconds:.0f} |", flush=True
                )


if __name__ == "__main__":
    main()
