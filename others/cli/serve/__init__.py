"""Denoise pictures in the browser, on this machine alone.

examples:
  noise2noise serve                     prints the address of a page
  noise2noise serve --port 0 --open     on any port that is free, and opens the page
  noise2noise serve --weights own.pth

Pictures are dropped on the page, and come out as noise2noise denoise writes them, bit for bit. Only programs of this
machine reach it, and only with the address that is printed, which holds a key. One picture is denoised at a time; the
others wait, whichever window they came from. A megapixel takes about 7 s on two cores. What the page holds is on the
disk in one folder, which is removed at the end: Ctrl-C."""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ... import pictures
from ...progress import Advance
from ..common import add_model_arguments, complain, number
from ..denoise import NOISES, STRONGEST, Denoiser, Job, denoise_picture, strength
from ..streams import program
from .desk import LARGEST, Desk, Held
from .server import Refused, Server

PORT = 8017
DEFAULTS = {
    "noise": None,
    "strength": 1.0,
    "compare": False,
    "csv": None,
    "force": False,
    "quality": None,
    "range": None,
    "self_ensemble": False,
}  # those of `denoise`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=port, default=PORT, metavar="N", help=f"0: any free one (default: {PORT})")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    add_model_arguments(parser, default="what the page asks for")
    parser.set_defaults(**DEFAULTS)


def port(text: str) -> int:
    """The type of an option that is a port."""
    return number(int, text, f"a port from 0 to {2**16 - 1}", lambda value: 0 <= value < 2**16)


def run(args: argparse.Namespace) -> int:
    with serving(args) as (desk, server):
        print(f"Open {server.url} in a browser; Ctrl-C ends it.", flush=True)
        if args.open:
            webbrowser.open(server.url)
        try:
            desk.work()
        except KeyboardInterrupt as ended:
            if getattr(ended, "number", signal.SIGINT) != signal.SIGINT:
                raise
            print("The page has ended.", flush=True)
    return 0


@contextmanager
def serving(args: argparse.Namespace) -> Iterator[tuple[Desk, Server]]:
    """with serving(args) as (desk, server): the page is there, and desk.work() denoises. What cannot work is said
    before: OSError for the port, and what `Denoiser` raises for weights and devices."""
    folder = Path(tempfile.gettempdir(), f"noise2noise-{secrets.token_hex(8)}")
    denoiser = Denoiser(args)
    desk = Desk(folder, lambda held: denoise(denoiser, desk, held))
    try:
        folder.mkdir(mode=0o700)
        with Server(args.port, desk, about(denoiser), options, lambda said: complain("serve", said)) as server:
            denoiser.model(denoiser.named())
            with server.answering():
                yield desk, server
    finally:
        desk.close()
        shutil.rmtree(folder, ignore_errors=True)


def about(denoiser: Denoiser) -> dict[str, object]:
    """What the page has to know."""
    own = denoiser.own and (denoiser.args.weights.name if denoiser.args.weights else denoiser.args.denoiser)
    return {
        "formats": list(pictures.FORMATS),
        "largest": LARGEST,
        "program": program(),
        "noises": [] if own else NOISES,
        "own": own or "",
        "strongest": STRONGEST,
    }


def options(asked: dict[str, str]) -> dict[str, object]:
    """The options of `denoise` in what a page asks for. Raises Refused."""
    noise = asked.get("noise", "auto")
    if noise not in NOISES:
        raise Refused(400, f"expected weights to be one of {', '.join(NOISES)}, got {noise[:40]}")
    try:
        return {"noise": noise, "strength": strength(asked.get("strength", "1"))}
    except argparse.ArgumentTypeError:
        raise Refused(400, f"expected a strength from 0 to {STRONGEST}, got {asked['strength'][:40]}") from None


def denoise(denoiser: Denoiser, desk: Desk, held: Held) -> None:
    """Write the result of a picture, as the command `denoise` does."""

    @contextmanager
    def page() -> Iterator[Advance]:
        held.page += 1
        yield lambda done, total: desk.advance(held, done, total)

    started = time.perf_counter()
    args = argparse.Namespace(**{**vars(denoiser.args), **held.options})
    work = denoise_picture(Denoiser(args, denoiser.models), Job(held.source, held.target), [held.target], args, page)
    held.said = f"{work}; {time.perf_counter() - started:.1f} s"
    held.notes = [note.replace("--range", f"{program()} denoise --range") for note in work.notes]
    print(f"{held.name} ({held.said})", flush=True)
