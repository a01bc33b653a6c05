"""Real processes started by torchrun, with gloo: 2 and 3 of them, uneven and empty shares, deaths and restarts."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from others import cli, data, denoiser, nn
from others.nn import SGD
from others.storage import networks
from others.training import Recipe, fit, train_step, workers
from others.training.workers import ALONE, Workers

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 4  # of 21 pairs: 4 minibatches of 5 and one of 1, 20 steps in all
RECIPES = {
    "SGD": Recipe(lr=2.0, batch_size=5, seed=3),
    "Muon": Recipe(lr=0.003, momentum=0.95, batch_size=5, seed=3, optimizer="Muon"),
}

SCRIPT = """
import json, os, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
from others import denoiser
from others.training import run
from others.training import Recipe, fit
from others.training.workers import joined
out, dies, recipe = sys.argv[2], int(sys.argv[3]), Recipe(**json.loads(sys.argv[5]))
torch.set_num_threads(1)
run.SAVE_EVERY = 0.0
generator = torch.Generator().manual_seed(0)
pairs = [torch.randint(0, 256, (21, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2)]
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]

def train(seed, **options):
    torch.manual_seed(seed)
    network = denoiser.Denoiser(channels=(8, 12))
    records = list(fit(network, pairs, 4, recipe, workers=workers, **options))
    return network.state_dict(), [record.loss for record in records]

def die(done, total):
    if done == 7 and workers.rank == dies and attempt == "0":
        open(f"{out}/died", "w").close()
        os.kill(os.getpid(), getattr(signal, sys.argv[4]))

with joined() as workers:
    content = {"first": train(1 + workers.rank), "again": train(1 + 10 * workers.rank)}
    if attempt == "0":
        torch.save(content, f"{out}/before {workers.rank}.pt")
    content["survived"] = train(1 + 20 * workers.rank, checkpoint=f"{out}/training.pth", on_step=die)
    torch.save(content, f"{out}/{workers.rank}.pt")
"""


def torchrun(count, *arguments, restarts=0):
    """Run under torchrun -> exit status, what was printed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={count}", f"--max-restarts={restarts}",
               f"--master-port={port}", "--monitor-interval=0.1", *map(str, arguments)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    return done.returncode, done.stdout + done.stderr


def since_death(folder):
    """Seconds since a process wrote that it would die."""
    return time.time() - (folder / "died").stat().st_mtime


def single(recipe):
    """One process, the same minibatches."""
    torch.manual_seed(1)
    network = denoiser.Denoiser(channels=(8, 12))
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randint(0, 256, (21, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2)]
    records = list(fit(network, pairs, EPOCHS, recipe))
    return dict(network.state_dict()), [record.loss for record in records]


def assert_trained_alike(found, single):
    """Ranks and reruns to the bit, one process to 1e-6."""
    (weights, losses), *others = [content[name] for content in found for name in content]
    for other, other_losses in others:
        assert all(torch.equal(other[name], value) for name, value in weights.items())
        assert other_losses[-len(losses) :] == losses or losses[-len(other_losses) :] == other_losses
    for name, value in single[0].items():
        assert (weights[name] - value).abs().max() <= 1e-6
        assert (weights[name] - value).norm() <= 1e-6 * value.norm()
    assert losses == pytest.approx(single[1], abs=1e-6)


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return path


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_two_processes_and_a_restart(script, tmp_path, recipe, count):
    """Rank 1 is killed in step 7; torchrun starts both again and the weights are those of an undisturbed training."""
    count("trainings of 2 processes, one killed and restarted", 1, 1)
    status, printed = torchrun(2, script, ROOT, tmp_path, 1, "SIGKILL", json.dumps(recipe._asdict()), restarts=1)
    assert status == 0, printed
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert_trained_alike(found + [torch.load(tmp_path / f"before {rank}.pt") for rank in range(2)], single(recipe))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_three_processes_and_a_death(script, tmp_path, recipe, count):
    """Uneven shares and empty ones; without restarts the death of rank 2 ends all within a minute, and is named."""
    count("trainings of 3 processes, one killed and named", 1, 1)
    status, printed = torchrun(3, script, ROOT, tmp_path, 2, "SIGKILL", json.dumps(recipe._asdict()))
    assert_trained_alike([torch.load(tmp_path / f"before {rank}.pt") for rank in range(3)], single(recipe))
    assert status != 0 and since_death(tmp_path) < 60
    assert "rank      : 2" in printed and "Signal 9 (SIGKILL)" in printed
    assert not list(tmp_path.glob("[0-9].pt"))


@pytest.mark.skipif("RELIABILITY" not in os.environ, reason="takes a minute")
def test_a_process_that_hangs_is_named(script, tmp_path, count):
    """Stopped, not dead: the others give it up after a while."""
    count("process that hangs, named within a minute", 0, 1)
    status, printed = torchrun(2, script, ROOT, tmp_path, 1, "SIGSTOP", json.dumps(RECIPES["SGD"]._asdict()))
    assert status != 0 and since_death(tmp_path) < 60
    assert "rank 0 of 2: no answer from rank 1" in printed


SILENT_AMONG_MATRICES = """
import sys, time
sys.path.insert(0, sys.argv[1])
from others.nn import Linear, Muon, optim
from others.training import workers
workers.PATIENCE = 2.0

with workers.joined() as group:
    if group.rank == 1:
        optim.orthogonal = lambda *_: time.sleep(60)
    Muon(Linear(4, 4)).step(each=group.each)
"""


def test_silence_while_matrices_are_shared_out(tmp_path):
    """Who waits for the steps of a process that does not answer names it."""
    script = tmp_path / "script.py"
    script.write_text(SILENT_AMONG_MATRICES)
    status, printed = torchrun(2, script, ROOT)
    assert status != 0 and "rank 0 of 2: no answer from rank 1 for 2 s" in printed


SLOW_PAIRS = """
import sys, time
sys.path.insert(0, sys.argv[1])
import torch
from others import denoiser
from others.training import workers
from others.training import Recipe, fit
workers.PATIENCE = 3.0

def pairs(epoch):
    time.sleep(4)
    generator = torch.Generator().manual_seed(epoch)
    return [torch.randint(0, 256, (6, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2)]

with workers.joined() as group:
    network = denoiser.Denoiser(channels=(4, 8))
    assert len(list(fit(network, pairs, 1, Recipe(), checkpoint=sys.argv[2], workers=group))) == 1
"""


def test_pairs_that_take_longer_than_the_patience(tmp_path):
    """All processes draw them, also to tell whether a checkpoint is of this training; none waits for another."""
    script = tmp_path / "script.py"
    script.write_text(SLOW_PAIRS)
    status, text = torchrun(2, script, ROOT, tmp_path / "training.pth")
    assert status == 0, text
    assert (tmp_path / "training.pth").is_file()


def test_the_script_of_the_shipped_weights(tmp_path):
    """benchmarks/train_weights.py in two processes: the weights of one, written and reported once."""
    torch.save(data.generated_pairs(70), tmp_path / "train_data.pkl")
    network = denoiser.Denoiser(channels=(8, 12))
    networks.save(tmp_path / "start.pth", "prescribed", network, {"seed": 0})
    saved = {}
    for processes in (1, 2):
        out = tmp_path / f"{processes}.pth"
        status, printed = torchrun(
            processes, "--", ROOT / "benchmarks" / "train_weights.py", "prescribed", "--data", tmp_path, "--epochs", 2,
            "--threads", 1, "--precision", "fp32", "--optimizer", "SGD", "--momentum", 0.9, "--lr", 2, "--clip", 0.02,
            "--start", tmp_path / "start.pth", "--out", out,
        )  # fmt: skip
        assert status == 0, printed
        assert printed.count("epoch 2/2") == 1
        saved[processes] = networks.load(out, "prescribed")
    one, two = saved[1], saved[2]
    assert one["info"]["command"].startswith("python benchmarks/train_weights.py prescribed")
    assert two["info"]["command"].startswith("torchrun --nproc-per-node 2 -- benchmarks/train_weights.py prescribed")
    assert (one["info"]["processes"], two["info"]["processes"]) == (1, 2)
    assert two["info"]["loss"] == pytest.approx(one["info"]["loss"], abs=1e-6)
    for name, value in one["state"].items():
        assert (value - network.state_dict()[name]).abs().max() > 1e-5  # it has learnt
        assert (two["state"][name] - value).abs().max() <= 1e-6


# -------------------------------------------------------------------------------------------------- without torchrun


def test_alone_is_a_group_of_one(pixels):
    assert (ALONE.rank, ALONE.size) == (0, 1)
    tensors = [torch.arange(3.0)]
    ALONE.sum(tensors)
    assert torch.equal(tensors[0], torch.arange(3.0)) and ALONE.broadcast("value") == "value"
    with workers.joined() as alone:
        assert alone.size == 1 and alone.device.type in ("cpu", "cuda")


@pytest.mark.parametrize("count, size, expected", [
    (5, 2, [3, 2]), (5, 3, [2, 2, 1]), (2, 3, [1, 1, 0]), (1, 3, [1, 0, 0]), (6, 3, [2, 2, 2]),
])  # fmt: skip
def test_shares_are_even_and_complete(count, size, expected):
    index, shares = torch.randperm(count), []
    for rank in range(size):
        one = Workers()
        one.rank, one.size = rank, size
        shares.append(one.share(index))
    assert [len(share) for share in shares] == expected
    assert torch.equal(torch.cat(shares), index)


SHAPES = [(6, 20), (30, 5), (1, 7), (6, 20), (1, 1), (12, 12)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", [2, 3, 9])
def test_matrices_are_shared_out(size, dtype):
    """Each is made orthogonal by one process alone; parameters and velocities of all get a single process's bits."""
    start = [torch.randn(shape).to(dtype) for shape in SHAPES]
    gradients = [torch.randn(shape).to(dtype) for shape in SHAPES]
    computed, sums = [], [torch.zeros(shape) for shape in SHAPES]

    def train(each):
        pairs = [(parameter.clone(), gradient) for parameter, gradient in zip(start, gradients)]
        optimizer = nn.Muon(pairs, lr=0.1)
        optimizer.step(each=each)
        return [parameter for parameter, _ in pairs], optimizer.state_dict()["param_groups"][0]["state"]

    class One(Workers):
        """First every process adds what it has to `sums`; then each gets these."""

        def __init__(self, rank):
            super().__init__()
            self.rank, self.size = rank, size

        def sum(self, tensors):
            computed.append([i for i, tensor in enumerate(tensors) if tensor.any()])
            for tensor, total in zip(tensors, sums):
                if len(computed) <= size:
                    total.add_(tensor)
                else:
                    tensor.copy_(total)

    alone = train(ALONE.each)
    for rank in range(size):
        train(One(rank).each)
    assert sorted(i for own in computed for i in own) == list(range(len(SHAPES)))
    for rank in range(size):
        parameters, states = train(One(rank).each)
        assert all(map(torch.equal, parameters, alone[0]))
        assert all(torch.equal(state["velocity"], other["velocity"]) for state, other in zip(states, alone[1]))


@pytest.mark.parametrize("costs, size, expected", [
    ([5, 5, 5, 5], 2, [0, 1, 0, 1]), ([1, 9, 4, 4], 2, [1, 0, 1, 1]), ([3, 8], 4, [1, 0]), ([2, 1, 1], 1, [0, 0, 0]),
    ([], 3, []),
])  # fmt: skip
def test_the_most_expensive_first_to_the_least_busy(costs, size, expected):
    assert workers.owners(costs, size) == expected


class Recorded(Workers):
    """Two processes, one after the other: the first's sums are added to the second's."""

    def __init__(self):
        super().__init__()
        self.held = None

    def sum(self, tensors):
        if self.held is None:
            self.held = [tensor.clone() for tensor in tensors]
        else:
            for tensor, other in zip(tensors, self.held):
                tensor.add_(other)


def test_sums_and_counts_are_shared_not_means(pixels):
    """3 images here and 1 there weigh 3 to 1; a mean of the means would weigh them alike."""
    batch = pixels(4, 3, 8, 8), pixels(4, 3, 8, 8, seed=1)
    gradients = []
    for together in (ALONE, Recorded()):
        torch.manual_seed(1)
        network = denoiser.Denoiser(channels=(8, 12)).train()
        parts = [slice(0, 4)] if together is ALONE else [slice(0, 3), slice(3, 4)]
        for part in parts:
            optimizer = SGD(network.param(), 0.0)
            loss = train_step(network, optimizer, batch[0][part], batch[1][part], Recipe(clip=1e9), workers=together)
        gradients.append([loss, *(gradient.clone() for _, gradient in network.param())])
    assert gradients[0][0] == pytest.approx(gradients[1][0], abs=1e-7)
    for alone, shared in zip(gradients[0][1:], gradients[1][1:]):
        torch.testing.assert_close(shared, alone, rtol=1e-5, atol=1e-8)


def test_a_broken_group_names_who_is_silent(monkeypatch):
    class Store(dict):
        def set(self, key, value):
            self[key] = value

        def check(self, keys):
            return all(key in self for key in keys)

    def broken(*_):
        raise RuntimeError("Connection closed by peer")

    one = Workers()
    one.rank, one.size, one.store = 0, 3, Store({"noticed/1": ""})
    monkeypatch.setattr(workers.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(workers.distributed, "all_reduce", broken)
    with pytest.raises(RuntimeError, match=r"rank 0 of 3: no answer from rank 2 for 15 s"):
        one.sum([torch.ones(2)])
    with pytest.raises(RuntimeError, match=r"rank 0 of 3: no answer from rank 2 for 15 s"):
        nn.Muon(nn.Linear(3, 2)).step(each=one.each)


def test_the_command_alone(small, tmp_path, pixels, capsys):
    """Without torchrun, the same command trains in one process."""
    torch.save([pixels(6, 3, 8, 8), pixels(6, 3, 8, 8, seed=1)], tmp_path / "train_data.pkl")
    torch.save([pixels(2, 3, 8, 8), pixels(2, 3, 8, 8, seed=1)], tmp_path / "val_data.pkl")
    command = ["train", "--denoiser", "rednet", "--data", str(tmp_path), "--epochs", "2", "--resume",
               "-o", str(tmp_path / "weights.pth")]  # fmt: skip
    assert cli.main(command) == 0
    assert "epoch 2/2" in capsys.readouterr().out
    saved = networks.load(tmp_path / "weights.pth", "rednet")
    assert (saved["info"]["epochs"], saved["info"]["processes"]) == ("2 of 2", 1)
    assert "6 pairs of" in saved["info"]["data"]
    assert cli.main(command) == 0  # it is done
    again = networks.load(tmp_path / "weights.pth", "rednet")
    assert all(torch.equal(again["state"][name], value) for name, value in saved["state"].items())
    assert "epoch" not in capsys.readouterr().out
