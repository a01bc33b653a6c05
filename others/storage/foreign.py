"""What a file is that is not read here, in words, and what to do with it. No code in it is run."""

from __future__ import annotations

import io
import pickletools
import zipfile
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .tensors import MAKERS, MOST_VALUES, NAMES

LOOKED_AT = 2**24  # bytes of a pickle
HOW = "load it into Model().network with load_state_dict, and write that with others.storage.networks.save"
STATE_DICT = f"a plain state dict; {HOW}"
HOLDS_ONE = f"a state dict, or a checkpoint of another program that holds one; {HOW}"
PARAMETER = "torch._utils _rebuild_parameter"
MODULE = "a whole module, which would run code of its own; save its state_dict()"
PICTURES = b"\x89PNG", b"\xff\xd8\xff", b"II*\0", b"MM\0*"  # PNG, JPEG, TIFF
FOREIGN = {
    b"\x93NUMPY": "an array of NumPy",
    b"\x89HDF": "a file of HDF5, as Keras writes it",
    **dict.fromkeys(PICTURES, "a picture"),
}


def foreign(path: Path | str) -> str:
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


def foreign_zip(path: Path | str) -> str:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith(".npy") for name in names):
            return "arrays of NumPy"
        if any(name.endswith("/constants.pkl") for name in names):
            return "a module of TorchScript, which would run code of its own; save the state_dict() of the module"
        with archive.open(next(name for name in names if name.endswith("/data.pkl"))) as file:
            return foreign_pickles(io.BytesIO(file.read(LOOKED_AT)), 1)


def foreign_pickles(file: BinaryIO, count: int) -> str:
    """Of the pickles that follow one another in a file: that which holds what was saved names what it is made of."""
    makers: set[str] = set()
    names: set[str] = set()
    for _ in range(count):
        for code, name, _ in islice(pickletools.genops(file), 10 * MOST_VALUES):
            if code.name in MAKERS:
                makers.add(code.name)
            if code.name == "GLOBAL":
                names.add(str(name))
    strange = names - NAMES - {PARAMETER}
    if any(name.startswith("torch.nn.") for name in strange):
        return MODULE
    refused = makers or PARAMETER in names or count > 1  # else it is a file of ours, damaged elsewhere
    tensors = any(name.startswith("torch._utils ") for name in names)
    return HOLDS_ONE if tensors and refused and not strange and makers <= {"BUILD"} else ""


def foreign_content(content: Any) -> str:
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
