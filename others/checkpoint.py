"""Files of weights: written atomically, read without running code, verified before use."""

import os
import tempfile
import zipfile
from pathlib import Path

import torch

FORMAT = 1


class CheckpointError(RuntimeError):
    """A file that is not a complete and matching checkpoint; the message names everything that is wrong."""


def save(path, content):
    """Write `content` (tensors, numbers, strings, dicts and lists of them) to `path`, whole or not at all.

    The bytes go to a temporary file in the same folder, reach the disk, and take the place of `path` in one step;
    on any exception the temporary file is removed and what was at `path` stays.
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": FORMAT, **content}, file)
            file.flush()
            os.fsync(file.fileno())
        load(temporary)  # what cannot be read back must not take the old file's place
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path):
    """The content that `save` wrote, on the CPU.

    Raises FileNotFoundError when there is no such file, CheckpointError for anything that is not whole: torch does
    not check the sums of the zip it reads, so they are checked here first.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no weights at {path}: train and save a model, or restore the file from the repository"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken:
            raise CheckpointError(f"{path}: {broken} is damaged; restore the file")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); restore the file"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path}: expected checkpoint format {FORMAT}, got {found}")
    return content


def save_denoiser(path, name, arguments, network, info):
    """Put the weights of one architecture into `path`, beside those of the others already there.

    arguments: the constructor's, plain values. info: where the weights come from (data, recipe, figures, date).
    """
    path = Path(path)
    denoisers = load(path)["denoisers"] if path.exists() else {}
    state = {key: value.float().cpu().clone() for key, value in network.state_dict().items()}
    save(path, {"denoisers": {**denoisers, name: {"arguments": arguments, "state": state, "info": info}}})


def load_denoiser(path, name):
    """{"arguments", "state", "info"} of the architecture `name`.

    Raises FileNotFoundError, or CheckpointError if the file is damaged or does not hold finite weights of that name.
    """
    denoisers = load(path).get("denoisers")
    if not isinstance(denoisers, dict) or name not in denoisers:
        held = ", ".join(map(str, denoisers)) if isinstance(denoisers, dict) else "nothing"
        raise CheckpointError(f"{path}: expected weights of {name!r}, found {held or 'nothing'}")
    saved = denoisers[name]
    complete = isinstance(saved, dict) and {"arguments", "state", "info"} <= saved.keys()
    if not complete or not isinstance(saved["state"], dict):
        raise CheckpointError(f"{path}: the entry {name!r} is incomplete")
    wrong = [
        key
        for key, value in saved["state"].items()
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or not value.isfinite().all()
    ]
    if wrong:
        raise CheckpointError(f"{path}: weights of {name!r} are not finite tensors: {', '.join(wrong)}")
    return saved
