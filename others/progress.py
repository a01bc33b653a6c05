"""How far something is: tqdm's bar on a terminal or in a notebook, where tqdm is installed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias

PATIENCE = 2  # seconds that a prediction may take without a word

Advance: TypeAlias = Callable[[int, int], object]  # called with (done, total)


@contextmanager
def progress(**options: Any) -> Iterator[tuple[Advance | None, Callable[[str], object]]]:
    """with progress(...) as (advance, write): advance(done, total) moves tqdm's bar, made with these options, and
    write(text) prints a line above it. Without tqdm, and where stderr is neither a terminal nor a notebook's, advance
    is None, and write prints."""
    try:
        from tqdm import tqdm
    except ImportError:
        tqdm = None
    if tqdm is None or not (getattr(sys.stderr, "isatty", bool)() or "ipykernel" in sys.modules):
        yield None, partial(print, flush=True)
        return
    with tqdm(**options) as bar:

        def advance(done, total):
            bar.total = total
            bar.update(done - bar.n)  # more than one when it went on from a checkpoint

        yield advance, bar.write


@contextmanager
def tiles(title: str) -> Iterator[Advance]:
    """with tiles(title) as advance: advance(done, total) shows on stderr, from 2 seconds on, the tiles that are done
    and the time left: in tqdm's bar, or where there is none in a line at 2, 4, 8 ... seconds."""
    with progress(desc=title, delay=PATIENCE, unit="tile", leave=False) as (advance, _):
        yield advance or lines(title)


def lines(title: str) -> Advance:
    """advance(done, total) that writes a line whenever twice the time has passed."""
    started, due = time.monotonic(), float(PATIENCE)

    def advance(done, total):
        nonlocal due
        passed = time.monotonic() - started
        if passed >= due and done < total:
            due = 2 * passed
            left = passed * (total - done) / done
            print(f"{title}: {done} of {total} tiles, {left:.0f} s left", file=sys.stderr, flush=True)

    return advance
