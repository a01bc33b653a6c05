"""Files of weights: written atomically, read without running code, verified before use."""

import io
import pickletools
import re
import struct
import zipfile
from itertools import islice
from math import isfinite
from pathlib import Path

import torch

from .files import locked, replacing

FORMAT = 1  # what `save` writes
READABLE = (1,)  # formats of all released versions
LARGEST = 4 * 2**30  # bytes of a file that is read into memory
LARGEST_INDEX = 64 * 2**20  # bytes of a mapped file that are, all the same: its directory, and what is no tensor
LARGEST_WEIGHT = 1e6  # in magnitude: far beyond any of a denoiser, and networks of such weights overflow or saturate
MOST_VALUES = 100_000  # in a file: weights, names, numbers
STORAGES = ("Double", "Float", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
NAMES = {"torch._utils _rebuild_tensor_v2", "collections OrderedDict", *(f"torch {kind}Storage" for kind in STORAGES)}
MAKERS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "BUILD"}  # torch writes none


class CheckpointError(RuntimeError):
    """A file that is not a complete and matching checkpoint; the message names everything that is wrong."""


def save(path, content):
    """Write `content` (tensors, numbers, strings, dicts and lists of them) to `path`, whole or not at all, as
    `replacing` does; only what can be read back takes the place of what was there."""
    whole = serialised({"format": FORMAT, **content})
    with replacing(path, force=True, make_folder=False) as file:
        file.write(whole)
        file.flush()
        load(file.name)


def serialised(content):
    """What torch.save writes, in memory: it turns any exception of a file, a full disk or a signal, into an error of
    its own."""
    whole = io.BytesIO()
    torch.save(content, whole)
    return whole.getbuffer()


def load(path):
    """The content that `save` wrote, on the CPU.

    Raises FileNotFoundError when there is no such file, CheckpointError for anything that is not whole.
    """
    try:
        content = read(path, "train and save a model, or restore the file from the repository")
    except CheckpointError as error:
        found = foreign(path)
        if found:
            raise CheckpointError(f"{path}: expected weights as `train` writes them, got {found}") from error
        raise
    version = content.get("format") if isinstance(content, dict) else None
    found = foreign_content(content)
    if version is None and found:
        raise CheckpointError(f"{path}: expected weights as `train` writes them, got {found}")
    if not isinstance(version, int) or version not in READABLE:
        found = version if isinstance(version, int) else f"a {type(content).__name__} without a number"
        raise CheckpointError(f"{path}: expected checkpoint format {FORMAT}, got {found}")
    return content


HOW = "load it into Model().network with load_state_dict, and write that with others.checkpoint.save_denoiser"
STATE_DICT = f"a plain state dict; {HOW}"
HOLDS_ONE = f"a state dict, or a checkpoint of another program that holds one; {HOW}"
PARAMETER = "torch._utils _rebuild_parameter"
MODULE = "a whole module, which would run code of its own; save its state_dict()"
FOREIGN = {b"\x93NUMPY": "an array of NumPy", b"\x89HDF": "a file of HDF5, as Keras writes it"}


def foreign(path):
    """What a file is that is not read here, and what to do with it; "" if that is not known. No code in it is run."""
    try:
        with open(path, "rb") as file:
            start = file.read(16)
            if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < Path(path).stat().st_size:
                return f"safetensors: safetensors.torch.load_file gives a state dict; {HOW}"
            for beginning, found in FOREIGN.items():
                if start.startswith(beginning):
                    return found
            if zipfile.is_zipfile(path):
                return foreign_zip(path)
            file.seek(0)
            return foreign_pickles(file, 5)
    except Exception:  # zipfile and pickletools raise what their parsing stumbles over
        return ""


def foreign_zip(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith(".npy") for name in names):
            return "arrays of NumPy"
        if any(name.endswith("/constants.pkl") for name in names):
            return "a module of TorchScript, which would run code of its own; save the state_dict() of the module"
        with archive.open(next(name for name in names if name.endswith("/data.pkl"))) as file:
            return foreign_pickles(io.BytesIO(file.read(LARGEST_INDEX)), 1)


def foreign_pickles(file, count):
    """Of the pickles that follow one another in a file: that which holds what was saved names what it is made of."""
    makers, names = set(), set()
    for _ in range(count):
        for code, name, _ in islice(pickletools.genops(file), 10 * MOST_VALUES):
            if code.name in MAKERS:
                makers.add(code.name)
            if code.name == "GLOBAL":
                names.add(name)
    strange = names - NAMES - {PARAMETER}
    if any(name.startswith("torch.nn.") for name in strange):
        return MODULE
    refused = makers or PARAMETER in names or count > 1  # else it is a file of ours, damaged elsewhere
    tensors = any(name.startswith("torch._utils ") for name in names)
    return HOLDS_ONE if tensors and refused and not strange and makers <= {"BUILD"} else ""


def foreign_content(content):
    """What is in a file of tensors that `save` did not write, and what to do with it; "" if that is not known."""
    if isinstance(content, dict) and content and all(isinstance(value, torch.Tensor) for value in content.values()):
        return STATE_DICT
    if isinstance(content, dict):
        held = [str(key)[:40] for key, value in content.items() if isinstance(value, dict) and foreign_content(value)]
        return f"the checkpoint of another program, whose {held[0]!r} is {STATE_DICT}" if held else ""
    pair = isinstance(content, (list, tuple)) and len(content) == 2
    if pair and all(isinstance(value, torch.Tensor) and value.dim() == 4 for value in content):
        return "a pair of images, as the course's data are; that is for train --data or evaluate"
    return ""


def read(path, advice="", mmap=False, old=False):
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
    try:
        size = path.stat().st_size
        if old and not zipfile.is_zipfile(path):
            check_old(path)
            file = path
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
        damaged = " is damaged," if isinstance(error, zipfile.BadZipFile) and "CRC" in str(error) else ""
        raise CheckpointError(
            f"{path}:{damaged} not a readable checkpoint ({type(error).__name__}); restore the file"
        ) from error


def check_size(path, size, mmap):
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


def check_directory(archive, size, mmap=False):
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


def check_names(pickled):
    """Raise CheckpointError if a pickle (bytes, or a file that stands before one) would call anything but tensors."""
    for code, name, _ in pickletools.genops(pickled):
        if code.name in MAKERS or (code.name == "GLOBAL" and name not in NAMES):
            raise CheckpointError(f"not a checkpoint: it names {str(name or code.name)[:80]!r}, which is no tensor")
        if code.name == "PROTO" and name != 2:
            raise CheckpointError(f"not a checkpoint: pickle protocol {name}, expected 2")


def check_old(path):
    """torch before 1.6 wrote five pickles and then the bytes of the tensors."""
    with open(path, "rb") as file:
        for _ in range(5):
            check_names(file)


def checked_copy(archive):
    """The same entries in a zip in memory. Raises BadZipFile if a sum is wrong."""
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w") as checked:
        for entry in archive.infolist():
            checked.writestr(entry.filename, archive.read(entry))
    copy.seek(0)
    return copy


def check_content(content, size):
    """Raise CheckpointError for what is small in a file and large in use: tensors that repeat themselves, and values
    that hold each other many times."""
    waiting, seen = [content], 0
    while waiting:
        value, seen = waiting.pop(), seen + 1
        if seen > MOST_VALUES:
            raise CheckpointError(f"not a checkpoint: it holds more than {MOST_VALUES} values")
        if isinstance(value, torch.Tensor):
            held = value.untyped_storage().nbytes()
            if value.numel() * value.element_size() > held or held > size:
                raise CheckpointError(f"not a checkpoint: a tensor claims shape {tuple(value.shape)}")
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)):
            waiting += value


def save_denoiser(path, name, arguments, network, info, alone=False):
    """Put the weights of one architecture into `path`, beside those of the others already there, or `alone`.

    arguments: the constructor's, plain values. info: where the weights come from (data, recipe, figures, date).
    """
    path = Path(path)
    state = {key: value.float().cpu().clone() for key, value in network.state_dict().items()}
    with locked(None if alone else path, patience=60.0):  # another architecture may be put into it at the same time
        others = denoisers(path) if path.exists() and not alone else {}
        save(path, {"denoisers": {**others, name: {"arguments": arguments, "state": state, "info": info}}})


def denoisers(path):
    """{name: what `save_denoiser` put there} of all architectures in a file, still unchecked.

    Raises as `load` does, and CheckpointError if there is none, as in the file that --resume keeps of a training.
    """
    held = load(path).get("denoisers")
    if not isinstance(held, dict) or not held:
        raise CheckpointError(f"{path}: expected weights of a denoiser, found nothing; choose a file of weights")
    return held


def load_denoiser(path, name, expected=None):
    """{"arguments", "state", "info"} of the architecture `name`.

    expected: a function of the constructor's arguments that gives a network's state, whose names and shapes the file
    must have. Raises FileNotFoundError, or CheckpointError if the file is damaged or does not hold finite weights of
    that name that fit; the message names all that do not.
    """
    held = denoisers(path)
    if name not in held:
        found = ", ".join(str(key)[:80] for key in held)
        raise CheckpointError(f"{path}: expected weights of {name!r}, found {found}")
    saved = held[name]
    complete = isinstance(saved, dict) and {"arguments", "state", "info"} <= saved.keys()
    if not complete or not isinstance(saved["state"], dict) or not isinstance(saved["info"], dict):
        raise CheckpointError(f"{path}: the entry {name!r} is incomplete")
    wrong = [problem for key, value in saved["state"].items() for problem in problems(key, value)]
    if expected:
        try:
            wrong += misfits(saved["state"], expected(**saved["arguments"]))
        except Exception as error:
            wrong.append(f"no network can be built from its arguments ({type(error).__name__}: {str(error)[:200]})")
    if wrong:
        raise CheckpointError(f"{path}: weights of {name!r} do not fit: {'; '.join(wrong)}")
    return saved


def problems(key, value):
    """What is wrong with one weight, whatever the network."""
    if not isinstance(value, torch.Tensor):
        yield f"{key} is a {type(value).__name__}, expected a tensor"
    elif not value.is_floating_point():
        yield f"{key} has dtype {value.dtype}, expected floating point"
    elif value.numel() and not (largest := float(value.float().abs().max())) <= LARGEST_WEIGHT:  # 64 bits overflow, too
        found = f"has values up to {largest:.3g}, expected {LARGEST_WEIGHT:.0e} at most"
        yield f"{key} {found if isfinite(largest) else 'is not finite'}"


def misfits(state, expected):
    """Names and shapes that differ."""
    yield from (f"{key} is missing" for key in expected if key not in state)
    yield from (f"{str(key)[:80]} is unexpected" for key in state if key not in expected)
    for key, value in state.items():
        if key in expected and isinstance(value, torch.Tensor) and value.shape != expected[key].shape:
            yield f"{key} has shape {tuple(value.shape)}, expected {tuple(expected[key].shape)}"
