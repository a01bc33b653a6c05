"""The training loop: shuffled minibatches, one record per epoch; and two ways to watch it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import torch

from ..data import Pair, to_unit
from ..evaluation.metrics import psnr_a, squared_errors
from ..inference import NotFinite, denoise, extend, missing, transform
from ..nn import MSE, Module
from ..nn.optim import Optimizer
from ..progress import Advance, progress
from ..storage.files import locked
from ..storage.signals import Held
from .recipe import Recipe, Record
from .run import Run, Source
from .workers import ALONE, Workers


def fit(
    network: Module,
    pairs: Source,
    epochs: int,
    recipe: Recipe,
    validation: Pair | None = None,
    dtype: torch.dtype = torch.float32,
    on_step: Advance | None = None,
    checkpoint: Path | str | None = None,
    workers: Workers = ALONE,
    start: str | None = None,
    files: Iterable[str] = (),
    known: dict[str, Any] | None = None,
) -> Generator[Record, None, None]:
    """Train `network` on noisy pairs; yields one `Record` per epoch.

    pairs: (noisy_1, noisy_2), pixels (N, 3, H, W) in 0-255, or a function of the epoch's number (from 0) that gives
    them, the same ones for the same number (with a checkpoint it is asked for those of 0 once more). Each minibatch as
    a whole is flipped and turned at random, both versions alike, and input and target swapped as the recipe says.
    validation: (noisy, clean) pixels. dtype: the precision of activations; parameters stay float32. on_step(done,
    total) is called after every minibatch, counted over all epochs. The global random state is not used.

    checkpoint: a file for the state of the training. If it is there the training goes on from it, and ends with the
    bits that it would have had without the interruption; that of a finished training gives its weights at once.
    SIGINT, SIGTERM and SIGHUP then wait for the end of the minibatch (of the piece that is denoised, in validation) and
    for the file, which holds the records of all epochs that are done. workers: the processes among which every
    minibatch is shared out. start, files, known: as in `run.Run`.

    Raises `run.Diverged` when the loss is lost, CheckpointError for a file that does not fit, BlockingIOError for one
    that another training is writing, OSError for one that cannot be written before the first step or after the last
    (in between, a warning).
    """
    fresh = pairs if callable(pairs) else lambda epoch: pairs
    with locked(None if workers.rank else checkpoint):
        run = Run(network, pairs, epochs, recipe, dtype, checkpoint, workers, start, files, known)
        while run.epoch < epochs:
            yield train_epoch(run, *fresh(run.epoch), validation, dtype, on_step)


def train_epoch(
    run: Run,
    first: torch.Tensor,
    second: torch.Tensor,
    validation: Pair | None = None,
    dtype: torch.dtype = torch.float32,
    on_step: Advance | None = None,
) -> Record:
    """One epoch of a `Run`, or what is left of it, on pairs of pixels (N, 3, H, W). -> its record"""
    network, workers = run.network, run.workers
    with Held(run.path is not None) as signals:
        run.begin(len(first))
        network.train()
        for index in run.batches():
            mine = workers.share(index)
            batch = augment(first[mine], second[mine], run.generator, run.recipe.swap)
            run.advance(train_step(network, run.optimizer, *batch, run.recipe, dtype, workers), len(index))
            if on_step:
                on_step(run.done, run.total_steps)
            run.pause(signals)
        network.eval()
        run.check_weights()
        return Record(*run.finish(watched(run, validation, signals) if validation else None))


def watched(run: Run, validation: Pair, signals: Held) -> float:
    """`validate` in a training. Raises Diverged where the network's numbers overflow."""
    try:
        return validate(run.network, *validation, lambda *_: run.pause(signals))
    except NotFinite as error:
        run.give_up(run.done, str(error))


def train_step(
    network: Module,
    optimizer: Optimizer,
    input: torch.Tensor,
    target: torch.Tensor,
    recipe: Recipe,
    dtype: torch.dtype = torch.float32,
    workers: Workers = ALONE,
) -> float:
    """One update from pixels (N, 3, H, W), this process's share of the minibatch, which may be empty. -> loss, a float

    The gradients of single images are summed over micro-batches of any size and over the workers, then divided by the
    number of images. The workers share out Muon's matrices, too. Sizes that the network's strides do not divide are
    extended as in `denoise`; the loss is that of the images' own pixels.
    """
    device = network.parameters()[0].device
    height, width = input.shape[2:]
    margins = missing(network, (height, width))
    optimizer.zero_grad()
    criterion, total = MSE(), torch.zeros(2, device=device)  # loss summed over images, their number
    for noisy, other in zip(input.split(recipe.micro_batch), target.split(recipe.micro_batch)):
        if count := len(noisy):
            output = network.forward(extend(to_unit(noisy, device, dtype), *margins))
            cut = output[:, :, :height, :width].float()
            loss = criterion.forward(cut, to_unit(other, device))
            total += torch.stack((loss * count, torch.full_like(loss, count)))
            gradient = criterion.backward(count)
            if recipe.balance:
                gradient.mul_(importance(noisy, other, recipe.balance).to(device))
            network.accumulate_and_release(uncut(gradient.to(dtype), output))
    gradients = [gradient for _, gradient in network.param()]
    workers.sum([*gradients, total])
    loss, count = total.tolist()
    for gradient in gradients:
        gradient.div_(count)
    clip_gradients(optimizer, recipe.clip)
    optimizer.step(each=workers.each)
    return loss / count


def importance(first: torch.Tensor, second: torch.Tensor, balance: float) -> torch.Tensor:
    """How much each image counts, as `Recipe` says: pixels (N, 3, H, W) twice -> (N, 1, 1, 1)."""
    differences = (first.float() - second.float().to(first.device)).pow(2).mean((1, 2, 3), keepdim=True)
    return (1 + differences / 16) ** -balance


def uncut(gradient: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
    """The gradient of the whole output from that of its upper left part: zero for the rest, which was not used."""
    if gradient.shape == output.shape:
        return gradient
    whole = torch.zeros_like(output)
    whole[:, :, : gradient.shape[2], : gradient.shape[3]] = gradient
    return whole


def clip_gradients(optimizer: Optimizer, largest: float) -> None:
    """Scale all gradients down so that the norm of the whole is at most `largest`, as torch.nn.utils.clip_grad_norm_
    does, with its 1e-6. (Pascanu et al. 2013)"""
    gradients = [gradient for group in optimizer.param_groups for _, gradient in optimizer.pairs(group)]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
    scale = (largest / (norm + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(scale)


def augment(first: torch.Tensor, second: torch.Tensor, generator: torch.Generator, swap: bool = True) -> Pair:
    """The same random flip and quarter turn for both versions; with `swap`, they change places at random.

    A batch of images that are not square is flipped but not turned by 90 degrees.
    """
    turn, mirror, exchange = torch.randint(2**16, (3,), generator=generator).tolist()
    turns = turn % 4 if first.shape[2] == first.shape[3] else 2 * (turn % 2)
    first, second = (transform(version, turns, mirror % 2) for version in (first, second))
    return (second, first) if swap and exchange % 2 else (first, second)


def validate(network: Module, noisy: torch.Tensor, clean: torch.Tensor, on_tile: Advance | None = None) -> float:
    """PSNR A of the denoised pixels against the clean ones, in dB. on_tile: as in `denoise`."""
    return psnr_a(denoise(network, noisy, on_tile=on_tile) / 255, clean.float() / 255)


# ------------------------------------------------------------------------------------------------------ showing


def collect(
    records: Generator[Record, None, None], callback: Callable[[Record], object] | Literal[False] | None = None
) -> list[Record]:
    """Run the training, a generator of records; callback(record) after every epoch unless it is None or False.
    -> list of records"""
    done = []
    with closing(records):  # however it ends, the checkpoint is free for another training
        for record in records:
            done.append(record)
            if callback:
                callback(record)
    return done


def noise_variance(first: torch.Tensor, second: torch.Tensor, count: int) -> float:
    """Of the first `count` pairs of pixels (N, 3, H, W), in units of [0, 1]: the two versions differ by two independent
    noises, so it is half their mean squared difference."""
    versions = (version[:count].float() / 255 for version in (first, second))
    return float(squared_errors(*versions).mean()) / 2 if min(len(first), count) else 0.0


def expectation(first: torch.Tensor, second: torch.Tensor, count: int = 2000) -> str:
    """What to expect of the loss, in words, from the first `count` pairs of pixels (N, 3, H, W).

    A mean squared error against noisy targets is the error against clean images plus the targets' variance. (Lehtinen
    et al. 2018)
    """
    if not len(first):
        return "There are no pairs: nothing is learnt."
    variance = noise_variance(first, second, count)
    if not variance:
        return ("Input and target are the same images: from such pairs a network learns to change nothing. "
                "Expected two noisy versions of each image.")  # fmt: skip
    return (f"The loss is measured against noisy targets, whose noise has a variance of {variance:.5f}: it falls to "
            f"{variance:.5f} plus the error against clean images, not to zero.")  # fmt: skip


def show(run: Callable[..., Generator[Record, None, None]], heading: str = "") -> list[Record]:
    """Call `run`, a `fit` that lacks only on_step: the heading, a line per epoch, and tqdm's bar with the time left
    on a terminal or in a notebook. -> list of records"""
    if heading:
        print(heading, flush=True)
    with progress(unit="batch", desc="training", mininterval=0.5) as (advance, write):
        return collect(run(on_step=advance), lambda record: write(str(record)))
