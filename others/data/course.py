"""The course's files: train_data.pkl and val_data.pkl."""

from __future__ import annotations

from pathlib import Path

from ..storage import tensors
from .pixels import Pair, check_pairs


def load_pairs(path: Path | str, mmap: bool = False) -> Pair:
    """(noisy_1, noisy_2) of train_data.pkl or (noisy, clean) of val_data.pkl: two uint8 tensors (N, 3, H, W).

    With mmap the pixels stay on the disk until they are used: for data larger than the memory. No code in the file is
    run. Raises FileNotFoundError, or ValueError or TypeError for anything that is not a pair of equal image tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no data file {path}: expected a pair of image tensors written by torch.save")
    try:
        content = tensors.read(path, mmap=mmap, old=True)
    except tensors.CheckpointError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{path}: not a file of tensors written by torch.save: {reason}") from error
    if not isinstance(content, (tuple, list)) or len(content) != 2:
        raise TypeError(f"{path}: expected a pair of tensors, got {described(content)}")
    first, second = content
    check_pairs(first, second, str(path))
    return first, second


def described(content: object) -> str:
    length = f" of {len(content)}" if isinstance(content, (tuple, list)) else ""
    return f"a {type(content).__name__}{length}"
