"""The command line `noise2noise`, also `python -m others`: one file per command."""

import argparse
import os
import sys

from . import denoise, evaluate, export, info, simulate, train
from .common import complain, one_line

COMMANDS = (denoise, train, evaluate, simulate, info, export)


def main(arguments=None):
    """Run the command line. -> exit status: 0 fine, 1 something failed; wrong usage exits with 2 (SystemExit)."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text, as stderr knows
    args = parser().parse_args(arguments)
    try:
        status = args.run(args) or 0
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        problem = "interrupted; every file that was written is whole"
    except (OSError, ValueError, TypeError, RuntimeError, ImportError, MemoryError) as error:
        problem = str(error).strip() or type(error).__name__
    complain(args.command, problem)
    return 1


class Parser(argparse.ArgumentParser):
    def error(self, message):
        super().error(one_line(message))


def parser():
    top = Parser(
        prog="noise2noise",
        description="Denoise pictures, and train the denoiser on noisy pictures alone.",
        epilog="noise2noise COMMAND --help explains a command, with examples.",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS:
        name = module.__name__.rsplit(".", 1)[1]
        summary, _, rest = module.__doc__.partition("\n")
        command = commands.add_parser(
            name, help=summary, description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run, parser=command)
    return top
