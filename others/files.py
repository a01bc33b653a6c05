"""Writing files whole or not at all."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path


def check_new(path, force=False):
    """Raise FileExistsError if there is something at `path`, unless `force` allows to replace it."""
    if not force and os.path.lexists(path):
        raise FileExistsError(f"{path} exists; choose another name, or --force to replace it")


@contextmanager
def replacing(path, force=False, make_folder=True):
    """with replacing(path) as file: a binary file that becomes `path` when the block ends well.

    The bytes go to a temporary file in the same folder (made if need be), reach the disk, and take their place in one
    step; on any exception the temporary file is removed and what was at `path` stays. Raises FileExistsError if
    something is there, unless `force`, and OSError where the disk does not take it.
    """
    path = Path(path)
    check_new(path, force)
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
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
