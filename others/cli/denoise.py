"""Denoise pictures: files, folders or patterns.

examples:
  noise2noise denoise photo.jpg                      writes photo-denoised.jpg
  noise2noise denoise scan.tif -o clean.png --compare
  noise2noise denoise pictures -o out --denoiser rednet --self-ensemble
  noise2noise denoise "pictures/*.png" -o out --force --weights own.pth

PNG, JPEG, TIFF, BMP and WebP, grey, RGB and RGBA, 8 and 16 bit; TIFF of 32 bits and floating point too. Black and white
are the type's own in 8 bits, else what the file declares or its pixels show, or --range; a note says which. Pixels
beyond, NaN and no data are kept as they came. What is written has the format, the depth, the pages, the alpha channel,
the colour profile, EXIF data, XMP and texts of what was read; CMYK becomes RGB. An -o FILE with another suffix
converts. JPEG and WebP are written at quality 95. No input is ever overwritten. A bad file does not stop the others: it
is named at the end, and the exit status is 1. For a folder without -o, the results go to FOLDER-denoised."""

import glob
import sys
import time
from pathlib import Path
from typing import NamedTuple

from .. import noise, pictures
from ..files import check_new, remove_left
from ..progress import tiles
from .common import add_model_arguments, add_range_argument, complain, load_model, one_line, say_range

ADVICE = "train on noisy pairs of your own (noise2noise train --help), then denoise with --weights"


class Job(NamedTuple):
    source: Path
    target: Path

    @property
    def comparison(self):
        return self.target.with_name(f"{self.target.stem}-compare{self.target.suffix}")


def add_arguments(parser):
    parser.add_argument("input", nargs="+", metavar="INPUT", help="picture, folder of pictures, or pattern")
    parser.add_argument("-o", "--out", type=Path, metavar="OUT", help="file for one picture, folder for several")
    parser.add_argument("--force", action="store_true", help="replace results that are there already")
    parser.add_argument("--compare", action="store_true", help="also write NAME-compare: noisy | denoised")
    add_range_argument(parser)
    parser.add_argument("--self-ensemble", action="store_true", help="average over 8 views: better, 8 times slower")
    add_model_arguments(parser)


def run(args):
    jobs = plan(args)
    model, started, failed, hints = load_model(args), time.perf_counter(), [], {}
    for job in jobs:
        try:
            denoise_file(model, job, args, hints)
        except (OSError, ValueError, RuntimeError, ImportError, MemoryError) as error:
            failed.append(job.source)
            complain("denoise", error)
    for hint, files in hints.items():
        print(f"note: {listed(files)}: not the noise these weights were trained on: {hint}; if the result disappoints, "
              f"{ADVICE}", file=sys.stderr)  # fmt: skip
    if len(jobs) > 1:
        print(f"Denoised {len(jobs) - len(failed)} of {len(jobs)} pictures in {time.perf_counter() - started:.0f} s.")
    if failed and len(jobs) > 1:
        complain("denoise", f"failed: {', '.join(map(str, failed))}")
    return 1 if failed else 0


def listed(files):
    return one_line(files[0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")


# ------------------------------------------------------------------------------------------------------ the files


def plan(args):
    """The jobs; what cannot work is said before anything is computed."""
    pairs = [pair for given in args.input for pair in sources(given, args.out)]
    several = len(pairs) > 1 or Path(args.input[0]).is_dir()
    if args.out and several and args.out.suffix.lower() in pictures.FORMATS:
        args.parser.error(f"-o {args.out}: expected a folder for several pictures, got the name of a picture")
    if args.out and not args.out.is_dir() and pictures.unwritten(args.out.suffix):
        known = ", ".join(pictures.FORMATS)
        args.parser.error(f"-o {args.out}: expected a folder, or a picture in {known}; choose one of these suffixes")
    jobs = [Job(source, target(source, inside, args.out, several)) for source, inside in pairs]
    check_targets(jobs, args)
    return jobs


def sources(given, out):
    """(file, its place in the output folder) for each picture that an argument names."""
    path = Path(given)
    if path.is_dir():
        results = out.resolve() if out else None
        files = [file for file in pictures.picture_files(path) if results not in file.resolve().parents]
        if not files:
            raise FileNotFoundError(f"no pictures ({', '.join(pictures.FORMATS)}) in {path}")
        return [(file, file.relative_to(path)) for file in files]
    if not path.exists() and glob.has_magic(given):
        files = sorted(Path(name) for name in glob.glob(given, recursive=True) if Path(name).is_file())
        if not files:
            raise FileNotFoundError(f"no file fits the pattern {given}")
        return [(file, Path(file.name)) for file in files]
    return [(path, Path(path.name))]


def target(source, inside, out, several):
    """Where the result goes."""
    if out is None:
        folder = source.parents[len(inside.parts) - 1]
        beside = len(inside.parts) == 1 and not several
        if beside or not folder.name:
            return source.with_name(f"{source.stem}-denoised{source.suffix}")
        return folder.with_name(f"{folder.name}-denoised") / inside
    if not several and not out.is_dir() and out.suffix.lower() in pictures.FORMATS:
        return out
    return out / inside


def check_targets(jobs, args):
    inputs, seen = {job.source.resolve() for job in jobs}, {}
    for job in jobs:
        for path in [job.target] + [job.comparison] * args.compare:
            if path.resolve() in inputs:
                args.parser.error(f"{path}: the result would overwrite an input; choose another -o")
            if path in seen:
                args.parser.error(f"{job.source} and {seen[path]} would both be written to {path}")
            seen[path] = job.source
    remove_left(seen)


# ---------------------------------------------------------------------------------------------------- one picture


def denoise_file(model, job, args, hints):
    started = time.perf_counter()
    picture = pictures.read(job.source)
    outputs = [job.target] + [job.comparison] * args.compare
    for path in outputs:
        check_new(path, args.force)
    format = picture.format
    if job.target.suffix.lower() != job.source.suffix.lower():
        format = pictures.FORMATS[job.target.suffix.lower()]
    compared, ranges = [], pictures.range_of(job.source, given=args.range)

    def pages():
        for number, page in enumerate(picture.pages):
            pixels = pictures.to_pixels(page, ranges[page.dtype])
            with tiles(job.source.name) as advance:
                denoised = model.predict(pixels, args.self_ensemble, advance)
            if not number and not args.weights:
                note(hints, noise.look(pixels, denoised), job.source)
            clean = pictures.with_colours(page, denoised, ranges[page.dtype])
            if format in pictures.EIGHT_BITS:
                page, clean = (pictures.in_eight_bits(each, ranges[each.dtype]) for each in (page, clean))
            if args.compare:
                compared.append(pictures.beside(page, clean, picture.about))
            yield clean

    pictures.write(job.target, picture._replace(format=format, pages=pages()), args.force)
    if args.compare:
        pictures.write(job.comparison, picture._replace(format=format, pages=compared), args.force)
    if picture.note:
        print(one_line(f"note: {job.source}: {picture.note}"), file=sys.stderr)
    say_range(job.source, ranges)
    print(f"{job.source} -> {', '.join(map(str, outputs))} ({time.perf_counter() - started:.1f} s)", flush=True)


def note(hints, seen, source):
    hint = noise.unlike_training(seen)
    if hint:
        hints.setdefault(hint, []).append(source)
