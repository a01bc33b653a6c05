"""The state of a training: saved so that another process goes on with it to the same bits, and watched."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import Any, NoReturn, TypeAlias
from warnings import warn

import torch

from ..data import Pair
from ..nn import SGD, Module, Muon, OneCycleLR
from ..storage import checkpoint, networks
from ..storage.signals import Held
from ..storage.tensors import CheckpointError
from .recipe import Recipe
from .workers import ALONE, Workers

VERSION = 2  # of the state: from 2 on, its pairs are known by all of their pixels
SAVE_EVERY = 60.0  # seconds between checkpoints, besides those at the ends of epochs
WINDOW = 100  # steps over which the loss is averaged to judge it
EXPLOSION = 4  # times the best window's loss: more is given up

OPTIMIZERS = {
    "SGD": lambda params, recipe: SGD(params, recipe.lr, recipe.momentum, nesterov=True),
    "Muon": lambda params, recipe: Muon(params, recipe.lr, 0.0, recipe.momentum, adjust_lr_fn="match_rms_adamw"),
}

Source: TypeAlias = Pair | Callable[[int], Pair]
"""Noisy pairs, or a function that makes those of an epoch."""

COUNTERS = ("epoch", "position", "done", "total", "seconds", "total_steps", "best_loss", "recent")


class Diverged(RuntimeError):
    """The loss is not finite or has exploded; the network has the best weights it had, which it has `learnt` unless
    they are those that it began with."""

    def __init__(self, message: str, learnt: bool) -> None:
        super().__init__(message)
        self.learnt = learnt


class Run:
    """A training of `network` for some epochs: parameters, optimiser, schedule, random state, and how far it is.

    With a `path`, everything is saved there before the first step, at the end of each epoch, and every `SAVE_EVERY`
    seconds; a file that is there already is gone on from, if its pairs (those of the first epoch, of a function) were
    the same to the last pixel, and `start`, what the caller says about where the training starts from. Other numbers of
    threads or processes, which round differently, are a warning. `files` names what the caller writes, and is kept with
    the state. `known` is the `identity`, of a caller who has asked for it: every pixel is read for that. Only the
    process of rank 0 reads and writes it. Raises CheckpointError if the file is damaged or belongs to another training.
    """

    def __init__(
        self,
        network: Module,
        pairs: Source,
        epochs: int,
        recipe: Recipe,
        dtype: torch.dtype = torch.float32,
        path: Path | str | None = None,
        workers: Workers = ALONE,
        start: str | None = None,
        files: Iterable[str] = (),
        known: dict[str, Any] | None = None,
    ) -> None:
        if recipe.optimizer not in OPTIMIZERS:
            raise ValueError(f"Recipe: expected optimizer to be {' or '.join(OPTIMIZERS)}, got {recipe.optimizer!r}")
        self.network, self.epochs, self.recipe, self.workers = network, epochs, recipe, workers
        self.path = Path(path) if path is not None else None
        self.files = list(files)
        identified = (network, pairs, epochs, recipe, dtype, start)  # by all ranks, who wait for nobody meanwhile
        self.identity = (known or identity(*identified)) if self.path else None
        self.optimizer = OPTIMIZERS[recipe.optimizer](network.param(), recipe)
        self.schedule: OneCycleLR | None = None
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.order: torch.Tensor | None = None  # the permutation of the epoch that is going on, (N,)
        self.epoch = self.position = self.done = self.total_steps = 0  # position: minibatches of this epoch done
        self.total = self.seconds = 0.0  # of this epoch: loss summed over images, time
        self.recent: list[float] = []
        self.best_loss, self.best = inf, self.weights()
        self.records: list[list[Any]] = []  # of the epochs that are done, the fields of a training.Record each
        self.resume()

    # ------------------------------------------------------------------------------------------------ going on

    def begin(self, count: int) -> None:
        """Start the epoch of `count` pairs, or go on in the middle of it."""
        self.started = time.perf_counter() - self.seconds
        if self.order is None:
            self.order = torch.randperm(count, generator=self.generator)
        if len(self.order) != count:
            raise CheckpointError(f"{self.path}: epoch {self.epoch + 1} had {len(self.order)} pairs, got {count}")
        if not self.total_steps:
            self.total_steps = len(self.batches()) * self.epochs
        if self.schedule is None and self.total_steps:
            self.schedule = self.one_cycle()

    def one_cycle(self) -> OneCycleLR:
        return OneCycleLR(self.optimizer, self.recipe.lr, max(2, self.total_steps), pct_start=0.1)

    def permutation(self) -> torch.Tensor:
        """`order`, of an epoch that has begun."""
        assert self.order is not None, "an epoch starts with begin"
        return self.order

    def batches(self) -> Sequence[torch.Tensor]:
        """The indices (n,) of each minibatch that this epoch still has."""
        order = self.permutation()
        every = order.split(self.recipe.batch_size) if len(order) else ()
        return every[self.position :]

    def advance(self, loss: float, count: int) -> None:
        """One step on `count` images is done. Raises Diverged."""
        self.watch(loss)
        self.total += loss * count
        if self.schedule and self.schedule.count < self.schedule.total_steps - 1:
            self.schedule.step()
        self.position, self.done = self.position + 1, self.done + 1
        self.seconds = time.perf_counter() - self.started
        if self.path and time.monotonic() - self.saved >= SAVE_EVERY:
            self.check_weights()
            self.save()

    def pause(self, signals: Held) -> None:
        """Let a signal that came do what it would have done, once the state is in the file."""
        if signals.came:
            self.check_weights()
            self.save()
            signals.deliver()

    def finish(self, psnr: float | None = None) -> list[Any]:
        """The epoch is over, with that validation PSNR. -> the fields of its record, which is in the file, too"""
        self.check_weights()
        count, seconds = len(self.permutation()), self.seconds
        rate = count / seconds if count else 0.0
        self.records.append([self.epoch + 1, self.epochs, self.total / max(1, count), seconds, rate, psnr])
        self.epoch, self.order, self.position, self.total, self.seconds = self.epoch + 1, None, 0, 0.0, 0.0
        self.save()
        return self.records[-1]

    # ------------------------------------------------------------------------------------------------ watching

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: value.clone() for name, value in self.network.state_dict().items()}

    def watch(self, loss: float) -> None:
        """Keep the weights of the best window; go back to them and raise Diverged when the loss is lost."""
        if not isfinite(loss):
            self.give_up(self.done + 1, f"the loss is {loss}")
        self.recent.append(loss)
        if len(self.recent) == WINDOW:
            mean, self.recent = sum(self.recent) / WINDOW, []
            if mean > EXPLOSION * self.best_loss:
                reason = f"the loss has risen from {self.best_loss:.3g} to {mean:.3g}, over {WINDOW} steps each"
                self.give_up(self.done + 1, reason)
            if mean < self.best_loss:
                self.best_loss, self.best = mean, self.weights()

    def check_weights(self) -> None:
        """A gradient that overflows shows in the loss one step later only, and a picture that is all black or white has
        a small loss. Raises Diverged for weights that no file may hold."""
        for name, value in self.network.state_dict().items():
            for problem in networks.problems(name, value):
                self.give_up(self.done, f"weights are not finite or far too large ({problem})")

    def give_up(self, step: int, reason: str) -> NoReturn:
        self.network.load_state_dict(self.best)
        self.network.eval()
        rate = self.schedule.get_last_lr()[0] if self.schedule else self.recipe.lr
        learnt = isfinite(self.best_loss)
        kept = "best weights it had" if learnt else "weights it began with"
        shorter = f", or a smaller clip than {self.recipe.clip:.3g}" if self.recipe.optimizer == "SGD" else ""
        raise Diverged(
            f"training stopped at step {step} (epoch {self.epoch + 1} of {self.epochs}), at rate "
            f"{rate:.3g}: {reason}. The network has the {kept}. Train with a "
            f"lower rate, such as lr={self.recipe.lr / 4:.3g}{shorter}",
            learnt,
        )

    # -------------------------------------------------------------------------------------------------- saving

    def resume(self) -> None:
        """Go on from the file at `path`, if there is one; all processes from what rank 0 has."""
        state = None
        if self.path and self.workers.rank == 0:
            state = self.read(self.path) if self.path.exists() else self.state_dict()
        elif self.workers.size > 1 and self.workers.rank == 0:
            state = self.state_dict()
        state = self.workers.broadcast(state)
        if state is not None:
            self.load_state_dict(state)
        self.save(first=True)

    def read(self, path: Path) -> dict[str, Any]:
        """The state in the file `path`. Raises CheckpointError unless it is one of this training."""
        state = checkpoint.load(path).get("training")
        if not isinstance(state, dict) or not isinstance(state.get("identity"), dict):
            raise CheckpointError(f"{self.path}: holds no training to go on with; choose another file")
        if state.get("version") != VERSION:
            raise CheckpointError(f"{self.path}: another version began this training and did not note its pairs as this"
                                  " one does; go on with that version, or remove the file and begin anew")  # fmt: skip
        theirs = state["identity"]
        other = [
            f"{name}: {theirs.get(name)} there, {value} here"
            for name, value in (self.identity or {}).items()
            if theirs.get(name) != value
        ]
        if other:
            raise CheckpointError(f"{self.path}: belongs to another training ({'; '.join(other)}); remove the file or "
                                  "choose another")  # fmt: skip
        before, now = state.get("conditions"), self.conditions()
        if before != now:
            warn(f"{self.path}: begun with {before}; goes on with {now}: the same up to rounding, not to the bit",
                 stacklevel=2)  # fmt: skip
        return state

    def conditions(self) -> str:
        """What decides how sums are rounded, in words."""
        return f"threads: {torch.get_num_threads()}, processes: {self.workers.size}, torch: {torch.__version__}"

    def save(self, first: bool = False) -> None:
        """Write the state, if there is a path and this is rank 0. A disk that is full (or gone) before the first step
        or at the end is an OSError, in between a warning: training goes on, and the old file is still there."""
        self.saved = time.monotonic()
        if self.path is None or self.workers.rank:
            return
        try:
            checkpoint.save(self.path, {"training": self.state_dict()})
            if first:
                self.check_space(self.path)
        except OSError as error:
            reason = f"{self.path}: the checkpoint could not be written ({error.strerror or error})"
            if first or self.epoch == self.epochs:
                kept = "nothing was trained yet" if first else "the network keeps its weights: save them elsewhere"
                raise OSError(error.errno, f"{reason}; {kept}") from error
            warn(f"{reason}; training goes on and tries again, make room", stacklevel=2)

    def check_space(self, path: Path) -> None:
        """The file grows by the optimiser's state, and its successor is written beside it."""
        free, needed = shutil.disk_usage(path.parent).free, 3 * path.stat().st_size
        if free < needed:
            raise OSError(errno.ENOSPC, f"{free} bytes are free, checkpoints need {needed}")

    def state_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "identity": self.identity,
            "conditions": self.conditions(),
            "files": self.files,
            **{name: getattr(self, name) for name in COUNTERS},
            "records": json.dumps(self.records),
            "order": self.order,
            "weights": self.network.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule else None,
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        try:
            for name in COUNTERS:
                setattr(self, name, state[name])
            self.order, self.recent = state["order"], list(state["recent"])
            self.records = records_in(state)
            self.generator.set_state(state["generator"])
            self.best = {name: value.clone() for name, value in state["best"].items()}
            self.optimizer.load_state_dict(state["optimizer"])
            if state["schedule"]:
                self.schedule = self.one_cycle()
                self.schedule.load_state_dict(state["schedule"])
            self.network.load_state_dict(state["weights"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"{self.path}: the state of the training is incomplete ({error})") from error


def records_in(state: dict[str, Any]) -> list[list[Any]]:
    """The fields of the records in a `Run.state_dict`."""
    return json.loads(state.get("records", "[]"))


def identity(
    network: Module, pairs: Source, epochs: int, recipe: Recipe, dtype: torch.dtype, start: str | None = None
) -> dict[str, Any]:
    """What makes two trainings the same: with equal values they end with the same weights, up to rounding."""
    package, _, module = type(network).__module__.partition(".")
    place = (
        f"others.{module}" if package == __package__.partition(".")[0] else f"{package}.{module}"
    )  # as installed, too
    return {
        "network": f"{place} {getattr(network, 'arguments', '')}",
        "epochs": epochs,
        "precision": str(dtype),
        "pairs": fingerprint(pairs),
        "start": start,
        **recipe._asdict(),
    }


def fingerprint(pairs: Source) -> list[Any]:
    """What tells one set of pairs from another, or one function that makes them, by those of its first epoch: shape,
    dtype, and a hash of every bit, which depends on no number of threads and no order in memory."""
    if callable(pairs):
        return ["made for each epoch", *fingerprint(pairs(0))]
    return [[list(version.shape), str(version.dtype), digest([version])] for version in pairs]


def digest(tensors: Iterable[torch.Tensor], at_once: int = 2**24) -> str:
    """A hash of the bits of tensors (N, ...), read in parts of about so many numbers."""
    found = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        images = tensor.detach().reshape(1) if tensor.dim() == 0 else tensor.detach()
        for part in images.split(max(1, at_once // max(1, images[:1].numel()))):
            part = part.cpu().contiguous()
            size = part.numel() * part.element_size()
            found.update((ctypes.c_ubyte * size).from_address(part.data_ptr()) if size else b"")
    return found.hexdigest()
