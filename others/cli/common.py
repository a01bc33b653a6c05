"""What several commands share: the model and its options, pixels of picture files."""

from __future__ import annotations

import argparse
import csv
import io
import math
import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from .. import pictures
from ..model import PRECISIONS, Model, denoisers
from ..storage import networks
from ..storage.files import check_new, remove_left, replacing, temporary_for
from .streams import complain, one_line

Number = TypeVar("Number", int, float)

PRECISION = "of activations (default: fp32; to train, bf16 where the processor multiplies it)"
SEEDS = 2**40  # the generator takes 64 bits, of a seed times 1,000,003 and the epoch


def add_model_arguments(
    parser: argparse.ArgumentParser, weights: str = "to use (default: the shipped ones)", default: str = ""
) -> None:
    """default: which denoiser it is without --denoiser and --weights, in words."""
    model = parser.add_argument_group("model")
    default = default or next(iter(denoisers()))
    kinds = "prescribed, rednet (better, half as fast) or camera (for photographs)"
    network = f"{kinds} (default: that of --weights, or {default})"
    model.add_argument("--denoiser", choices=denoisers(), help=network)
    model.add_argument("--weights", type=Path, metavar="FILE", help=weights)
    model.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: cuda where there is one, else cpu)")
    model.add_argument("--precision", choices=PRECISIONS, help=PRECISION)


def add_range_argument(parser: argparse.ArgumentParser) -> None:
    said = "the pictures' black and white, in their own numbers (default: those declared or found)"
    parser.add_argument("--range", nargs=2, type=float, action=LowHigh, metavar=("LOW", "HIGH"), help=said)


class LowHigh(argparse.Action):
    def __call__(
        self, parser: argparse.ArgumentParser, args: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        if not -math.inf < values[0] < values[1] < math.inf:
            parser.error("--range {:g} {:g}: expected LOW below HIGH".format(*values))
        args.range = tuple(values)


def say_range(source: Path | str, ranges: pictures.Ranges) -> None:
    """A line on stderr about black and white that are not the type's own."""
    if ranges.note():
        say(f"{source}: {ranges.note()}")


def say(text: str) -> None:
    """A line on stderr that is no error."""
    print(one_line(f"note: {text}"), file=sys.stderr)


def say_left_out(*folders: Path) -> None:
    """A line for each reason why files in the folders are left out."""
    for folder in folders:
        for reason, files in pictures.left_out(folder).items():
            say(f"left out: {', '.join(map(str, files))}: {reason}")


def status(command: str, failed: Collection[object], what: str = "failed") -> int:
    """The exit status of a command, after saying which files failed."""
    if failed:
        complain(command, f"{what}: {', '.join(map(str, failed))}")
    return 1 if failed else 0


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]], force: bool) -> None:
    """Write rows as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows([header, *rows])
    write_text(path, text.getvalue(), force)


def write_text(path: Path, text: str, force: bool) -> None:
    with replacing(path, force) as file:
        file.write(text.encode(errors="surrogateescape"))  # a name may be no UTF-8


def counted(number: int, one: str, more: str = "") -> str:
    """(1, "pair") -> "1 pair", (2000, "pair") -> "2,000 pairs"; `more` where the plural is not with an s."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def positive(kind: type[Number], most: float = math.inf, least: float = 0) -> Callable[[str], Number]:
    """The type of an option that is a number above 0, from `least` to `most`."""
    said = f"a positive {kind.__name__}"

    def read(text):
        value = number(kind, text, said, lambda value: 0 < value < math.inf)
        if value > most:
            raise refused(f"{said} up to {most:,}", text)
        if value < least:
            raise refused(f"a {kind.__name__} of at least {least}", text)
        return value

    return read


def number(kind: type[Number], text: str, said: str, fits: Callable[[Number], bool]) -> Number:
    """The number in the text of an option. Raises ArgumentTypeError, which says what was expected, unless it fits."""
    try:
        value = kind(text)
    except ValueError:
        raise refused(said, text) from None
    if not fits(value):
        raise refused(said, text)
    return value


def refused(said: str, text: str) -> argparse.ArgumentTypeError:
    return argparse.ArgumentTypeError(f"expected {said}, got {text[:40]}")


def seed(text: str) -> int:
    """The type of an option that is a seed."""
    return number(int, text, f"a seed between -{SEEDS:,} and {SEEDS:,}", lambda value: abs(value) < SEEDS)


def check_ignored(args: argparse.Namespace, given: Sequence[str], why: str) -> None:
    """Say which of these options were given though they do nothing."""
    names = [f"--{name}" for name in given if getattr(args, name) not in (None, False)]
    if names:
        say(f"{' and '.join(names)} {'does' if len(names) == 1 else 'do'} nothing {why}")


def new_model(args: argparse.Namespace) -> Model:
    """An untrained Model as the arguments describe it."""
    name = args.denoiser
    if args.weights and not name:
        names = list(networks.held(args.weights))
        name = next((name for name in names if name in denoisers()), names[0])
    return Model(name, args.device, args.precision)


def load_model(args: argparse.Namespace) -> Model:
    """A Model with the weights that the arguments name."""
    model = new_model(args)
    model.load_pretrained_model(*[args.weights] if args.weights else [])
    return model


def check_outputs(
    outputs: Iterable[Path | None], inputs: Iterable[Path | None], force: bool, own: Collection[Path] = ()
) -> None:
    """Raise before the work what would lose it: OSError where no file can be written; FileExistsError if there is
    something at an output, unless `force` or it is one of `own`; ValueError if that is an input, or a picture or data
    in a folder that is one, or if two outputs are one file. None stands for what was not given. What a killed command
    left half written of an output is removed."""
    seen: dict[Path, Path] = {}
    suffixes = (*pictures.FORMATS, ".pkl")
    for path in filter(None, outputs):
        check_output(path, force or path in own)
        if path.resolve() in seen:
            said = f"expected outputs of different names, got {seen[path.resolve()]} too; choose another name"
            raise ValueError(f"{path}: {said}")
        seen[path.resolve()] = path
        for given in filter(None, inputs):
            inside = given.resolve() in path.resolve().parents and path.suffix.lower() in suffixes
            if os.path.lexists(path) and (inside or path.resolve() == given.resolve()):
                raise ValueError(f"{path}: the result would overwrite an input; choose another name")
    remove_left(seen)


def check_output(path: Path, force: bool = False) -> None:
    """Raise OSError where no file can be written, FileExistsError if there is something, unless `force`."""
    check_place(path)
    check_new(path, force)


def check_place(path: Path) -> None:
    """Raise OSError unless a file can be made at `path`, by making one beside it. Missing folders are not made."""
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path}: expected the name of a file, got a folder; choose another name")
    folder = next(parent for parent in path.parents if os.path.lexists(parent))
    temporary = temporary_for(path, folder)
    try:
        open(temporary, "xb").close()
    except OSError as error:
        said = f"expected a place that takes files, got {folder} ({error.strerror}); choose another"
        raise OSError(f"{path}: {said}") from error
    finally:
        with suppress(OSError):
            os.unlink(temporary)
