"""Denoise pictures: files, folders or patterns.

examples:
  noise2noise denoise photo.jpg                      writes photo-denoised.jpg
  noise2noise denoise scan.tif -o clean.png --compare --strength 0.7
  noise2noise denoise pictures -o out --csv noise.csv
  noise2noise denoise "pictures/*.png" -o out --force --weights own.pth

--noise has two sets of weights: camera, for the noise of sensors, and pixels, those of the denoiser prescribed, for
pictures whose pixels were drawn from a finer one, as the course's. --noise auto looks at each picture, says what it
found, and takes one. --denoiser rednet takes a third, better than prescribed on the same noise. A photograph of 12
million pixels takes about a minute and a half on two cores.

PNG, JPEG, TIFF, BMP and WebP, grey, RGB and RGBA, 8 and 16 bit; TIFF of 32 bits and floating point too. Black and white
are the type's own in 8 bits, else what the file declares or its pixels show, or --range; a note says which. Pixels
beyond, NaN and no data are kept as they came. What is written has the format, the depth, the pages, the alpha channel,
the colour profile, EXIF data, XMP and texts of what was read; CMYK and palettes become RGB. An -o FILE with another
suffix converts; the suffix decides what is written. A JPEG keeps its subsampling, and its tables of quantisation unless
they are coarser than those of quality 95; a lossless WebP is lossless again; other JPEG and WebP are of quality 95, or
of --quality. No input is ever overwritten. A bad file does not stop the others: it is named at the end, and the exit
status is 1. Without -o a file's result is beside it, and those of a folder go to FOLDER-denoised; what is no picture in
it, or was denoised before, is named and left out. --skip-existing goes on with a folder and a --csv that were begun:
status 0 when everything is there.

A megapixel takes 3 s on one thread with prescribed, 7 s with rednet, 11 s with camera, and 7 s on two cores; with
--self-ensemble 8 times as long."""

from __future__ import annotations

import argparse
import csv
import glob
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .. import pictures
from ..diagnose import noise
from ..model import CAMERA, Model, suited
from ..progress import Advance, tiles
from ..storage.files import remove_left
from .common import (
    add_model_arguments,
    add_range_argument,
    check_ignored,
    check_output,
    check_outputs,
    complain,
    load_model,
    number,
    positive,
    say,
    say_left_out,
    status,
    write_table,
)

NOISES = ("auto", "camera", "pixels")
STRONGEST = 1.5  # times what the network takes away
COLUMNS = "picture", "result", "noise_before", "noise_after", "weights", "seconds"


class Job(NamedTuple):
    source: Path
    target: Path

    def outputs(self, args: argparse.Namespace) -> list[Path]:
        return [self.target] + [self.comparison] * args.compare

    def missing(self, args: argparse.Namespace) -> list[Path]:
        """The outputs that are to be written: all, but for those that are there with --skip-existing."""
        return [path for path in self.outputs(args) if not (args.skip_existing and os.path.lexists(path))]

    @property
    def comparison(self) -> Path:
        return self.target.with_name(f"{self.target.stem}-compare{self.target.suffix}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    out = "file for one picture, folder for several (default: NAME-denoised, beside what is read)"
    quality = "of a JPEG or WebP that is written (default: a JPEG's own, at least 95; of other WebP 95)"
    several = "picture, folder of pictures (and the folders in it), or pattern"
    parser.add_argument("input", nargs="+", metavar="INPUT", help=several)
    parser.add_argument("-o", "--out", type=Path, metavar="OUT", help=out)
    there = parser.add_mutually_exclusive_group()
    there.add_argument("--force", action="store_true", help="replace results that are there already")
    there.add_argument("--skip-existing", action="store_true", help="leave them as they are, make those that are not")
    parser.add_argument("--noise", choices=NOISES, help="which weights (default: auto, looked for in each picture)")
    more = "how much of what it takes for noise is taken away; above 1 overshoots"
    parser.add_argument("--strength", type=strength, default=1.0, metavar="0-1.5", help=more)
    parser.add_argument("--compare", action="store_true", help="also write NAME-compare: noisy | denoised, at 100 %%")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a line for each picture, with its noise")
    parser.add_argument("--quality", type=positive(int, 100), metavar="1-100", help=quality)
    add_range_argument(parser)
    parser.add_argument("--self-ensemble", action="store_true", help="average over 8 views: better, 8 times slower")
    add_model_arguments(parser, default="what --noise picks")


def run(args: argparse.Namespace) -> int:
    planned, rows = plan(args), earlier_rows(args)
    jobs = [job for job in planned if job.missing(args)]
    if len(jobs) < len(planned):
        print(f"{len(planned) - len(jobs)} of {len(planned)} pictures have their results already.", flush=True)
    there = [job for job in jobs if not args.force and any(map(os.path.lexists, job.missing(args)))]
    if there:
        names = ", ".join(str(path) for path in there[0].missing(args) if os.path.lexists(path))
        said = f"{names} exists" if len(jobs) == 1 else f"{len(there)} of {len(jobs)} results exist, first {names}"
        complain("denoise", f"{said}; choose another name, --force to replace or --skip-existing to keep what exists")
        jobs = [job for job in jobs if job not in there]
    if not jobs:
        return 1 if there else 0
    denoiser, started = Denoiser(args), time.perf_counter()
    failed: list[Path] = []
    done = 0
    if len(jobs) > 1:
        print(f"{len(jobs):,} pictures", flush=True)
    try:
        for position, job in enumerate(jobs, 1):
            place = f"{position} of {len(jobs)}: " if len(jobs) > 1 else ""
            try:
                rows.append(denoise_file(denoiser, job, args, place))
                done += 1
            except (OSError, ValueError, RuntimeError, ImportError, MemoryError) as error:
                failed.append(job.source)
                complain("denoise", error)
    except KeyboardInterrupt:
        if len(jobs) > 1:
            print(f"{done} of {len(jobs)} done; the same command with --skip-existing goes on.", flush=True)
        raise
    finally:  # also of what was done before an interruption
        if args.csv:
            latest = {str(row[1]): row for row in rows}  # of a result that was made again
            write_table(args.csv, COLUMNS, [*latest.values()], args.force or args.skip_existing)
    if len(jobs) > 1:
        print(f"Denoised {len(jobs) - len(failed)} of {len(jobs)} pictures in {time.perf_counter() - started:.0f} s.")
    wrong = status("denoise", failed) if len(jobs) > 1 else len(failed)
    return 1 if there else wrong


def earlier_rows(args: argparse.Namespace) -> list[Sequence[object]]:
    """Of --csv, where --skip-existing goes on with it. Raises ValueError for another table."""
    if not (args.csv and args.skip_existing and args.csv.exists()):
        return []
    with args.csv.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *rows = [*filter(None, csv.reader(file))] or [[]]
    if header != list(COLUMNS) or any(len(row) != len(COLUMNS) for row in rows):
        raise ValueError(f"{args.csv}: expected a table that denoise wrote, got another file; choose another name")
    return [*rows]


def strength(text: str) -> float:
    """The type of an option: how much of what the network takes away is taken."""
    return number(float, text, f"a number from 0 to {STRONGEST}", lambda value: 0 <= value <= STRONGEST)


# -------------------------------------------------------------------------------------------------- the denoiser


class Denoiser:
    """The networks that the arguments name, or that pictures ask for, each loaded when it is needed. models: those
    that were loaded by the same arguments, but for noise and strength."""

    def __init__(self, args: argparse.Namespace, models: dict[str | None, Model] | None = None) -> None:
        self.args = args
        self.own = bool(args.weights or args.denoiser)  # the user's choice
        self.models = {} if models is None else models
        self.fixed = self.own or args.noise not in (None, "auto")  # no picture decides
        if self.fixed:
            self.model(self.named())  # what is wrong with it is said before any picture

    def named(self) -> str | None:
        """What the arguments choose: a denoiser, or None for the one in others/denoiser.py."""
        return CAMERA if not self.own and self.args.noise == "camera" else self.args.denoiser

    def model(self, name: str | None) -> Model:
        if name not in self.models:
            given = argparse.Namespace(**{**vars(self.args), "denoiser": name})
            self.models[name] = load_model(given)
        return self.models[name]

    def pick(self, seen: noise.Noise | None) -> Model:
        """The model for a picture with that noise."""
        return self.model(self.named() if self.fixed else suited(seen is not None and seen.drawn))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (1, 3, H, W) -> denoised float32 pixels, by the weights that suit them."""
        return self.run(self.pick(noise.look(pixels)), pixels, None)

    @property
    def title(self) -> str:
        """What it is called in a table."""
        if self.args.weights:
            return Path(self.args.weights).name
        return self.model(self.named()).denoiser if self.fixed else "noise2noise"

    def describe(self, model: Model) -> str:
        """Whose weights these are."""
        return f"weights of {self.args.weights}" if self.args.weights else f"{model.denoiser} weights"

    def run(self, model: Model, pixels: torch.Tensor, advance: Advance | None) -> torch.Tensor:
        """Denoised as strongly as the arguments say: pixels (1, 3, H, W) -> float32 pixels. One colour stays."""
        if torch.equal(pixels.amin((2, 3)), pixels.amax((2, 3))):
            return pixels.float()
        denoised = model.predict(pixels, self.args.self_ensemble, advance)
        if model.denoiser == CAMERA and not self.own:
            denoised = noise.limited(pixels, denoised)
        return pixels.float().lerp(denoised, self.args.strength).clamp(0, 255) if self.args.strength != 1 else denoised


# ------------------------------------------------------------------------------------------------------ the files


def plan(args: argparse.Namespace) -> list[Job]:
    """The jobs; what cannot work is said before anything is computed."""
    named = [job for given in args.input for job in sources(given, args)]
    found = [*{os.path.abspath(job[0]): job for job in reversed(named)}.values()][::-1]  # named twice is named once
    if not found:
        raise FileNotFoundError(f"no pictures in {', '.join(args.input)}; choose others")
    if before := denoised_before([source for source, *_ in found]):
        say(f"left out: {', '.join(map(str, before))}: denoised before, by their names; to denoise one, name it alone")
        found = [job for job in found if job[0] not in before]
    several = len(found) > 1 or Path(args.input[0]).is_dir()
    if str(args.out) == "-":
        args.parser.error("-o -: expected a file or a folder; pictures are not written to standard output")
    if args.out and several and args.out.suffix.lower() in pictures.FORMATS:
        args.parser.error(f"-o {args.out}: expected a folder for several pictures, got the name of a picture")
    unknown = args.out and args.out.suffix and args.out.suffix.lower() not in pictures.FORMATS
    if unknown and not args.out.is_dir() and (not several or pictures.unread(args.out.suffix)):
        known = ", ".join(pictures.FORMATS)
        args.parser.error(f"-o {args.out}: expected a folder, or a picture in {known}; choose one of these suffixes")
    jobs = [Job(source, target(source, inside, folder, args.out, several)) for source, inside, folder in found]
    if args.skip_existing:  # a pattern fits results of before, too
        results = {path.resolve() for job in jobs for path in job.outputs(args)}
        jobs = [job for job in jobs if job.source.resolve() not in results]
    check_targets(jobs, args)
    formats = {pictures.FORMATS.get(job.target.suffix.lower()) for job in jobs}
    if args.noise and (args.denoiser or args.weights):
        check_ignored(args, ["noise"], "with --denoiser or --weights")
    if formats.isdisjoint({"JPEG", "WEBP", None}):
        check_ignored(args, ["quality"], "where no JPEG or WebP is written")
    return jobs


def denoised_before(files: Sequence[Path]) -> dict[Path, Path]:
    """{file: its whole path} of those that are results of others, or in a folder that is one, by their names."""
    whole = {file: Path(os.path.abspath(file)) for file in files}
    alone = [Job(path, target(path, path, None, None, several=False)) for path in whole.values()]
    results = {path.with_suffix("") for job in alone for path in (job.target, job.comparison)}
    results |= {Job(path, path).comparison.with_suffix("") for path in whole.values()}  # beside those of -o FOLDER
    folders = {parent for path in whole.values() for parent in path.parents}
    made = {beside_it(folder) for folder in folders if folder.name}
    return {
        file: path for file, path in whole.items() if path.with_suffix("") in results or made.intersection(path.parents)
    }


def sources(given: str, args: argparse.Namespace) -> list[tuple[Path, Path, Path | None]]:
    """(file, its place in the output folder, the folder without -o or None for beside it) of each picture that an
    argument names."""
    path = Path(given)
    if not given:
        args.parser.error("expected the name of a picture or folder, got an empty one")
    if path.is_dir():
        results = args.out.resolve() if args.out else None
        files = [file for file in pictures.picture_files(path) if results not in file.resolve().parents]
        say_left_out(path)
        if not files:
            said = f"no pictures ({', '.join(pictures.FORMATS)}) in {path}"
            if len(args.input) == 1:
                raise FileNotFoundError(said)
            say(said)
        folder = args.out or beside(path, args)
        return [(file, file.relative_to(path), folder) for file in files]
    if not path.exists() and glob.has_magic(given):
        files = sorted(Path(name) for name in glob.glob(given, recursive=True) if Path(name).is_file())
        if not files:
            raise FileNotFoundError(f"no file fits the pattern {given}")
        return [(file, Path(file.name), None) for file in files]
    return [(path, Path(path.name), None)]


def beside(folder: Path, args: argparse.Namespace) -> Path:
    """Where the results of a folder go: FOLDER-denoised, by the folder's own name where it is given as . or so."""
    if folder.name in ("", ".."):
        whole = folder.resolve()
        if not whole.name:
            args.parser.error(f"{folder}: expected -o OUT for a folder without a name")
        folder = Path(os.path.relpath(whole.parent), whole.name)
    return beside_it(folder)


def beside_it(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-denoised")


def target(source: Path, inside: Path, folder: Path | None, out: Path | None, several: bool) -> Path:
    """Where the result goes."""
    if out is None:
        return folder / inside if folder else source.with_name(f"{source.stem}-denoised{source.suffix}")
    if not several and not out.is_dir() and out.suffix.lower() in pictures.FORMATS:
        return out
    return out / inside


def check_targets(jobs: Sequence[Job], args: argparse.Namespace) -> None:
    try:
        check_outputs([args.csv], [job.source for job in jobs], args.force or args.skip_existing)
    except FileExistsError as error:
        raise FileExistsError(f"{error}, or --skip-existing to go on with it") from error
    inputs = {job.source.resolve() for job in jobs}
    seen: dict[Path, Path] = {}
    for job in jobs:
        for path in job.outputs(args):
            if path.resolve() in inputs:
                args.parser.error(f"{path}: the result would overwrite an input; choose another -o")
            if path in seen:
                said = f"{job.source} and {seen[path]} would both be written to {path}"
                args.parser.error(f"{said}; denoise them one after the other, or leave -o out")
            seen[path] = job.source
    remove_left(seen)


# ---------------------------------------------------------------------------------------------------- one picture


def denoise_file(denoiser: Denoiser, job: Job, args: argparse.Namespace, place: str = "") -> Sequence[object]:
    """-> the picture's line for --csv. place: begins the line that says what was done."""
    started, outputs = time.perf_counter(), job.missing(args)
    for path in outputs:
        check_output(path, args.force)
    work = denoise_picture(denoiser, job, outputs, args, lambda: tiles(job.source.name))
    for text in work.notes:
        say(f"{job.source}: {text}")
    seconds = f"{time.perf_counter() - started:.1f}"
    print(f"{place}{job.source} -> {', '.join(map(str, outputs))} ({work}; {seconds} s)", flush=True)
    return [job.source, job.target, *work.sigmas, work.weights, seconds]


def denoise_picture(
    denoiser: Denoiser, job: Job, outputs: Sequence[Path], args: argparse.Namespace, progress: Callable[[], Any]
) -> Work:
    """Read a picture and write those of its outputs. progress() gives `with progress() as advance` for a page."""
    picture = pictures.read(job.source)
    format = pictures.format_of(job.target, picture.format)
    written = pictures.at_quality(picture, args.quality) if args.quality else pictures.finely(picture)
    work = Work(denoiser, picture, pictures.range_of(job.source, given=args.range), format)
    pictures.try_out(job.source, format, job.target)  # what it cannot hold is said before the work
    compared = []

    def pages():
        for page, clean in work.pages(progress):
            if args.compare:
                compared.append(pictures.beside(page, clean, picture.about))
            yield clean

    made = pages() if job.target in outputs else list(pages())
    for path, content in ((job.target, made), (job.comparison, compared)):
        if path in outputs:
            pictures.write(path, written._replace(format=format, pages=content), args.force)
    work.notes = [*filter(None, notes(work, job.source))]
    return work


def notes(work: Work, source: Path) -> Iterator[str]:
    """What else there is to know of a picture that was denoised, in words; "" for nothing."""
    picture, format = work.picture, work.format
    if pictures.FORMATS.get(source.suffix.lower()) not in (None, picture.format):
        yield f"a {picture.format} by its content, written as {format}"
    if work.guessed:
        yield "taken for pixels drawn from a finer picture; if it is not, --noise camera"
    yield picture.note
    if pictures.coarse(picture.about):
        yield "a JPEG of low quality: its noise can hardly be told from the picture"
    yield pictures.lost(picture, format)
    if work.count > 1 and picture.format == "TIFF" != format:
        yield f"its {work.count} pages became an animation; a name in .tif keeps them"
    yield work.ranges.note()


class Work:
    """One picture being denoised. After `pages` is exhausted: `count`, of them; `found`, what noise the first had, in
    words; `weights`, whose were taken; `guessed`, whether the picture was taken for drawn pixels; `sigmas`, with --csv,
    its noise before and after, "" where that cannot be told. `notes` say what else there is to know once it is written.
    """

    def __init__(self, denoiser: Denoiser, picture: pictures.Picture, ranges: pictures.Ranges, format: str) -> None:
        self.denoiser, self.picture, self.ranges, self.format = denoiser, picture, ranges, format
        self.found = self.weights = ""
        self.count, self.guessed = 0, False
        self.sigmas: list[str] = []
        self.notes: list[str] = []

    def __str__(self) -> str:
        return f"{self.found}: {self.weights}"

    def pages(self, progress: Callable[[], Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield each page and its denoised form, as the format holds them."""
        model = None
        for page in self.picture.pages:
            pixels = pictures.to_pixels(page, self.ranges[page.dtype])
            seen, first = noise.look(pixels), model is None
            if model is None:
                model = self.denoiser.pick(seen)
                self.weights = self.denoiser.describe(model)
                self.guessed = bool(seen and seen.drawn and not self.denoiser.fixed)
            with progress() as advance:
                denoised = self.denoiser.run(model, pixels, advance)
            if first:
                self.found = noise.in_words(seen, pixels, denoised, self.denoiser.args.strength)
                if self.denoiser.args.csv:
                    self.sigmas = [f"{each.sigma:.1f}" if each else "" for each in (seen, noise.look(denoised))]
            clean = pictures.with_colours(page, denoised, self.ranges[page.dtype])
            if self.format in pictures.EIGHT_BITS:
                page, clean = (pictures.in_eight_bits(each, self.ranges[each.dtype]) for each in (page, clean))
            self.count += 1
            yield page, clean
