"""Data-parallel training from a folder with train_data.pkl: on one machine or more, started by torchrun, or alone.

    torchrun --nproc-per-node 2 --max-restarts 3 -m others.distributed Miniproject_2.model:Model rednet \\
        --data FOLDER --epochs 10 --checkpoint training.pth --out weights.pth

Every minibatch of the recipe is shared out among the processes; the weights are those that one process would get, up
to the rounding of sums. Pixels are read from the disk as they are used, so the data may be larger than the memory.
When a process dies torchrun ends the others, names its rank, and with --max-restarts starts all again: they go on from
the checkpoint to the bits of a training without the accident.
"""

import argparse
import sys
from pathlib import Path

from . import checkpoint, data
from .check_denoiser import find
from .workers import joined


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="module:Class")
    parser.add_argument("denoiser", nargs="?", help="prescribed or rednet; by default the one in others/denoiser.py")
    parser.add_argument("--data", type=Path, required=True, help="folder with train_data.pkl and perhaps val_data.pkl")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--checkpoint", type=Path, required=True, help="state of the training, for going on with it")
    parser.add_argument("--out", type=Path, required=True, help="weights")
    args = parser.parse_args(arguments)
    pairs = data.load_pairs(args.data / "train_data.pkl", mmap=True)
    held_out = args.data / "val_data.pkl"
    validation = data.load_pairs(held_out) if held_out.is_file() else None
    with joined() as workers:
        model = find(args.model)(args.denoiser, device=workers.device)
        model.train(*pairs, args.epochs, validation=validation, checkpoint=args.checkpoint, workers=workers,
                    progress=None if workers.rank == 0 else False)  # fmt: skip
        if workers.rank == 0:
            info = {"epochs": args.epochs, "pairs": len(pairs[0]), "processes": workers.size}
            checkpoint.save_denoiser(args.out, model.module.NAME, model.network.arguments, model.network, info)


if __name__ == "__main__":
    sys.exit(main())
