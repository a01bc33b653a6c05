"""Measure a denoiser: against clean pictures by PSNR A and B and SSIM, or without them by what it takes away.

examples:
  noise2noise evaluate noisy.png clean.png
  noise2noise evaluate noisy_folder clean_folder --csv table.csv --figure grid.png --gains gains.png
  noise2noise evaluate val_data.pkl --denoiser rednet --json result.json
  noise2noise evaluate photo.jpg --figure taken.png

Pictures of two folders belong together by their names, suffixes aside (those without a partner are left out by name);
of files of several pages page by page. A pair that shows two scenes, or is shifted, mirrored or a negative, is refused
(--unchecked measures it all the same). PSNR A is the mean over images of each image's PSNR, PSNR B that of the mean
squared error over everything; identical images, which have none, are counted. With scikit-image (the extra `eval`) SSIM
is measured too, and non-local means, wavelet and total-variation denoising are compared (--plain leaves them out).

Without clean pictures it says of each picture how much noise it has before and after, how much was taken away, and
whether that looks like noise, which is as strong in flat parts as elsewhere; the figure shows noisy, denoised, and what
was taken, four times as strong. Files that cannot be read do not stop the others; the exit status is then 1. Weights
are picked as by denoise; for a .pkl they are those for the course's noise, and --noise camera or --denoiser picks
others.

A megapixel takes about 3 s on one thread, with rednet 7 s, with camera 11 s; the comparison takes 4 s."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

from .. import data, pictures
from ..diagnose import pairs
from ..evaluation import baselines, figures, metrics, taken
from ..storage.files import replacing
from .common import (
    add_model_arguments,
    add_range_argument,
    check_ignored,
    check_outputs,
    complain,
    say,
    say_left_out,
    say_range,
    status,
    write_table,
    write_text,
)
from .denoise import NOISES, Denoiser
from .streams import words

Named: TypeAlias = tuple[str, torch.Tensor, torch.Tensor]  # name, noisy, clean: pixels (1, 3, H, W)
Match: TypeAlias = tuple[str, Path, Path]  # name, and the files of it
Methods: TypeAlias = dict[str, Callable[[torch.Tensor], torch.Tensor]]
Shown: TypeAlias = dict[str, list[torch.Tensor]]

SHOWN = 6  # images in the figure
TIMES = 4  # as strong as it was is what was taken away shown
LISTED = 40  # images in the printed table
UNREAD = OSError, pictures.PictureError  # what a broken file raises


class Score(NamedTuple):
    """One image by one method. error: mean squared error in [0, 1]; numbers: how many it is the mean of."""

    image: str
    method: str
    psnr: float
    ssim: float | None
    error: float
    numbers: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("noisy", type=Path, metavar="NOISY", help="picture, folder, or val_data.pkl")
    parser.add_argument("clean", type=Path, metavar="CLEAN", nargs="?", help="picture or folder, if there is one")
    parser.add_argument("--noise", choices=NOISES, help="which weights (default: auto, looked for in each picture)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table per image")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the means and the table per image")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="draw noisy, denoised, clean")
    parser.add_argument("--gains", type=Path, metavar="FILE", help="draw each image's gain")
    parser.add_argument("--plain", action="store_true", help="do not compare with scikit-image's denoisers")
    parser.add_argument("--self-ensemble", action="store_true", help="average over 8 views: better, 8 times slower")
    parser.add_argument("--unchecked", action="store_true", help="measure although a pair looks wrong")
    parser.add_argument("--force", action="store_true", help="replace files that are there already")
    add_range_argument(parser)
    add_model_arguments(parser, default="what --noise picks")


def run(args: argparse.Namespace) -> int:
    check_outputs([args.csv, args.json, args.figure, args.gains], [args.noisy, args.clean, args.weights], args.force)
    for path in filter(None, (args.figure, args.gains)):
        figures.kind(path)  # say what is wrong or missing before the work
    if not args.clean and args.noisy.suffix != ".pkl":
        return without_clean(args)
    unknown: list[str] = []
    failed: list[str] = []
    found, denoiser = load_pairs(args, unknown, failed), picking(args)
    methods: Methods = {"noisy": torch.Tensor.float, denoiser.title: denoiser}
    library = baselines.available()
    methods |= {} if args.plain or not library else baselines.METHODS
    scores, shown = measure(found, methods, library)
    print_table(scores, methods)
    say_picked(denoiser)
    if unknown:
        print(f"Cannot tell {pairs.SCENE}: {listed(unknown)}.")
    if not library:
        print(f"Without SSIM and comparison: {baselines.INSTALL}")
    write_results(args, scores, methods, shown)
    return status("evaluate", failed)


def picking(args: argparse.Namespace) -> Denoiser:
    """The denoiser as `denoise` has it; for a .pkl that for the course's noise."""
    noise = args.noise or ("pixels" if args.noisy.suffix == ".pkl" else "auto")
    return Denoiser(argparse.Namespace(**{**vars(args), "noise": noise, "strength": 1.0}))


def say_picked(denoiser: Denoiser) -> None:
    """Which weights the pictures asked for."""
    if not denoiser.fixed and denoiser.models:
        print(f"Weights picked: {', '.join(sorted(model.denoiser for model in denoiser.models.values()))}.")


def without_clean(args: argparse.Namespace) -> int:
    """Judge what is taken away from pictures that have no clean version. -> exit status"""
    check_ignored(args, ["gains", "json", "plain", "unchecked"], "without CLEAN")
    denoiser = picking(args)
    rows: list[list[object]] = []
    shown: Shown = {}
    failed: list[str] = []
    if args.noisy.is_dir():
        say_left_out(args.noisy)
    files = pictures.picture_files(args.noisy) if args.noisy.is_dir() else [args.noisy]
    for file in files:
        try:
            rows += judged(file, denoiser, args, shown)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            if len(files) == 1:
                raise
            failed.append(str(file))
            complain("evaluate", error)
    say_picked(denoiser)
    if not files:
        raise FileNotFoundError(f"no pictures ({', '.join(pictures.FORMATS)}) in {args.noisy}")
    if not rows:
        raise ValueError(f"{args.noisy}: expected a picture that can be read, got none; see above")
    if args.csv:
        write_table(args.csv, ["picture", *taken.Taken._fields, "verdict"], rows, args.force)
    if args.figure:
        titles = "noisy", "denoised", f"taken away, {TIMES} times"
        with replacing(args.figure, args.force) as file:
            images = dict(zip(titles, (torch.cat(shown[key]) for key in ("noisy", "denoised", "taken"))))
            figures.grid(file, images, figures.kind(args.figure))
    return status("evaluate", failed)


def judged(file: Path, denoiser: Denoiser, args: argparse.Namespace, shown: Shown) -> Iterator[list[object]]:
    """Say of each page of a picture what is taken away; yield its line for --csv."""
    ranges = pictures.range_of(file, given=args.range)
    say_range(file, ranges)
    for number, pixels in enumerate(pictures.pages(file, ranges), 1):
        denoised = denoiser(pixels)
        found = taken.measure(pixels, denoised)
        name = str(file) if number == 1 else f"{file} page {number}"
        print(f"{name}: {found_in_words(found)}", flush=True)
        difference = (127.5 + TIMES * (pixels - denoised)).clamp(0, 255)
        for key, image in (("noisy", pixels), ("denoised", denoised), ("taken", difference)):
            keep(shown, key, image)
        yield [name, *(found or [""] * len(taken.Taken._fields)), str(found) if found else ""]


def found_in_words(found: taken.Taken | None) -> str:
    if found is None:
        return "too small or too even to tell"
    return f"noise {found.before:.1f} before, {found.after:.1f} after; taken {found.amount:.1f}: {found}"


def load_pairs(args: argparse.Namespace, unknown: list[str], failed: list[str]) -> Iterator[Named]:
    """An iterator over (name, noisy, clean), pixels (1, 3, H, W) in 0-255. `unknown` gets the names of the pairs of
    which it cannot be told whether they belong together, `failed` of those that cannot be read."""
    if args.noisy.suffix == ".pkl":
        if args.clean:
            args.parser.error(f"{args.noisy} holds the clean images too; leave {args.clean} out")
        check_ignored(args, ["range"], "with a .pkl")
        noisy, clean = data.load_pairs(args.noisy)
        if args.noisy.name == "train_data.pkl":
            say(f"{args.noisy}: its targets are noisy, too: PSNR against them is lower than against clean images")
        if not len(noisy):
            raise ValueError(f"{args.noisy}: expected one image or more, got none; choose another file")
        return ((str(i), noisy[i : i + 1], clean[i : i + 1]) for i in range(len(noisy)))
    if not args.clean:
        args.parser.error("expected NOISY and CLEAN, or a .pkl")
    return readable(matched(args.noisy, args.clean), lambda files: checked(files, args, unknown), failed)


def pages(name: str, first: Path, second: Path, given: tuple[float, float] | None = None) -> Iterator[Named]:
    """Yield (name, first, second) of each page of two files, upright pixels (1, 3, H, W) in 0-255."""
    ranges = pictures.range_of(first, second, given=given)  # one scale for what is compared
    say_range(f"{first} and {second}", ranges)
    images = [list(pictures.pages(file, ranges)) for file in (first, second)]
    if len(images[0]) != len(images[1]):
        said = f"expected as many pages in both, got {len(images[0])} and {len(images[1])}"
        raise ValueError(f"{first} and {second}: {said}; split them into files")
    for number, pair in enumerate(zip(*images), 1):
        yield (name if len(images[0]) == 1 else f"{name} page {number}"), *pair


def checked(files: Match, args: argparse.Namespace, unknown: list[str] | None = None) -> Iterator[Named]:
    """Pass on the `pages` of (name, first, second). Raises ValueError for a pair that shows no one scene, unless
    --unchecked; where that cannot be told the name goes into `unknown`; a note says if one is exposed differently."""
    for name, noisy, clean in pages(*files, args.range):
        data.check_pairs(noisy, clean, f"{files[1]} and {files[2]}")
        related = pairs.belonging(noisy[0], clean[0])
        if related.wrong and not args.unchecked:
            raise ValueError(f"{files[1]} and {files[2]}: {related.wrong}; pair them anew, or --unchecked")
        if related.uneven > pairs.UNEVEN:
            say(f"{name}: {pairs.exposed(related)}; PSNR counts that")
        if unknown is not None and not related.known:
            unknown.append(name)
        yield name, noisy, clean


def readable(
    matches: Sequence[Match], read: Callable[[Match], Iterable[Named]], failed: list[str] | None = None
) -> Iterator[Named]:
    """Yield what read() does of each two files. Those of several that cannot be read are left out and named, in
    `failed`, too; raises ValueError where none can."""
    broken = []
    for files in matches:
        try:
            found = list(read(files))
        except UNREAD as error:
            if len(matches) == 1:
                raise
            broken.append(words(error))
            say(f"pair {files[0]} left out: {broken[-1]}")
            if failed is not None:
                failed.append(files[0])
        else:
            yield from found
    if len(broken) == len(matches):
        raise ValueError(f"expected a pair that can be read or more, got {len(broken)} that cannot; replace what is "
                         f"broken, first {broken[0]}")  # fmt: skip


def listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(names[:5])}{' ...' if len(names) > 5 else ''})"


def matched(first: Path, second: Path) -> list[Match]:
    """(name, file of `first`, file of `second`) for two pictures, or for all of two folders, matched by name."""
    if not first.is_dir() and not second.is_dir():
        return [(first.name, first, second)]
    by_name = []
    say_left_out(*(folder for folder in (first, second) if folder.is_dir()))
    for folder in (first, second):
        if not folder.is_dir():
            other, there = first if folder == second else second, "" if folder.exists() else ", got nothing"
            raise FileNotFoundError(f"{folder}: expected a folder, as {other} is one{there}")
        files: dict[str, Path] = {}
        for file in pictures.picture_files(folder):
            name = str(file.relative_to(folder).with_suffix(""))
            if name in files:
                said = "expected one picture of each name, whatever its suffix; rename or move one"
                raise ValueError(f"{files[name]} and {file}: {said}")
            files[name] = file
        if not files:
            raise FileNotFoundError(f"no pictures ({', '.join(pictures.FORMATS)}) in {folder}")
        by_name.append(files)
    both = sorted(by_name[0].keys() & by_name[1].keys())
    if not both:
        raise ValueError(
            f"{first} and {second}: expected the same names in both, found none; rename pictures of a pair"
        )
    for folder, files in zip((first, second), by_name):
        if alone := sorted(files.keys() - set(both)):
            say(f"left out of {folder}, without a partner of the same name: {listed(alone)}")
    return [(name, by_name[0][name], by_name[1][name]) for name in both]


def measure(found: Iterable[Named], methods: Methods, library: bool) -> tuple[list[Score], Shown]:
    """The scores, and the first images as {method or "clean": [pixels]}."""
    scores: list[Score] = []
    shown: Shown = {}
    for name, noisy, clean in found:
        for method, run_method in methods.items():
            output = run_method(noisy)
            scores.append(score(name, method, output, clean, library))
            keep(shown, method, output)
        keep(shown, "clean", clean)
    return scores, shown


def keep(shown: Shown, method: str, image: torch.Tensor) -> None:
    images = shown.setdefault(method, [])
    if len(images) < SHOWN and (not images or images[0].shape == image.shape):
        images.append(image)


def score(name: str, method: str, output: torch.Tensor, clean: torch.Tensor, library: bool) -> Score:
    output, clean = output.cpu().float() / 255, clean.float() / 255
    error = float((output - clean).pow(2).mean())
    ssim = baselines.ssim(output[0], clean[0]) if library else None
    return Score(name, method, float(metrics.psnr_per_image(output, clean)), ssim, error, clean.numel())


def means(scores: Sequence[Score], method: str) -> dict[str, Any]:
    """PSNR A and B, the mean SSIM of a method, and how many images are identical: they are not in PSNR A, which they
    would make infinite."""
    mine = [score for score in scores if score.method == method]
    total = sum(score.error * score.numbers for score in mine) / sum(score.numbers for score in mine)
    known = [score.ssim for score in mine if score.ssim is not None]
    different = [score.psnr for score in mine if math.isfinite(score.psnr)]
    psnr_a = sum(different) / len(different) if different else math.inf
    psnr_b = float(metrics.decibels(torch.tensor(total, dtype=torch.float64)))
    ssim = sum(known) / len(known) if known else None
    return {"psnr_a": psnr_a, "psnr_b": psnr_b, "ssim": ssim, "identical": len(mine) - len(different)}


# ------------------------------------------------------------------------------------------------------- showing


def print_table(scores: Sequence[Score], methods: Methods) -> None:
    names = list(dict.fromkeys(score.image for score in scores))
    width = max([len("PSNR A, dB"), *(min(40, len(name)) for name in names)])
    line = f"{{:{width}.40}}" + "  {:>14}" * len(methods)
    print(line.format("PSNR, dB", *methods))
    cells = {(score.image, score.method): metrics.words(score.psnr) for score in scores}
    for name in names[:LISTED]:
        print(line.format(name, *(cells[name, method] for method in methods)))
    if len(names) > LISTED:
        print(f"... and {len(names) - LISTED} more; --csv writes all")
    columns = [means(scores, method) for method in methods]
    for label, key, form in (("PSNR A, dB", "psnr_a", ".2f"), ("PSNR B, dB", "psnr_b", ".2f"), ("SSIM", "ssim", ".4f")):
        if columns[0][key] is not None:
            print(line.format(label, *(metrics.words(column[key], form) for column in columns)))
    if any(column["identical"] for column in columns):
        print(line.format("identical", *(column["identical"] for column in columns)))


def write_results(args: argparse.Namespace, scores: Sequence[Score], methods: Methods, shown: Shown) -> None:
    summary = {method: means(scores, method) for method in methods}
    if args.csv:
        rows = ([score.image, score.method, metrics.words(score.psnr, ".4f"), score.ssim] for score in scores)
        write_table(args.csv, ["image", "method", "psnr_db", "ssim"], rows, args.force)
    if args.json:
        summary = {method: {key: in_json(value) for key, value in row.items()} for method, row in summary.items()}
        table = [{"image": s.image, "method": s.method, "psnr": in_json(s.psnr), "ssim": s.ssim} for s in scores]
        write_text(args.json, json.dumps({"means": summary, "images": table}, indent=1), args.force)
    ours = list(methods)[1]
    if args.figure:
        noisy, denoised, clean = (torch.cat(shown[key]) for key in ("noisy", ours, "clean"))
        with replacing(args.figure, args.force) as file:
            figures.comparison(file, noisy, denoised, clean, figures.kind(args.figure))
    if args.gains:
        columns = ([s.psnr for s in scores if s.method == method] for method in ("noisy", ours))
        drawn = [pair for pair in zip(*columns) if all(map(math.isfinite, pair))]
        if not drawn:
            raise ValueError(f"{args.gains}: expected an image whose noisy version differs from the clean one")
        before, after = zip(*drawn)
        with replacing(args.gains, args.force) as file:
            figures.gains(file, before, after, figures.kind(args.gains))


def in_json(number: float | None) -> float | str | None:
    """JSON has no infinity."""
    return number if number is None or math.isfinite(number) else metrics.words(number)
