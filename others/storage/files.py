"""Writing files whole or not at all, and one writer at a time."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # tested for wherever it is used

if TYPE_CHECKING:
    from filelock import BaseFileLock

INTERRUPTING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
WAIT = 0.05  # seconds between two tries
TEMPORARY = ".n2n-tmp"  # ends the names of files that are not yet whole
LOCK = ".n2n-lock"  # ends those of locks: no other program's


def check_new(path: Path | str, force: bool = False) -> None:
    """Raise FileExistsError if there is something at `path`, unless `force` allows to replace it; OSError if that is
    no file: a device, a pipe, a folder."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path}: expected a file or nothing there, got a folder, device or pipe; choose another name")
    if not force and os.path.lexists(path):
        raise FileExistsError(f"{path} exists; choose another name, or --force to replace it")


@contextmanager
def replacing(path: Path | str, force: bool = False, make_folder: bool = True) -> Iterator[BinaryIO]:
    """with replacing(path) as file: a binary file that becomes `path` when the block ends well.

    The bytes go to a temporary file in the same folder (made if need be), reach the disk, and take their place in one
    step; on any exception the temporary file is removed and what was at `path` stays, and an OSError names `path` if it
    named no file. The new file has the mode and the owner of the old one, as far as the user may give them, and is
    made by the umask where there was none. A link stays, and what it names is replaced. Raises FileExistsError if
    something is there, unless `force`, and OSError where the disk does not take it or something there is no file.
    """
    check_new(path, force)
    path = Path(os.path.realpath(path))
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(path, path.parent)
    try:
        with create(temporary, path) as file:  # tifffile asks a file for its name
            yield file
            file.flush()
            os.fsync(file.fileno())
            if not fcntl:
                file.close()  # Windows moves only what is closed
            put(temporary, path, force)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temporary)
        name_file(error, path)
        raise


def name_file(error: BaseException, path: Path) -> None:
    """Let an OSError that names no file name this one."""
    if isinstance(error, OSError) and error.filename is None:
        if error.strerror:
            error.filename = str(path)
        elif str(path) not in str(error):
            error.args = (f"{path}: not written ({error})",)


def temporary_for(path: Path, folder: Path) -> str:
    """The name of a file in a folder that is not there yet, as `replacing(path)` writes to and `remove_left` removes.
    It is chosen before there is a file, so that a signal while that is made leaves none."""
    while True:
        name = os.path.join(folder, f".{path.name}.{secrets.token_urlsafe(6)}{TEMPORARY}")
        if not os.path.lexists(name):
            return name


def create(name: str, path: Path) -> BinaryIO:
    """The new file `name`, open, held until it is closed, with mode and owner of what is at `path`."""
    old = os.stat(path) if os.path.exists(path) else None
    mode = 0o666 if old is None else old.st_mode & 0o777
    file = open(name, "x+b", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
    with suppress(OSError):
        hold(file)
    if old and fcntl:
        for owner in ((-1, old.st_gid), (old.st_uid, -1)):
            with suppress(OSError):
                os.fchown(file.fileno(), *owner)
        with suppress(OSError):
            os.fchmod(file.fileno(), mode)
    return file


def hold(file: IO[bytes]) -> None:
    """Tell other processes until `file` is closed, or this one ends in any way, that somebody writes it. Raises OSError
    if another process does. Windows keeps what is open from being removed in any case."""
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def put(temporary: str, path: Path, force: bool) -> None:
    """Let the temporary file take the place of `path`: of nothing, unless `force`, also if another comes meanwhile."""
    if not force:
        with suppress(OSError):  # there is something, or the file system knows no second names
            os.link(temporary, path)
            os.unlink(temporary)
            return
    check_new(path, force)
    os.replace(temporary, path)


def remove_left(paths: Iterable[Path | str]) -> None:
    """Remove the temporary files that killed processes left of `replacing` one of `paths`: those that nobody holds."""
    meant = [Path(os.path.realpath(path)) for path in paths]
    for folder in {path.parent for path in meant if path.parent.is_dir()}:
        names = {path.name for path in meant if path.parent == folder}
        with suppress(OSError), os.scandir(folder) as entries:
            for left in entries:
                if target_of(left.name) in names and left.is_file(follow_symlinks=False):
                    remove_unless_held(left.path)


def target_of(name: str) -> str | None:
    """The name that a temporary file is to have; None for other files."""
    end = -len(TEMPORARY) - 9
    return name[1:end] if name.startswith(".") and name.endswith(TEMPORARY) and name[end:][:1] == "." else None


def remove_unless_held(path: str) -> None:
    with suppress(OSError):
        with open(path, "rb") as file:
            hold(file)
            if fcntl:
                os.unlink(path)
        if not fcntl:
            os.unlink(path)


@contextmanager
def locked(path: Path | str | None, patience: float = 0.0) -> Iterator[None]:
    """with locked(path): no other process or thread that asks so writes `path`. Nothing for a path of None.

    An advisory lock on .NAME.n2n-lock beside it, which is there meanwhile; the system releases it however the process
    ends. What a process that was killed left of `replacing(path)` is removed. Raises BlockingIOError if somebody else
    has the lock for more than `patience` seconds. Where no lock can be made (the folder is missing or cannot be written
    to, or the file system knows no locks) there is none.
    """
    lock = acquire(path, patience) if path else None
    if not (path and lock):
        yield
        return
    try:
        remove_left([path])
        yield
    finally:
        with suppress(OSError):  # Windows removes nothing that is open; filelock does it there
            os.unlink(lock.lock_file)
        lock.release()


def acquire(path: Path | str, patience: float) -> BaseFileLock | None:
    """The lock of a path, held; None where nothing can be locked."""
    from filelock import FileLock, Timeout

    meant = Path(os.path.realpath(path))
    if not meant.parent.is_dir():
        return None  # filelock would make it
    lock = FileLock(meant.with_name(f".{meant.name}{LOCK}"), thread_local=False)
    try:
        lock.acquire(timeout=patience, poll_interval=WAIT)
    except Timeout:
        said = f"{path}: another training is writing this file; wait for it, or choose another file"
        raise BlockingIOError(said) from None
    except (OSError, NotImplementedError):
        return None
    return lock
