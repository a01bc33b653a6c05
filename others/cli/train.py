"""Train a denoiser on noisy pictures alone, and write its weights.

examples:
  noise2noise train --pairs first_shots second_shots -o own.pth
  noise2noise train --burst scenes -o own.pth --epochs 10 --validate noisy clean --csv log.csv --curve curve.png
  noise2noise train --data data -o own.pth            with data/train_data.pkl, and data/val_data.pkl if it is there
  noise2noise train -o demo.pth                       on generated pictures, to see it work
  torchrun --nproc-per-node 4 --max-restarts 3 -m others train --data data -o own.pth --resume     in four processes
  noise2noise denoise photo.png --weights own.pth

--pairs takes two folders with pictures of the same names: two noisy pictures of each scene. --burst takes a folder with
a folder for each scene, of two shots or more; or files named SCENE_1.png, SCENE_2.png ..., which are parted where they
show different scenes; or a file whose pages are the shots. Pages of pairs are pairs. Pictures that do not belong
together are refused. A bad file does not stop the others: it is left out by name, with its pair, or with its scene if
one shot is left, and the exit status is 0 all the same. The pictures are held in memory; patches are cut from them anew
in each epoch. The pixels of --data are read from the disk as they are used, so the file may be larger than the memory.

Where it starts: --pairs and --burst adapt the shipped weights of camera, at a low rate; with --denoiser, those of that
denoiser. --from-scratch starts from random weights, --weights FILE goes on from a file. --data and generated pictures
start from random weights of the denoiser in others/denoiser.py, with --from-shipped from its shipped ones. The first
line says which it is. Before the first epoch it says how long all will take.

What it gains: a tenth of --pairs and --burst is not trained on, and in the end it says what PSNR was gained on patches
of it. Nobody has clean ones, but the error against another noisy picture is the error against the clean one plus the
variance of the noise, and that variance is half the mean squared difference of two noisy ones. Of ten scenes or more
every tenth is held out, of fewer the lowest tenth of each, a patch at least; of fewer than three patches nothing is.

Of a burst of one scene, N shots: denoise their average, which other programs make, for instance ImageMagick with
"magick shots/*.png -evaluate-sequence mean -depth 16 average.png". From 32 shots with the noise of a camera in good
light on, the average alone is better. Training on the burst first gains little where it is short.

Under torchrun every minibatch is shared out among the processes, and so are Muon's matrices; the weights are those that
one process would get, up to the rounding of sums. When a process dies torchrun ends the others, names its rank, and
with --max-restarts starts all again: with --resume they go on to the bits of a training without the accident.

What to expect of the loss: it is measured against noisy pictures, so it falls to the error against clean ones PLUS the
variance of the target's noise, and stays there. That is Noise2Noise, not a failure; --validate shows the error itself.

Weights are written after each epoch; Ctrl-C keeps those of the last one, and what was learnt since, and the exit status
is 130; a training whose loss explodes keeps the best that there were. With --resume the same command goes on where it
was interrupted, ends with the weights of a training that was never interrupted, and does nothing more once it is done.

An epoch of 5,000 patches of 64 x 64 takes about two minutes on two threads, one of 50,000 pairs of 32 x 32 five."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import sys
import time
import warnings
import zipfile
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from .. import data, pictures, training
from ..data.patches import MANY
from ..diagnose import pairs
from ..evaluation import figures
from ..model import SHIPPED, Model, suited
from ..storage import checkpoint, networks
from ..storage.files import locked, replacing
from ..training import estimates
from ..training.run import Diverged, digest, identity, records_in
from ..training.workers import Workers, joined
from .common import (
    add_model_arguments,
    add_range_argument,
    check_ignored,
    check_outputs,
    counted,
    new_model,
    positive,
    say,
    say_left_out,
    seed,
    write_table,
)
from .evaluate import UNREAD, checked, listed, matched, pages, readable
from .streams import program, words

Scenes: TypeAlias = dict[str, list[torch.Tensor]]  # pictures (3, H, W) in 0-255 of each

GENERATED = {"pairs": 3000, "images": 100}
HELD = 2**19  # pixels of each version that are held out at most: a few seconds, and 0.1 dB
STARTS = "weights", "from_shipped", "from_scratch"


class Material(NamedTuple):
    """What to train on, and that in words. held: pairs to measure with, if any; even: whether exposures were alike."""

    source: training.Source
    described: str
    held: data.Pair | None = None
    even: bool = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    measured = "folders, matched by name (default: val_data.pkl of --data; generated ones for generated pairs)"
    rate = "the highest learning rate (default: the denoiser's own, after pretrained weights a twentieth of it)"
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--pairs", nargs=2, type=Path, metavar=("A_DIR", "B_DIR"), help="pictures matched by name")
    source.add_argument("--burst", type=Path, metavar="DIR", help="several shots of each scene")
    source.add_argument("--data", type=Path, metavar="DATA_FOLDER", help="train_data.pkl and val_data.pkl")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the weights to write")
    parser.add_argument("--validate", nargs=2, type=Path, metavar=("NOISY", "CLEAN"), help=measured)
    parser.add_argument("--epochs", type=positive(int, 10**9), default=5, help="over the data")
    parser.add_argument("--count", type=positive(int, 10**9), help="patches in an epoch (default: 5000)")
    parser.add_argument("--patch", type=positive(int, 10**6), help="side of a patch in pixels (default: 64)")
    parser.add_argument("--lr", type=positive(float, 10**37), help=rate)
    parser.add_argument("--seed", type=seed, default=0, help="of weights, order and patches")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a line for each epoch")
    parser.add_argument("--curve", type=Path, metavar="FILE", help="draw loss and PSNR over the epochs")
    parser.add_argument(
        "--from-shipped", action="store_true", help="shipped weights (default: with --pairs and --burst)"
    )
    parser.add_argument("--from-scratch", action="store_true", help="random weights (default: with all else)")
    parser.add_argument("--resume", action="store_true", help="keep the state in FILE.state; go on if it is there")
    parser.add_argument("--unchecked", action="store_true", help="train although the pairs look wrong")
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    add_range_argument(parser)
    start = "camera with --pairs and --burst, else the one in others/denoiser.py"
    add_model_arguments(parser, "to go on from (default: as below, where it starts)", start)


def run(args: argparse.Namespace) -> None:
    with joined() as group, contextlib.redirect_stdout(sys.stdout if group.rank == 0 else io.StringIO()):
        args.device = args.device or group.device
        run_in(group, args)


def run_in(group: Workers, args: argparse.Namespace) -> None:
    """As one process of the group; that of rank 0 alone prints and writes."""
    check_options(args, group)
    check(args, unknown=finished(args))
    if args.curve:
        figures.kind(args.curve)  # say what is wrong or missing before the work
    model = starting_model(args)
    print(f"Starting from {start_in_words(args)} of {model.denoiser!r}.", flush=True)
    material = load_source(args)
    source, described = material.source, material.described
    validation = load_validation(args)
    recipe = model.recipe()._replace(seed=args.seed)
    recipe = recipe._replace(lr=args.lr) if args.lr else recipe
    print(f"Training {model.denoiser!r} on {described}.")
    this = None
    if args.resume:
        start = digest(model.network.state_dict().values())
        this = identity(model.network, source, args.epochs, recipe, model.training_dtype, start)
    fit = partial(training.fit, model.network, source, args.epochs, recipe, validation, model.training_dtype,
                  checkpoint=state_file(args) if args.resume else None, workers=group, known=this)  # fmt: skip
    heading = model.expectation(*(source(0) if callable(source) else source))  # by all ranks: it takes time
    with torch.no_grad(), contextlib.ExitStack() as locks:
        if not group.rank:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            for path in written(args):
                locks.enter_context(locked(path))
            done = finished(args, this)
            if not done:
                check(args)  # another training may have ended meanwhile
        if group.broadcast(None if group.rank else done):
            print(f"{args.out}: this training is done, nothing is left to do.")
        elif group.rank:
            forecast(args, model, source, recipe, group.size)  # rank 0 shares the processors, as it will
            training.collect(fit())
        else:
            heading = f"{heading}\n{forecast(args, model, source, recipe, group.size)}"
            about = {"data": described, "recipe": recipe._asdict(), "precision": model.training_precision,
                     "processes": group.size, "threads": torch.get_num_threads()}  # fmt: skip
            train(args, model, fit, heading, about, this, material)
    print(f"{args.out}: use it with {program()} denoise PICTURE --weights {args.out}")


def check_options(args: argparse.Namespace, group: Workers) -> None:
    """Leave with status 2 if two options contradict each other; say which do nothing; put in what is left out."""
    starts = [f"--{name.replace('_', '-')}" for name in STARTS if getattr(args, name)]
    if len(starts) > 1:
        args.parser.error(f"{' and '.join(starts)}: expected one of them, the weights to start from")
    own = args.pairs or args.burst
    if own and not args.weights:
        args.denoiser = args.denoiser or suited(drawn=False)
        args.from_shipped = not args.from_scratch
    if not (own or group.rank):
        options = ["patch", "unchecked"] + ["count"] * bool(args.data) + ["range"] * (not args.validate)
        check_ignored(args, options, "with --data" if args.data else "with generated pictures")
        if not args.data and args.count and args.count > GENERATED["pairs"]:
            say(f"--count {args.count:,}: of generated pictures there are {GENERATED['pairs']:,} pairs at most")
    args.count, args.patch = args.count or 5000, args.patch or 64


def check(args: argparse.Namespace, unknown: bool = False) -> None:
    """Raise what `check_outputs` does; with --resume this training may replace what it made before. With `unknown`,
    where it is too early to tell, nothing that is there is refused."""
    inputs = [*(args.pairs or []), *(args.validate or []), args.burst, args.data, args.weights]
    files = files_of(args)
    own = [path for path in written(args) if unknown or name_of(path, args) in files]
    state = [state_file(args)] if args.resume else []
    check_outputs([*written(args), *state], inputs, args.force, own + state)


def written(args: argparse.Namespace) -> list[Path]:
    """What the command asks for besides the state."""
    return [path for path in (args.out, args.csv, args.curve) if path]


def name_of(path: Path, args: argparse.Namespace) -> str:
    """As the state has it: seen from the folder of the weights, which may be moved."""
    return os.path.relpath(os.path.realpath(path), os.path.realpath(args.out.parent))


def files_of(args: argparse.Namespace) -> list[str]:
    """The names of the files that the interrupted training wrote, or would have."""
    return list(earlier_state(args).get("files", ()))


def finished(args: argparse.Namespace, this: dict[str, Any] | None = None) -> bool:
    """Whether all is there that a training with --resume writes in the end: that one (`run.identity`) where it is
    given."""
    if not args.resume or args.force or state_file(args).exists() or not all(map(Path.is_file, written(args))):
        return False
    with contextlib.suppress(checkpoint.CheckpointError):
        for saved in networks.held(args.out).values():
            info = saved.get("info") if isinstance(saved, dict) else None
            if isinstance(info, dict) and "training" in info:
                return this is None or info["training"] == mark(this)
    return False


def mark(this: dict[str, Any]) -> str:
    """The identity of a training in few letters."""
    return hashlib.sha256(json.dumps(this, sort_keys=True).encode()).hexdigest()[:32]


def starting_model(args: argparse.Namespace) -> Model:
    """New weights, or the shipped ones or those of --weights to go on from."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        model = new_model(args)
    if args.weights or args.from_shipped:
        model.load_pretrained_model(*[args.weights] if args.weights else [])
    return model


def start_in_words(args: argparse.Namespace) -> str:
    if args.weights:
        return f"the weights in {args.weights}"
    return "the shipped weights" if args.from_shipped else f"random weights (seed {args.seed})"


def forecast(
    args: argparse.Namespace, model: Model, source: training.Source, recipe: training.Recipe, workers: int
) -> str:
    """How long the training will take, or what is left of it, in words."""
    first, second = source(0) if callable(source) else source
    seconds = estimates.step_seconds(model.network, first, second, recipe, model.training_dtype, workers)
    left, done = estimates.steps(len(first), args.epochs, recipe), earlier_state(args).get("done")
    epochs = f"{args.epochs} epoch{'s' * (args.epochs > 1)}"
    if isinstance(done, int) and done > 0:
        left, epochs = max(0, left - done), f"what is left of {epochs}"
    return f"This takes about {estimates.spoken(seconds * left)} for {epochs}."


def train(
    args: argparse.Namespace,
    model: Model,
    fit: Callable[..., Generator[training.Record, None, None]],
    heading: str,
    about: dict[str, Any],
    this: dict[str, Any] | None,
    material: Material,
) -> None:
    """Run the epochs; after each of them, and when interrupted or given up, write what was learnt; in the end say what
    was gained."""
    started, state, stepped = time.perf_counter(), earlier_state(args), False
    records, parent = [training.Record(*fields) for fields in records_in(state)], start_of(args, model)
    files = sorted({*files_of(args), *(name_of(path, args) for path in written(args))})
    before = estimates.errors(model.network, *material.held) if material.held else None
    gain: dict[str, float] = {}

    def save(measured=True, done=False):
        info = {
            "date": time.strftime("%Y-%m-%d"),
            **about,
            "epochs": f"{records[-1].epoch if records else state.get('epoch', 0)} of {args.epochs}",
            "minutes": round((time.perf_counter() - started) / 60, 1),
            "torch": str(torch.__version__),
            **({"start": parent} if parent else {}),
            **({"held_out": gain} if gain else {}),
            **({"training": mark(this)} if this and done else {}),
        }
        if measured and records and records[-1].psnr is not None:
            info["psnr_a"] = records[-1].psnr
        networks.save(args.out, model.denoiser, model.network, info, alone=True)

    def saved(on_step=None):
        def on_any_step(*progress):
            nonlocal stepped
            stepped = True
            if on_step:
                on_step(*progress)

        for record in fit(on_step=on_any_step, files=files):
            records.append(record)
            try:
                save()
                report(args, records)
            except OSError as error:
                if record.epoch < args.epochs:  # after the last one they are written once more
                    warnings.warn(f"{words(error)}; training goes on and tries again, make room", stacklevel=2)
            yield record

    try:
        training.show(saved, heading)
    except (KeyboardInterrupt, OSError) as error:  # a disk too full for the last state may take weights
        if stepped:
            model.network.eval()
            save(measured=False)
            how = "Stopped" if isinstance(error, OSError) else "Interrupted"
            weights = f"The same options with --weights {shlex.quote(str(args.out))} and another -o go on"
            again = "The same command goes on" if args.resume else weights
            print(f"\n{how}: {args.out} holds what was learnt so far. {again}.", flush=True)
        raise
    except Diverged as lost:
        if lost.learnt:
            save(measured=False)
            print(f"\nGiven up: {args.out} holds the best weights that there were.", flush=True)
        raise
    if before and material.held:
        after = estimates.errors(model.network, *material.held)
        print(estimates.gained(before, after, material.even), flush=True)
        gain.update(estimates.figures(before, after), patches=len(material.held[0]))
    save(done=True)
    report(args, records)  # that of the last epoch may have been interrupted
    if args.resume:
        state_file(args).unlink(missing_ok=True)


def state_file(args: argparse.Namespace) -> Path:
    """Where --resume keeps the state of the training."""
    return args.out.with_name(f"{args.out.name}.state")


def earlier_state(args: argparse.Namespace) -> dict[str, Any]:
    """The state of the interrupted training that goes on; {} if there is none, or no training in its file."""
    file = state_file(args)
    state = checkpoint.load(file).get("training") if args.resume and file.is_file() else None
    return state if isinstance(state, dict) else {}


def start_of(args: argparse.Namespace, model: Model) -> dict[str, Any]:
    """Where the weights that the training starts from come from."""
    path = args.weights or SHIPPED
    return networks.load(path, model.denoiser)["info"] if args.weights or args.from_shipped else {}


def report(args: argparse.Namespace, records: Sequence[training.Record]) -> None:
    """Write the log and the curve so far."""
    if args.csv:
        header = "epoch", "loss_against_noisy", "psnr_a_db", "seconds", "images_per_second"
        rows = ([r.epoch, r.loss, r.psnr, f"{r.seconds:.1f}", f"{r.images_per_second:.1f}"] for r in records)
        write_table(args.csv, header, rows, force=True)
    if args.curve:
        with replacing(args.curve, force=True) as file:
            figures.curve(file, records, figures.kind(args.curve))


# ---------------------------------------------------------------------------------------------------------- data


def load_source(args: argparse.Namespace) -> Material:
    if args.data:
        file = args.data / "train_data.pkl"
        mapped = file.is_file() and zipfile.is_zipfile(file)  # torch before 1.6 wrote no zips
        first, second = data.load_pairs(file, mmap=mapped)
        return Material((first, second), f"{counted(len(first), 'pair')} of {file}")
    if not (args.pairs or args.burst):
        count = min(args.count, GENERATED["pairs"])
        print(f"Generating {counted(count, 'pair')} ...", flush=True)
        made = data.generated_pairs(count, args.seed)
        return Material(made, f"{counted(count, 'generated pair')} (seed {args.seed})")
    scenes, side, even = load_scenes(args)
    kept, held = data.held_out(list(scenes.values()), side)
    print(f"Held out: {held_in_words(len(scenes), len(held))}.", flush=True)
    patches = data.Patches(kept, args.count, side, args.seed)
    shots = sum(map(len, kept))
    once = lru_cache(maxsize=1)(patches)  # the heading and the training both ask for the first epoch's
    asked = f"{counted(args.count, 'patch', 'patches')} of {patches.size} x {patches.size} an epoch"
    described = f"{asked} from {counted(shots, 'picture')} of {counted(len(kept), 'scene')}"
    return Material(once, described, data.side_by_side(held, side, max(1, HELD // side**2)), even)


def held_in_words(scenes: int, held: int) -> str:
    if not held:
        return "nothing, the pictures are too small for it; what is gained cannot be told"
    return f"{held} of {scenes} scenes" if scenes >= MANY else f"the lowest rows of {held} of {scenes} scenes"


def load_scenes(args: argparse.Namespace) -> tuple[Scenes, int, bool]:
    """({scene: pictures (3, H, W) in 0-255}, side of a patch, whether exposures were alike), all found good. Raises
    ValueError that names the scenes that are not."""
    scenes, side = without_small(paired_scenes(args) if args.pairs else burst_scenes(args), args.patch)
    found = {}
    for name, shots in scenes.items():
        scenes[name], found[name] = pairs.check_scene(shots)
    wrong = {name: finding.wrong for name, finding in found.items() if finding.wrong}
    for name, text in wrong.items():
        print(f"scene {name}: {text}", flush=True)
    sizes = [name for name, shots in scenes.items() if len({shot.shape for shot in shots}) > 1]
    if sizes or (wrong and not args.unchecked):
        first, why = next(iter(wrong.items()))
        many = f"{len(wrong)} of {counted(len(scenes), 'scene')}"
        raise ValueError(f"{many} cannot teach Noise2Noise ({first}: {why}); leave them out, or --unchecked")
    say_found(scenes, found, wrong)
    return scenes, side, not wrong and not any(map(corrected, found.values()))


def corrected(finding: pairs.Finding) -> bool:
    """Whether exposures differed."""
    return finding.relation.uneven > pairs.UNEVEN


def say_found(scenes: Scenes, found: dict[str, pairs.Finding], wrong: dict[str, str]) -> None:
    """What the checks of scenes found, and what they cannot tell."""
    for name, finding in found.items():
        if corrected(finding):
            print(f"scene {name}: {pairs.exposed(finding.relation)}: corrected.")
    small = [name for name, shots in scenes.items() if min(shots[0].shape[1:]) < pairs.SMALLEST]
    unknown = {what: [name for name, finding in found.items() if finding.unknown == what and name not in small]
               for what in (pairs.SCENE, pairs.NOISE)}  # fmt: skip
    sure = len(scenes) - len(small) - sum(map(len, unknown.values()))
    if sure:
        said = "as they are" if wrong else "aligned, different, independent noise"
        print(f"Checked {counted(sure, 'scene')}: {said}.")
    for what, names in unknown.items():
        if names:
            print(f"Cannot tell {what}: {listed(names)}.")
    if small:
        print(f"{len(small)} too small to check (sides below {pairs.SMALLEST} pixels): cannot tell {pairs.SCENE}.")


def without_small(scenes: Scenes, wanted: int) -> tuple[Scenes, int]:
    """(the scenes that patches can be cut from, their side); those left out are named."""
    side = pairs.patch_side(scenes.values(), wanted)
    for name in [name for name, shots in scenes.items() if min(shots[0].shape[1:]) < side]:
        size = pairs.size_of(scenes.pop(name)[0])
        print(f"scene {name}: {size} pixels, smaller than a patch of {side} x {side}; left out.", flush=True)
    return scenes, side


def paired_scenes(args: argparse.Namespace) -> Scenes:
    """{name: two pictures}, of files of several pages page by page."""
    found = readable(matched(*args.pairs), lambda files: pages(*files, args.range))
    return {name: [picture[0] for picture in shots] for name, *shots in found}


def burst_scenes(args: argparse.Namespace) -> Scenes:
    """{scene: its shots}, all pages of its files. Of files that belong together by name alone those that show another
    scene than the one before are a scene of their own."""
    scenes: Scenes = {}
    alone: list[str] = []
    broken: list[str] = []
    for name, files in burst_files(args.burst).items():
        shots = shots_of(files, args)
        lost = len(files) - len({file for file, _ in shots})
        named = len(files) > 1 and files[0].parent == args.burst and not args.unchecked
        parts = pairs.groups([shot for _, shot in shots]) if named else [range(len(shots))]
        kept, single = [part for part in parts if len(part) > 1], [part[0] for part in parts if len(part) == 1]
        for part in kept:
            label = name if len(parts) == 1 else f"{name} from {shots[part[0]][0].name}"
            scenes[label] = [shots[number][1] for number in part]
        if not kept and lost:
            broken.append(f"{name} ({lost} of {counted(len(files), 'file')} cannot be read; replace what is broken)")
        elif not kept:
            alone.append(name if len(shots) < 2 else f"{name} (its pictures show different scenes)")
        elif single:
            names = [shots[number][0].name for number in single]
            print(f"scene {name}: {listed(names)} show what no other does; left out.", flush=True)
    if alone or not scenes:
        found = ", ".join((alone or broken)[:5]) or "no picture at all"
        raise ValueError(f"{args.burst}: expected two shots or more of every scene, in a folder for each or named "
                         f"SCENE_1.png, SCENE_2.png ...; found fewer of: {found}")  # fmt: skip
    for text in broken:
        say(f"left out: scene {text}")
    return scenes


def shots_of(files: Sequence[Path], args: argparse.Namespace) -> list[tuple[Path, torch.Tensor]]:
    """[(file, page (3, H, W) in 0-255)] of a scene, on one scale. Files that cannot be read are left out and named,
    unless there is one file alone."""
    try:
        ranges = pictures.range_of(*files, given=args.range)
        return [(file, page[0]) for file in files for page in pictures.pages(file, ranges)]
    except UNREAD:
        if files == [args.burst]:
            raise
        whole = [file for file in files if is_whole(file, args)]
        if len(whole) == len(files):
            raise
    return shots_of(whole, args)


def is_whole(file: Path, args: argparse.Namespace) -> bool:
    """Whether all pages can be read; if not, it is said why."""
    try:
        for _ in pictures.pages(file, pictures.range_of(file, given=args.range)):
            pass
    except UNREAD as error:
        say(f"left out: {words(error)}")
        return False
    return True


def burst_files(source: Path) -> dict[str, list[Path]]:
    """{scene: its files}, by folders in `source` or by names but for a number at the end; `source` may be one file."""
    if not source.exists():
        raise FileNotFoundError(f"no folder {source}")
    scenes: dict[str, list[Path]] = {}
    if source.is_dir():
        say_left_out(source)
    for file in pictures.picture_files(source) if source.is_dir() else [source]:
        inside = file.parent != source and source.is_dir()
        prefix = re.sub(r"[-_ ]?\d+$", "", file.stem) or file.stem
        scenes.setdefault(str(file.parent.relative_to(source)) if inside else prefix, []).append(file)
    return scenes


def load_validation(args: argparse.Namespace) -> data.Pair | None:
    """(noisy, clean) pixels of one size, or None."""
    if args.validate:
        found = readable(matched(*args.validate), lambda files: checked(files, args))
        images, _ = without_small({name: [image[0] for image in pair] for name, *pair in found}, args.patch)
        side = [min(n) for n in zip(*(pair[0].shape[1:] for pair in images.values()))]
        cut = [[image[:, : side[0], : side[1]].float() for image in pair] for pair in images.values()]
        noisy, clean = (torch.stack(versions) for versions in zip(*cut))
        return noisy, clean
    if args.data and (args.data / "val_data.pkl").is_file():
        return data.load_pairs(args.data / "val_data.pkl")
    if not (args.data or args.pairs or args.burst):
        return data.generated_validation(GENERATED["images"])
    return None
