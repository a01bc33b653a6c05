"""Writing files whole or not at all, and one writer at a time."""

import errno
import os
import tempfile
import time
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

TAKEN = errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK  # how systems say that another holds a lock
WAIT = 0.05  # seconds between two tries
TEMPORARY = ".n2n-tmp"  # ends the names of files that are not yet whole


def check_new(path, force=False):
    """Raise FileExistsError if there is something at `path`, unless `force` allows to replace it; OSError if that is
    no file: a device, a pipe, a folder."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{path}: expected a file or nothing there, got a folder, device or pipe; choose another name")
    if not force and os.path.lexists(path):
        raise FileExistsError(f"{path} exists; choose another name, or --force to replace it")


@contextmanager
def replacing(path, force=False, make_folder=True):
    """with replacing(path) as file: a binary file that becomes `path` when the block ends well.

    The bytes go to a temporary file in the same folder (made if need be), reach the disk, and take their place in one
    step; on any exception the temporary file is removed and what was at `path` stays. A link stays, and what it names
    is replaced. Raises FileExistsError if something is there, unless `force`, and OSError where the disk does not take
    it or something there is no file.
    """
    check_new(path, force)
    path = Path(os.path.realpath(path))
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(path, path.parent)
    try:
        with open(temporary, "w+b") as file:  # tifffile asks a file for its name
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        check_new(path, force)  # it may have come meanwhile
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def temporary_for(path, folder):
    """The name of a new, empty file in a folder, as `replacing(path)` writes to and `locked(path)` removes."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=folder)
    os.close(handle)
    return name


@contextmanager
def locked(path, patience=0.0):
    """with locked(path): no other process or thread that asks so writes `path`. Nothing for a path of None.

    An advisory lock on PATH.lock, which is there meanwhile; the system releases it however the process ends. What a
    process that was killed left of `replacing(path)` is removed. Raises BlockingIOError if somebody else has the lock
    for more than `patience` seconds. Where no lock can be made (the folder is missing or cannot be written to, or the
    file system knows no locks) there is none.
    """
    meant = path and Path(os.path.realpath(path))
    file = path and acquire(Path(f"{meant}.lock"), patience)
    if file is False:
        raise BlockingIOError(f"{path}: another training is writing this file; wait for it, or choose another file")
    if not file:
        yield
        return
    try:
        for left in meant.parent.glob(f".{escape(meant.name)}.{'?' * 8}{TEMPORARY}"):
            left.unlink(missing_ok=True)
        yield
    finally:
        release(file)


def acquire(path, patience):
    """The open and locked file, False if somebody else has it, None where nothing can be locked."""
    while True:
        try:
            file = open(path, "a")  # noqa: SIM115
        except OSError:
            return None
        try:
            lock(file)
            if still_there(file):
                return file
            file.close()
        except OSError as error:
            file.close()
            if error.errno not in TAKEN:
                return None
            if patience <= 0:
                return False
            patience -= WAIT
            time.sleep(WAIT)


def lock(file):
    """Lock an open file until it is closed. Raises OSError if somebody else has it."""
    if fcntl:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)


def still_there(file):
    """Whether an open file was not removed by the one who had it locked before."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(file.name))
    except FileNotFoundError:
        return False


def release(file):
    """Remove it while it is locked; Windows removes only what is closed, and nothing that somebody else has opened."""
    if not fcntl:
        file.close()
    with suppress(OSError):
        os.unlink(file.name)
    file.close()
