"""The processes that train one network together, launched by torchrun; a process alone is the case of one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import starmap
from typing import Any

import torch
from torch import distributed

PATIENCE = 15.0  # seconds without an answer after which a process is given up


class Workers:
    """A process alone, or with a store one of a torch.distributed group: its `rank`, their number `size`, `device`."""

    def __init__(self, device: torch.device | None = None, store: distributed.Store | None = None) -> None:
        self.device, self.store = device, store
        self.rank = distributed.get_rank() if store else 0
        self.size = distributed.get_world_size() if store else 1

    def share(self, index: torch.Tensor) -> torch.Tensor:
        """This process's part of a minibatch (n,): parts differ by at most one, and are empty when n is small."""
        return index.tensor_split(self.size)[self.rank]

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace every tensor by its sum over the processes, in place: one bucket, one all-reduce."""
        if self.size > 1:
            bucket = torch.cat([tensor.reshape(-1) for tensor in tensors])
            self.together(distributed.all_reduce, bucket)
            for tensor, total in zip(tensors, bucket.split([tensor.numel() for tensor in tensors])):
                tensor.copy_(total.view_as(tensor))

    def each(self, function: Callable[..., torch.Tensor], works: Iterable[tuple[Any, ...]]) -> Iterable[torch.Tensor]:
        """As itertools.starmap: each process computes a part of the results, and all get the same bits of all of them.
        A work's first argument is a matrix, its result another one of that shape and dtype, which takes its `cost`."""
        if self.size == 1:
            return starmap(function, works)
        works = list(works)
        mine = [owner == self.rank for owner in owners([cost(*work[0].shape) for work in works], self.size)]
        results = [function(*work) if own else torch.zeros_like(work[0]) for own, work in zip(mine, works)]
        self.sum(results)
        return results

    def broadcast(self, value: Any) -> Any:
        """What the process of rank 0 passes: numbers, strings, tensors, dicts and lists of them."""
        values = [value]
        if self.size > 1:
            self.together(distributed.broadcast_object_list, values, 0, None, self.device)
        return values[0]

    def together(self, operation: Callable[..., object], *arguments: Any) -> None:
        """Run a collective operation. Raises RuntimeError naming the ranks that died or do not answer."""
        try:
            operation(*arguments)
        except RuntimeError as error:
            silent = ", ".join(map(str, self.silent())) or "one that has ended since"
            raise RuntimeError(
                f"rank {self.rank} of {self.size}: no answer from rank {silent} for {PATIENCE:.0f} s or its connection "
                "broke; see what that process printed, then start again: training goes on from its checkpoint"
            ) from error

    def silent(self, seconds: float = 3.0) -> list[int]:
        """The ranks that do not notice within some seconds that the group is broken."""
        assert self.store is not None, "a process alone waits for nobody"
        self.store.set(f"noticed/{self.rank}", "")
        time.sleep(seconds)
        return [rank for rank in range(self.size) if not self.store.check([f"noticed/{rank}"])]


def cost(rows: int, columns: int) -> int:
    """Multiplications in five steps of `nn.optim.orthogonal`: two products with the matrix, 17 with its square."""
    short, long = sorted((rows, columns))
    return short**2 * (2 * long + 17 * short)


def owners(costs: Sequence[int], size: int) -> list[int]:
    """The process, of `size`, for each work: the most expensive first, each for the one with the least to do. (Graham
    1969: the busiest has at most 4/3 of what it would have in the best distribution.)"""
    loads, owner = [0] * size, [0] * len(costs)
    for work in sorted(range(len(costs)), key=lambda work: -costs[work]):
        owner[work] = loads.index(min(loads))
        loads[owner[work]] += costs[work]
    return owner


ALONE = Workers()
"""One process that trains by itself."""


@contextmanager
def joined() -> Iterator[Workers]:
    """Join the group that torchrun made, and leave it at the end: gloo on CPUs, nccl with a GPU for each process.
    Without torchrun, a process alone."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield Workers(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return
    gpu = torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    served = distributed.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), size, is_master=False)
    store = distributed.PrefixStore(f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}", served)
    distributed.init_process_group(
        "nccl" if gpu else "gloo", timeout=timedelta(seconds=PATIENCE), world_size=size, rank=rank, store=store
    )
    try:
        yield Workers(device, store)
    finally:
        distributed.destroy_process_group()
