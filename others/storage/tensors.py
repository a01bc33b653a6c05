"""Files of tensors as torch.save writes them, by whomever: checked before they are read, and without running code."""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .signals import Held

LARGEST = 4 * 2**30  # bytes of a file that is read into memory
LARGEST_INDEX = 64 * 2**20  # bytes of a mapped file that are, all the same: its directory, and what is no tensor
MOST_VALUES = 100_000  # in a file: weights, names, numbers
STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
NAMES = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict", *(f"torch {kind}Storage" for kind in STORAGES)}
MAKERS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "BUILD"}  # torch writes none


class CheckpointError(RuntimeError):
    """A file that is not a complete and matching checkpoint; the message names everything that is wrong."""


def read(path: Path | str, advice: str = "", mmap: bool = False, old: bool = False) -> Any:
    """The tensors and plain values in a file that torch.save wrote, on the CPU, whoever made it.

    What the zip declares is checked before it is read: nothing is compressed, so the memory taken is bounded by the
    size of the file. torch does not check the sums of the zip, so it is given a copy that was checked. Only names of
    tensors and of dicts may stand in the pickle. With mmap, tensors stay on the disk until they are used: they may be
    of any size, and their sums are not checked. With old, files of torch before 1.6, which are no zips, may be read,
    too. Raises FileNotFoundError or CheckpointError.
    """
    path = Path(path)
    if not path.is_file():
        reason = "it is a folder" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"no weights at {path} ({reason}): {advice}")
    with Held():  # of an exception at any moment zipfile makes another one, or nothing
        return read_whole(path, mmap, old)


def read_whole(path: Path, mmap: bool, old: bool) -> Any:
    """As `read`, of a file that is there."""
    try:
        size = path.stat().st_size
        if old and not zipfile.is_zipfile(path):
            check_old(path)
            file: Path | io.BytesIO = path
        else:
            check_size(path, size, mmap)
            with zipfile.ZipFile(path) as archive:
                check_directory(archive, size, mmap)
                file = path if mmap else checked_copy(archive)
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
        check_content(content, size)
        return content
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except PermissionError:
        raise
    except Exception as error:
        broken, kind = isinstance(error, zipfile.BadZipFile), type(error).__name__
        damaged = " is damaged," if broken and "CRC" in str(error) else ""
        advice = "choose a file of weights, or restore this one" if broken and not damaged else "restore the file"
        raise CheckpointError(f"{path}:{damaged} not a readable checkpoint ({kind}); {advice}") from error


def check_size(path: Path, size: int, mmap: bool) -> None:
    """Raise CheckpointError if too much would be read into memory to see what is in a zip.

    A file that torch maps it opens itself: such a zip must end as torch's do, so that torch cannot find another
    directory in it than the one that is checked here. (APPNOTE 6.3.10, 4.3.14 to 4.3.16)
    """
    if not mmap:
        if size > LARGEST:
            raise CheckpointError(f"not a checkpoint: expected at most {LARGEST} bytes, got {size}")
        return
    with path.open("rb") as file:
        file.seek(max(0, size - 98))
        end = file.read().ljust(98)
    record, length, offset, locator, place, last, comment = struct.unpack("<4s36xQQ4s4xQ4x4s16xH", end)
    whole = (record, locator, last, comment) == (b"PK\6\6", b"PK\6\7", b"PK\5\6", 0)
    if not whole or place != size - 98 or offset + length != place or length > LARGEST_INDEX:
        raise CheckpointError("not a checkpoint: expected a zip that ends as those of torch do; save it with torch")


def check_directory(archive: zipfile.ZipFile, size: int, mmap: bool = False) -> None:
    """Raise CheckpointError unless the zip is of the kind that torch writes, and its pickle names only tensors."""
    entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError("not a checkpoint: its content is compressed")
    if sum(entry.file_size for entry in entries) > size:
        raise CheckpointError(f"not a checkpoint: its content claims more than {size} bytes")
    index = sum(entry.file_size for entry in entries if not re.fullmatch(r"[^/]+/data/\d+", entry.filename))
    if mmap and index > LARGEST_INDEX:
        raise CheckpointError(f"not a checkpoint: expected at most {LARGEST_INDEX} bytes besides tensors, got {index}")
    if len({entry.filename for entry in entries}) < len(entries):
        raise CheckpointError("not a checkpoint: the same name stands in it twice")
    pickles = [entry for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(f"not a checkpoint: expected one data.pkl in it, got {len(pickles)}")
    check_names(archive.read(pickles[0]))


def check_names(pickled: bytes | BinaryIO) -> None:
    """Raise CheckpointError if a pickle (bytes, or a file that stands before one) would call anything but tensors."""
    for code, name, _ in pickletools.genops(pickled):
        if code.name in MAKERS or (code.name == "GLOBAL" and name not in NAMES):
            raise CheckpointError(f"not a checkpoint: it names {str(name or code.name)[:80]!r}, which is no tensor")
        if code.name == "PROTO" and name != 2:
            raise CheckpointError(f"not a checkpoint: pickle protocol {name}, expected 2")


def check_old(path: Path) -> None:
    """torch before 1.6 wrote five pickles and then the bytes of the tensors."""
    with open(path, "rb") as file:
        for _ in range(5):
            check_names(file)


def checked_copy(archive: zipfile.ZipFile) -> io.BytesIO:
    """The same entries in a zip in memory. Raises BadZipFile if a sum is wrong."""
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as checked:
        for entry in archive.infolist():
            checked.writestr(entry.filename, archive.read(entry))
    copy.seek(0)
    return copy


def check_content(content: object, size: int) -> None:
    """Raise CheckpointError for what is small in a file and large in use: tensors that repeat themselves, and values
    that hold each other many times. Tensors that wanted gradients, as torch's parameters do, no longer do."""
    waiting, seen = [content], 0
    while waiting:
        value, seen = waiting.pop(), seen + 1
        if seen > MOST_VALUES:
            raise CheckpointError(f"not a checkpoint: it holds more than {MOST_VALUES} values")
        if isinstance(value, torch.Tensor):
            held = value.untyped_storage().nbytes()
            if value.numel() * value.element_size() > held or held > size:
                raise CheckpointError(f"not a checkpoint: a tensor claims shape {tuple(value.shape)}")
            value.requires_grad_(False)
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value
