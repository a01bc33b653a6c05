"""The command line `noise2noise`, also `python -m others`: one file or folder per command."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__
from .streams import complain, one_line, program, surroundings

COMMANDS = ("denoise", "serve", "train", "evaluate", "simulate", "info", "export")
SPINS = "1000"  # of a thread before it sleeps while it waits: more of them block a busy machine, fewer cost time
PRINTING = ("evaluate", "info")  # whose result is what they print


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. -> exit status: 0 fine, 1 something failed, 128 and its number (130, 143, 129) for a signal
    that interrupted; wrong usage exits with 2 (SystemExit)."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text, as stderr knows
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # which torch reads when it is imported
    args = argparse.Namespace(command="")
    with surroundings(lambda problem: complain(args.command, problem)) as stdout:
        try:
            args = parsed(sys.argv[1:] if arguments is None else arguments)
            status = args.run(args) or 0
        except KeyboardInterrupt as error:
            complain(args.command, "interrupted; every file that was written is whole")
            status = 128 + getattr(error, "number", signal.SIGINT)
        except (OSError, ValueError, TypeError, RuntimeError, ImportError, MemoryError) as error:
            complain(args.command, error)
            status = 1
        stdout.flush()
        if stdout.lost and not isinstance(stdout.lost, BrokenPipeError):  # whose reader has seen enough
            complain(args.command, f"what it printed was lost ({stdout.lost.strerror}); files are whole")
            status = status or args.command in PRINTING
    return int(status)


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """What was asked for. A word that begins with - and is a picture that is there, as shells expand * to, is one."""
    words = [f"./{word}" if word.startswith("-") and is_picture(word) else word for word in arguments]
    top = parser()
    if words and words[0] not in COMMANDS and not words[0].startswith("-"):
        near = get_close_matches(words[0], COMMANDS, 1)
        meant = f"denoise {words[0]}" if os.path.exists(words[0]) else "".join(near)
        asked = f"did you mean {top.prog} {meant}?" if meant else f"expected one of {', '.join(COMMANDS)}"
        top.error(f"no command {words[0]}; {asked}")
    args, unknown = top.parse_known_args(words)
    if unknown:
        options = [name for action in args.parser._actions for name in action.option_strings]
        near = get_close_matches(unknown[0].partition("=")[0], options, 1)
        said = f"did you mean {near[0]}?" if near else f"{args.parser.prog} --help lists what it takes"
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}; {said}")
    return args


def is_picture(word: str) -> bool:
    from ..pictures.formats import FORMATS

    return Path(word).suffix.lower() in FORMATS and os.path.isfile(word)


class Parser(argparse.ArgumentParser):
    """Where an option asks for a Path, an empty name, which Path takes for the current folder, is wrong use. What is
    wrong is said in one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("type", Path, name_of_file)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)}\n")


class Help(argparse.RawDescriptionHelpFormatter):
    """Says the default of every option, where its text does not."""

    def _get_help_string(self, action: argparse.Action) -> str:
        text, value = action.help or "", action.default
        if not action.option_strings or action.required or "default" in text or value == argparse.SUPPRESS:
            return text
        return f"{text} (default: {'none' if value is None else 'no' if value is False else value})"


def name_of_file(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected the name of a file or folder, got {text!r}")
    return Path(text)


def parser() -> Parser:
    """That of all commands, imported here: torch takes seconds, in which a signal may come."""
    top = Parser(
        prog=program(),
        description="Denoise pictures, and train the denoiser on noisy pictures alone.",
        epilog=f"{program()} COMMAND --help explains a command, with examples.",
    )
    top.add_argument("--version", action="version", version=f"noise2noise {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = import_module(f".{name}", __package__)
        summary, _, rest = (module.__doc__ or "").replace("noise2noise ", f"{program()} ").partition("\n")
        command = commands.add_parser(name, help=summary, description=summary, epilog=rest, formatter_class=Help)
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return top
