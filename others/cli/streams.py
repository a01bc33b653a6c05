"""What surrounds every command: signals that end it cleanly, and output that may be lost without losing the work."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, TextIO

from ..storage.files import INTERRUPTING

AGAIN = 10.0  # seconds for which further signals are ignored: cleaning up takes less, and torchrun repeats them


def program() -> str:
    """What this command line was called by: its name, or where it is not installed `python -m others`."""
    package = Path(__file__).resolve().parents[1]
    as_module = Path(sys.argv[0]).resolve() == package / "__main__.py"
    return f"python -m {package.name}" if as_module else "noise2noise"


def complain(command: str, problem: BaseException | str) -> None:
    """One line on stderr, whatever the names of files hold. problem: an exception, or words."""
    said = words(problem) if isinstance(problem, BaseException) else problem
    print(f"{' '.join(('noise2noise', *command.split()))}: {one_line(said)}", file=sys.stderr, flush=True)


def words(error: BaseException) -> str:
    """What an exception says; of the system's errors the file and the reason, without the number."""
    if isinstance(error, OSError) and error.strerror:
        file = error.filename2 or error.filename
        return error.strerror if file is None else f"{file}: {error.strerror}"
    return str(error).strip() or type(error).__name__


def one_line(text: object) -> str:
    return " ".join(str(text).split())


class Interrupted(KeyboardInterrupt):
    """A signal came; `number` is which."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


class Stream:
    """A text stream whose reader may go away: what cannot be written is dropped, and `lost` is the first error."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream or open(os.devnull, "w")  # noqa: SIM115
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        self.attempt(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self.attempt(self.stream.flush)

    def attempt(self, function: Callable[..., object], *arguments: Any) -> None:
        if self.lost:
            return
        try:
            function(*arguments)
        except OSError as error:
            self.lost = error
            with suppress(OSError):  # of what is still in its buffer, Python's end would complain
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


@contextmanager
def surroundings(complain: Callable[[BaseException | str], None]) -> Iterator[Stream]:
    """with surroundings(complain) as stdout: SIGINT, SIGTERM and SIGHUP raise Interrupted, unless they are ignored;
    output may be lost; complain(text) says warnings."""
    fill_standard_streams()
    stdout, stderr = Stream(sys.stdout), Stream(sys.stderr)
    with redirect_stdout(stdout), redirect_stderr(stderr), warnings.catch_warnings(), signals_raise():
        warnings.showwarning = lambda message, *_, **__: complain(message)
        warnings.filterwarnings("ignore", "Failed to initialize NumPy")  # torch's, where there is none
        try:
            yield stdout
        finally:
            stdout.flush()
            stderr.flush()


def fill_standard_streams() -> None:
    """The next file that is opened must not become the standard output that a shell has closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


@contextmanager
def signals_raise() -> Iterator[None]:
    """Handlers are those from before afterwards. Python handles signals in the main thread alone."""
    last, before = -AGAIN, {}

    def interrupt(number, frame):
        nonlocal last
        if time.monotonic() - last >= AGAIN:
            last = time.monotonic()
            raise Interrupted(number)

    if threading.current_thread() is threading.main_thread():
        for number in INTERRUPTING:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
