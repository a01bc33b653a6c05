"""Checkpoints: what this project keeps in files, written whole or not at all, and read as `tensors.read` does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from .files import replacing
from .foreign import foreign, foreign_content
from .signals import Held
from .tensors import CheckpointError, read

FORMAT = 1  # what `save` writes
READABLE = (1,)  # formats of all released versions


def save(path: Path | str, content: dict[str, Any]) -> None:
    """Write `content` (tensors, numbers, strings, dicts and lists of them) to `path`, whole or not at all, as
    `replacing` does; only what can be read back takes the place of what was there. Signals wait for that."""
    whole = serialised({"format": FORMAT, **content})
    with Held(), replacing(path, force=True, make_folder=False) as file:
        file.write(whole)
        file.flush()
        load(file.name)


def serialised(content: object) -> memoryview:
    """What torch.save writes, in memory: it turns any exception of a file, as of a full disk, into an error of its own.
    Signals wait: of their exceptions it would make another one, or nothing."""
    whole = io.BytesIO()
    with Held():
        torch.save(content, whole)
    return whole.getbuffer()


def load(path: Path | str) -> dict[str, Any]:
    """The content that `save` wrote, on the CPU.

    Raises FileNotFoundError when there is no such file, CheckpointError for anything that is not whole.
    """
    try:
        content = read(path, "choose a file of weights, or restore this one from where the project came from")
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
        found = str(version) if isinstance(version, int) else f"a {type(content).__name__} without a number"
        raise CheckpointError(f"{path}: expected checkpoint format {FORMAT}, got {found}")
    return content
