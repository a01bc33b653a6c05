"""Networks in a checkpoint, by name: arguments, weights, and where these come from; checked before use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from . import checkpoint
from .files import locked
from .tensors import CheckpointError

if TYPE_CHECKING:
    from ..nn import Module

LARGEST_WEIGHT = 1e6  # in magnitude: far beyond any of a denoiser, and networks of such weights overflow or saturate


def save(
    path: Path | str,
    name: str,
    network: Module,
    info: dict[str, Any],
    alone: bool = False,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Put a network into `path`, beside those of other names already there, or `alone`.

    network: a module with `arguments`, the constructor's, plain values. info: where its weights come from (data,
    recipe, figures, date). dtype: of the weights in the file; float16 takes half the place, and moves PSNR by less than
    0.001 dB.
    """
    path = Path(path)
    state = {key: value.to("cpu", dtype, copy=True) for key, value in network.state_dict().items()}
    with locked(None if alone else path, patience=60.0):  # another architecture may be put into it at the same time
        others = held(path) if path.exists() and not alone else {}
        entry = {"arguments": network.arguments, "state": state, "info": info}
        checkpoint.save(path, {"denoisers": {**others, name: entry}})


def held(path: Path | str) -> dict[str, Any]:
    """{name: what `save` put there} of all networks in a file, still unchecked.

    Raises as `checkpoint.load` does, and CheckpointError if there is none, as in what --resume keeps of a training.
    """
    found = checkpoint.load(path).get("denoisers")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{path}: expected weights of a denoiser, found nothing; choose a file of weights")
    return found


def load(path: Path | str, name: str, expected: Callable[..., dict[str, torch.Tensor]] | None = None) -> dict[str, Any]:
    """{"arguments", "state", "info"} of the network `name`.

    expected: a function of the constructor's arguments that gives a network's state, whose names and shapes the file
    must have. Raises FileNotFoundError, or CheckpointError if the file is damaged or does not hold finite weights of
    that name that fit; the message names all that do not.
    """
    return chosen(path, held(path), name, expected)


def chosen(
    path: Path | str, every: dict[str, Any], name: str, expected: Callable[..., dict[str, torch.Tensor]] | None = None
) -> dict[str, Any]:
    """As `load`, from what `held` has read of the file."""
    if name not in every:
        found = ", ".join(str(key)[:80] for key in every)
        raise CheckpointError(f"{path}: expected weights of {name!r}, found {found}")
    saved = every[name]
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


def problems(key: object, value: object) -> Iterator[str]:
    """What is wrong with one weight, whatever the network."""
    if not isinstance(value, torch.Tensor):
        yield f"{key} is a {type(value).__name__}, expected a tensor"
    elif not value.is_floating_point():
        yield f"{key} has dtype {value.dtype}, expected floating point"
    elif value.numel() and not (largest := float(value.float().abs().max())) <= LARGEST_WEIGHT:  # 64 bits overflow, too
        found = f"has values up to {largest:.3g}, expected {LARGEST_WEIGHT:.0e} at most"
        yield f"{key} {found if isfinite(largest) else 'is not finite'}"


def misfits(state: dict[str, Any], expected: dict[str, torch.Tensor]) -> Iterator[str]:
    """Names and shapes that differ."""
    yield from (f"{key} is missing" for key in expected if key not in state)
    yield from (f"{str(key)[:80]} is unexpected" for key in state if key not in expected)
    for key, value in state.items():
        if key in expected and isinstance(value, torch.Tensor) and value.shape != expected[key].shape:
            yield f"{key} has shape {tuple(value.shape)}, expected {tuple(expected[key].shape)}"
