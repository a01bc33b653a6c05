"""A progress bar, where tqdm is installed."""

from contextlib import contextmanager
from functools import partial


@contextmanager
def progress(**options):
    """with progress(...) as (advance, write): advance(done, total) moves tqdm's bar, made with these options, and
    write(text) prints a line above it. Without tqdm advance is None, and write prints."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield None, partial(print, flush=True)
        return
    with tqdm(**options) as bar:

        def advance(done, total):
            bar.total = total
            bar.update(done - bar.n)  # more than one when it went on from a checkpoint

        yield advance, bar.write
