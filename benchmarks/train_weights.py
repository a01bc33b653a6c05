"""Train one of the shipped denoisers with the project's own framework and put its weights into a checkpoint.

    python benchmarks/train_weights.py rednet --photos PHOTOS --epochs 40 --val val_data.pkl --out bestmodel.pth
    python benchmarks/train_weights.py rednet --start bestmodel.pth --arguments "{'layers': ...}" ...

An epoch is --count pairs: from --photos each is cut and corrupted freshly, with the course's noise or, for the camera
weights, with that of cameras; from --data (a folder with train_data.pkl) they are the same every epoch. --start goes on
from weights that this script made; with --arguments, the network has more layers inside, more channels or larger
kernels, which change nothing at first. The same arguments give the same weights on the same machine and thread count;
with --resume also if a training was interrupted and the command is given again. The validation images, if given, are
looked at once, at the end.

    torchrun --nproc-per-node 2 -- benchmarks/train_weights.py rednet --threads 1 ...

shares every minibatch out among processes; without its `--`, torchrun takes some of the options for its own.
"""

import argparse
import ast
import contextlib
import datetime
import io
import shlex
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from others import data, training
from others.cli.train import earlier_state, state_file
from others.evaluation import metrics
from others.model import CAMERA, PRECISIONS, Model, denoisers
from others.storage import networks
from others.training.run import OPTIMIZERS, records_in
from others.training.workers import joined

CHOSEN = ("lr", "clip", "batch_size", "optimizer", "momentum", "balance")  # of the recipe, by options


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("denoiser", choices=denoisers())
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--photos", type=Path, nargs="+", help="folders of photographs")
    source.add_argument("--data", type=Path, help="folder with train_data.pkl")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--count", type=int, help="pairs per epoch, with --photos (default: 50,000; camera: 5,000)")
    parser.add_argument("--gaussian", type=float, default=0.0, help="share of pairs with Gaussian noise instead")
    parser.add_argument("--balance", type=float, help="see training.Recipe")
    parser.add_argument("--targets", type=int, default=1, help="noisy versions whose mean is the target, with --photos")
    parser.add_argument("--start", type=Path, help="checkpoint to start from")
    parser.add_argument("--arguments", type=ast.literal_eval, default={},
                        help="of the network, where not the usual: {'kernel_sizes': (5, 3)}")  # fmt: skip
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--optimizer", choices=OPTIMIZERS)
    parser.add_argument("--momentum", type=float)
    parser.add_argument("--clip", type=float)
    parser.add_argument("--precision", choices=PRECISIONS, default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--holdout", type=int, default=0, help="keep every n-th photograph out, to tune on")
    parser.add_argument("--val", type=Path, help="val_data.pkl")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--resume", action="store_true", help="keep the state in OUT.state; go on if it is there")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    with joined() as workers, contextlib.redirect_stdout(io.StringIO() if workers.rank else sys.stdout):
        train(args, workers)


def train(args, workers):
    """Train as the arguments say, save after each epoch, evaluate at the end; rank 0 saves and prints."""
    model = Model(args.denoiser, precision=args.precision)
    if args.start:
        start = networks.load(args.start, args.denoiser)
        grow(model, start, args.arguments)
    elif args.arguments:
        model._build(**args.arguments)
    changed = {name: getattr(args, name) for name in CHOSEN if getattr(args, name) is not None}
    recipe = model.recipe()._replace(seed=args.seed, swap=args.targets == 1, **changed)
    pairs, tuning, description = source_of_pairs(args)
    print(f"{args.denoiser} {model.network.arguments}, {recipe}, {description}", flush=True)
    info = {
        "date": datetime.date.today().isoformat(),
        "data": description,
        "recipe": recipe._asdict(),
        "precision": args.precision,
        "processes": workers.size,
        "command": command(args, recipe, workers),
        "torch": str(torch.__version__),
    }
    if args.start:
        info["start"] = start["info"]
    state, earlier = state_file(args) if args.resume else None, earlier_state(args)
    records = [training.Record(*fields) for fields in records_in(earlier)]
    spent = sum(record.seconds for record in records) + earlier.get("seconds", 0.0)  # without drawing the pairs
    started = time.perf_counter() - spent
    for record in training.fit(
        model.network, pairs, args.epochs, recipe, tuning, model.training_dtype, checkpoint=state, workers=workers
    ):
        print(record, flush=True)
        records.append(record)
        save(args, model, info | progress(records, started), workers)
    info |= progress(records, started)
    if args.val:
        noisy, clean = data.load_pairs(args.val)
        clean = clean.float() / 255
        output = model.predict(noisy) / 255
        info["psnr_a"], info["psnr_b"] = metrics.psnr_a(output, clean), metrics.psnr_b(output, clean)
    save(args, model, info, workers)
    if state and workers.rank == 0:
        state.unlink()
    print(info)


def progress(records, started):
    """What the checkpoint says of the epochs that are done."""
    if not records:
        return {}
    minutes = round((time.perf_counter() - started) / 60, 1)
    return {"epochs": f"{len(records)} of {records[-1].epochs}", "minutes": minutes, "loss": records[-1].loss}


def save(args, model, info, workers):
    if workers.rank == 0:
        networks.save(args.out, args.denoiser, model.network, info)


def grow(model, start, arguments):
    """Build the network of `start`, or that with other `arguments` which has more layers inside, more channels or
    larger kernels, such that it computes what the one of `start` does: the second half of new layers is zero (of
    camera, that of each new block), and so are the weights with which the old channels read the new ones, and those
    around the old kernels. (After Net2Net: Chen, Goodfellow & Shlens 2016, arXiv:1511.05641)"""
    model._build(**{**start["arguments"], **arguments})
    old, new = list(start["state"].values()), model.network.parameters()
    camera = model.denoiser == CAMERA
    kept, more = len(old) - 2 if camera else len(old) // 2, len(new) - len(old)  # before what is new; of that
    added = new[kept : kept + more]
    for parameter in [*added[2::4], *added[3::4]] if camera else added[more // 2 :]:
        parameter.zero_()
    for number, (parameter, value) in enumerate(zip([*new[:kept], *new[kept + more :]], old, strict=True)):
        if number >= kept and value.dim() == 4 and not camera:  # of a transposed one: (inputs, outputs, height, width)
            parameter, value = parameter.transpose(0, 1), value.transpose(0, 1)
        parameter = parameter[: len(value)].zero_()
        if value.dim() == 4:
            tops = [(n - m) // 2 for n, m in zip(parameter.shape[2:], value.shape[2:])]
            parameter = parameter[:, : value.shape[1], tops[0] :, tops[1] :][:, :, : value.shape[2], : value.shape[3]]
        parameter.copy_(value)


def command(args, recipe, workers):
    """The command line that does this again, with the names of folders left to the reader."""
    given = {**vars(args), **{name: getattr(recipe, name) for name in CHOSEN}}
    given = {
        key: value for key, value in given.items() if value not in (None, {}) and key not in ("denoiser", "resume")
    }
    folders = {key for key, value in given.items() if key == "photos" or isinstance(value, Path)}
    options = (
        f"--{key.replace('_', '-')} {key.upper() if key in folders else shlex.quote(str(value))}"
        for key, value in given.items()
    )
    launcher = f"torchrun --nproc-per-node {workers.size} --" if workers.size > 1 else "python"
    return " ".join([launcher, "benchmarks/train_weights.py", args.denoiser, *options])


def source_of_pairs(args):
    """(pairs as `training.fit` takes them, tuning images or None, description)."""
    if args.data:
        pairs = data.load_pairs(args.data / "train_data.pkl")
        return pairs, None, f"{len(pairs[0])} fixed pairs"
    files = [file for folder in args.photos for file in data.photo_files(folder)]
    held_out = files[:: args.holdout] if args.holdout else []
    files = [file for file in files if file not in set(held_out)]
    target = f", targets the mean of {args.targets} noisy versions" if args.targets > 1 else ""
    if args.denoiser == CAMERA:
        count = args.count or 5000
        made = data.CameraPairs(files, count, seed=args.seed, targets=args.targets)
        tuning = data.camera_validation(held_out) if held_out else None
        return made, tuning, f"{count} fresh patches an epoch from {len(files)} photographs, noise of cameras{target}"
    count = args.count or 50_000
    pairs = data.PhotoPairs(files, count, args.seed, gaussian=args.gaussian, targets=args.targets)
    tuning = data.photo_validation(held_out) if held_out else None
    mixed = f", {args.gaussian:.0%} of them with Gaussian noise" if args.gaussian else ""
    return pairs, tuning, f"{count} fresh pairs an epoch from {len(files)} photographs{mixed}{target}"


if __name__ == "__main__":
    main()
