"""A training that is interrupted, killed, starved of disk or given a rate too high."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from Miniproject_2.model import Model
from others import denoiser, denoiser_bonus, inference, training
from others.storage import checkpoint, networks
from others.storage.checkpoint import CheckpointError
from others.storage.signals import Held
from others.training import Recipe, fit, loop, run
from others.training.run import Diverged, fingerprint

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(lr=2.0, batch_size=4, seed=3)


def tiny(module=denoiser):
    """The same small network every time."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if module is denoiser:
            return denoiser.Denoiser(channels=(8, 12))
        return denoiser_bonus.Denoiser(layers=((8, 3, 1), (12, 3, 2)))


@pytest.fixture
def pairs(pixels):
    """10 pairs: minibatches of 4, 4 and 2."""
    return pixels(10, 3, 8, 8), pixels(10, 3, 8, 8, seed=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training.pth"


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr(run, "SAVE_EVERY", 0.0)


class Stop(Exception):
    pass


def stop_at(step):
    def on_step(done, total):
        if done == step:
            raise Stop

    return on_step


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def uninterrupted(pairs, epochs=3, module=denoiser, **options):
    network = tiny(module)
    records = list(fit(network, pairs, epochs, RECIPE, **options))
    return weights(network), records


# ------------------------------------------------------------------------------------------------------- resuming


@pytest.mark.parametrize("module, dtype", [
    (denoiser, torch.float32), (denoiser_bonus, torch.float32), (denoiser, torch.bfloat16),
])  # fmt: skip
@pytest.mark.parametrize("step", range(1, 10))
def test_a_training_stopped_after_any_step_ends_with_the_same_bits(pairs, path, every_step, module, dtype, step):
    expected, records = uninterrupted(pairs, module=module, dtype=dtype)
    with pytest.raises(Stop):
        list(fit(tiny(module), pairs, 3, RECIPE, dtype=dtype, on_step=stop_at(step), checkpoint=path))
    other, seen = denoiser_bonus if module is denoiser_bonus else denoiser, []
    network = other.Denoiser(**tiny(module).arguments)  # other weights: those of the file count
    torch.rand(7)
    rest = list(fit(network, pairs, 3, RECIPE, dtype=dtype, checkpoint=path, on_step=lambda *n: seen.append(n)))
    assert same(weights(network), expected)
    assert seen == [(done, 9) for done in range(step + 1, 10)]
    assert [(r.epoch, r.loss) for r in rest] == [(r.epoch, r.loss) for r in records[-len(rest) :]]


def test_checkpoints_change_nothing(pairs, path, every_step):
    assert same(uninterrupted(pairs, checkpoint=path)[0], uninterrupted(pairs)[0])


def test_pairs_made_for_each_epoch_are_made_again(pixels, path, every_step):
    def pairs(epoch):
        return pixels(6 + epoch, 3, 8, 8, seed=epoch), pixels(6 + epoch, 3, 8, 8, seed=100 + epoch)

    expected, _ = uninterrupted(pairs)
    network = tiny()
    with pytest.raises(Stop):
        list(fit(network, pairs, 3, RECIPE, on_step=stop_at(3), checkpoint=path))
    list(fit(network, pairs, 3, RECIPE, checkpoint=path))
    assert same(weights(network), expected)
    for left in (5, 3):  # of an epoch that has begun
        path.unlink()
        with pytest.raises(Stop):
            list(fit(tiny(), pairs, 3, RECIPE, on_step=stop_at(3), checkpoint=path))
        with pytest.raises(CheckpointError, match=f"epoch 2 had 7 pairs, got {left}"):
            list(fit(tiny(), lambda epoch, n=left: pairs(epoch and n - 6), 3, RECIPE, checkpoint=path))


def test_other_pairs_made_for_each_epoch_are_refused(pairs, path):
    """Also where only their values differ; and those of versions that did not note all of them."""
    list(fit(tiny(), lambda epoch: pairs, 2, RECIPE, checkpoint=path))
    before = path.read_bytes()
    for other in (pairs[::-1], [version[:9] for version in pairs]):
        with pytest.raises(CheckpointError, match=r"belongs to another training \(pairs: .*made for each epoch"):
            list(fit(tiny(), lambda epoch, other=other: other, 2, RECIPE, checkpoint=path))
    assert path.read_bytes() == before and list(fit(tiny(), lambda epoch: pairs, 2, RECIPE, checkpoint=path)) == []
    for change in (lambda state: state.pop("version"), lambda state: state.update(version=1)):
        spoiled(path, change)
        with pytest.raises(
            CheckpointError, match="did not note its pairs as this one does; go on with that version, or "
        ):
            list(fit(tiny(), lambda epoch: pairs, 2, RECIPE, checkpoint=path))


def test_pairs_are_made_once_more_for_a_checkpoint_only(pairs, path):
    made = []

    def make(epoch):
        made.append(epoch)
        return pairs

    list(fit(tiny(), make, 2, RECIPE))
    list(fit(tiny(), make, 2, RECIPE, checkpoint=path))
    assert made == [0, 1, 0, 0, 1]


def test_a_finished_training_gives_its_weights_at_once(pairs, path):
    expected, _ = uninterrupted(pairs, checkpoint=path)
    network = tiny()
    assert list(fit(network, pairs, 3, RECIPE, checkpoint=path)) == []
    assert same(weights(network), expected)


def test_checkpoints_are_written_in_time(pairs, path, monkeypatch):
    """Before the first step, after each epoch, and every SAVE_EVERY seconds."""
    saved, save = [], checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda p, c: (saved.append(c["training"]["done"]), save(p, c)))
    uninterrupted(pairs, checkpoint=path)
    assert saved == [0, 3, 6, 9]
    clock = iter(range(0, 10**6, 25))
    monkeypatch.setattr(run.time, "monotonic", lambda: next(clock))  # 25 s a step
    path.unlink()
    saved.clear()
    list(fit(tiny(), tuple(version[:4].repeat(2, 1, 1, 1) for version in pairs), 2, RECIPE._replace(batch_size=1),
             checkpoint=path))  # fmt: skip
    assert saved == [0, 3, 6, 8, 11, 14, 16]


OTHERS = {
    "epochs": (lambda pairs: (tiny(), pairs, 4, RECIPE), "epochs: 3 there, 4 here"),
    "rate": (lambda pairs: (tiny(), pairs, 3, RECIPE._replace(lr=1.0)), "lr: 2.0 there, 1.0 here"),
    "seed": (lambda pairs: (tiny(), pairs, 3, RECIPE._replace(seed=4)), "seed: 3 there, 4 here"),
    "network": (lambda pairs: (tiny(denoiser_bonus), pairs, 3, RECIPE), "network: others.denoiser "),
    "pairs": (lambda pairs: (tiny(), pairs[::-1], 3, RECIPE), "pairs: "),
    "fewer pairs": (lambda pairs: (tiny(), [p[:9] for p in pairs], 3, RECIPE), "pairs: "),
    "fresh pairs": (lambda pairs: (tiny(), lambda epoch: pairs, 3, RECIPE), "here"),
}


@pytest.mark.parametrize("other, message", OTHERS.values(), ids=OTHERS)
def test_the_file_of_another_training_is_refused_and_kept(pairs, path, other, message):
    uninterrupted(pairs, checkpoint=path)
    before, (network, *rest) = path.read_bytes(), other(pairs)
    untrained = weights(network)
    with pytest.raises(CheckpointError, match=re.escape(f"{path}: belongs to another training (")) as raised:
        list(fit(network, *rest, checkpoint=path))
    assert message in str(raised.value)
    assert path.read_bytes() == before and same(weights(network), untrained)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.uint8], ids=str)
def test_pairs_are_known_again_whatever_the_threads_and_layout(dtype):
    """A sum of floats depends on who adds what; one bit makes other pairs."""
    pairs = [(255 * torch.rand(100, 3, 32, 32).pow(3)).to(dtype) for _ in range(2)]
    threads, found = torch.get_num_threads(), []
    for number, change in ((1, lambda x: x), (4, lambda x: x), (2, lambda x: x.to(memory_format=torch.channels_last))):
        torch.set_num_threads(number)
        found.append(fingerprint([change(version) for version in pairs]))
    torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]
    pairs[1][0, 2, 31, 30] += 1
    assert fingerprint(pairs) != found[0]


@pytest.mark.parametrize("change", [
    lambda pair: [torch.cat((version[:25], version[25:].roll(1, 0))) for version in pair],
    lambda pair: [version.flip(3) for version in pair], lambda pair: [version.flip(0) for version in pair],
    lambda pair: [version.transpose(2, 3) for version in pair],
    lambda pair: [version.roll(1, 1) for version in pair],
], ids=["exchanged", "mirrored", "reversed", "turned", "colours"])  # fmt: skip
def test_the_same_pixels_elsewhere_are_other_pairs(pixels, path, change):
    """Their sum is the same. Nothing is changed by the refusal."""
    pairs = pixels(50, 3, 8, 8), pixels(50, 3, 8, 8, seed=1)
    with pytest.raises(Stop):
        list(fit(tiny(), pairs, 1, RECIPE, on_step=stop_at(2), checkpoint=path))
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=r"belongs to another training \(pairs: "):
        list(fit(tiny(), change(pairs), 1, RECIPE, checkpoint=path))
    assert path.read_bytes() == before and len(list(fit(tiny(), pairs, 1, RECIPE, checkpoint=path))) == 1


def test_one_changed_pixel_of_any_image_is_noticed(pixels):
    """Also in what is read part by part."""
    pair = pixels(200, 3, 8, 8), pixels(200, 3, 8, 8, seed=1)
    found = {str(fingerprint(pair))}
    for image in range(0, 200, 7):
        other = [version.clone() for version in pair]
        other[image % 2][image, image % 3, 7, 0] ^= 1
        found.add(str(fingerprint(other)))
    assert len(found) == 1 + len(range(0, 200, 7))
    assert run.digest([pair[0]], at_once=500) == run.digest([pair[0]])


def test_another_start_is_refused(pairs, path):
    with pytest.raises(Stop):
        list(fit(tiny(), pairs, 1, RECIPE, on_step=stop_at(1), checkpoint=path, start="shipped"))
    with pytest.raises(CheckpointError, match=r"another training \(start: shipped there, None here\)"):
        list(fit(tiny(), pairs, 1, RECIPE, checkpoint=path))


def test_another_number_of_threads_is_said(pairs, path):
    """It rounds differently; that is no reason to lose the training."""
    with pytest.raises(Stop):
        list(fit(tiny(), pairs, 1, RECIPE, on_step=stop_at(1), checkpoint=path))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        with pytest.warns(
            UserWarning, match=f"begun with threads: {threads}, .*; goes on with threads: {threads + 1}, "
        ):
            assert len(list(fit(tiny(), pairs, 1, RECIPE, checkpoint=path))) == 1
    finally:
        torch.set_num_threads(threads)


def spoiled(path, change):
    content = checkpoint.load(path)
    change(content["training"])
    checkpoint.save(path, content)


@pytest.mark.parametrize("change", [
    lambda state: state.pop("order"),
    lambda state: state.pop("optimizer"),
    lambda state: state.update(optimizer={"param_groups": []}),
    lambda state: state.update(generator=torch.zeros(3)),
    lambda state: state.update(best=[1]),
    lambda state: state["weights"].popitem(),
    lambda state: state["weights"].update({"0.weight": torch.zeros(2)}),
    lambda state: state.update(schedule={"count": 1}),
])  # fmt: skip
def test_an_incomplete_state_is_refused(pairs, path, change):
    uninterrupted(pairs, checkpoint=path)
    spoiled(path, change)
    network = tiny()
    before = weights(network)
    with pytest.raises(CheckpointError, match="the state of the training is incomplete"):
        list(fit(network, pairs, 3, RECIPE, checkpoint=path))
    assert same(weights(network), before)


def test_a_file_of_weights_is_not_overwritten(pairs, path):
    network = tiny()
    networks.save(path, "prescribed", network, {})
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="holds no training to go on with; choose another file"):
        list(fit(network, pairs, 1, RECIPE, checkpoint=path))
    path.write_bytes(before[:1000])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        list(fit(network, pairs, 1, RECIPE, checkpoint=path))
    assert path.read_bytes() == before[:1000]


def test_model_goes_on_from_a_checkpoint(small, pairs, path):
    first = Model()
    second = Model()
    second.network.load_state_dict(first.network.state_dict())
    first.train(*pairs, 3, progress=False)

    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        second.train(*pairs, 3, progress=interrupt, checkpoint=path)
    third = Model()
    records = third.train(*pairs, 3, progress=False, checkpoint=path)
    assert [record.epoch for record in records] == [2, 3]
    assert same(weights(third.network), weights(first.network))


# --------------------------------------------------------------------------------------------------------- killed

KILL = """
import os, random, signal, sys, time
from pathlib import Path
import torch
sys.path.insert(0, sys.argv[1])
from others import denoiser
from others.storage import checkpoint, networks
from others.training import run
from others.training import Recipe, fit
path, kills, seed = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)
torch.manual_seed(1)
run.SAVE_EVERY = 0.0
generator = torch.Generator().manual_seed(0)
pairs = [torch.randint(0, 256, (30, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2)]

def train(path=None):
    network = denoiser.Denoiser(channels=(8, 12))
    list(fit(network, pairs, 3, Recipe(lr=2.0, batch_size=4), checkpoint=path))
    return network.state_dict()

state = torch.get_rng_state()
expected = train()
start = time.perf_counter()
train(path)
seconds = time.perf_counter() - start
path.unlink()
random.seed(seed)
killed = finished = 0
positions, left = set(), 0
while killed < kills or path.exists():
    child = os.fork()
    if not child:
        try:
            torch.set_rng_state(state)
            train(path)
            os._exit(0)
        finally:
            os._exit(1)
    if killed < kills:
        time.sleep(random.uniform(0, seconds / 3))
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    left = max(left, len(list(path.parent.glob(".*.n2n-tmp"))))
    if os.WIFSIGNALED(status):
        killed += 1
        if path.exists():
            positions.add(checkpoint.load(path)["training"]["done"])
    else:
        assert os.WEXITSTATUS(status) == 0
        found = checkpoint.load(path)["training"]
        assert found["done"] == 24 and found["epoch"] == 3
        assert all(torch.equal(found["weights"][name], value) for name, value in expected.items())
        path.unlink()
        finished += 1
assert left <= 1 and finished
print(killed, finished, len(positions))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment_it_ends_with_the_same_bits(run_python, path, count):
    """SIGKILL at random moments: what is on disk always loads, and every training that ends has the bits of one that
    was never killed. At most one temporary file is left."""
    kills = count("kills survived, every result bitwise that of an uninterrupted training", 6, 100)
    killed, finished, positions = map(int, run_python(KILL, ROOT, ROOT, path, kills, 0).split())
    assert killed == kills and finished >= 1
    assert positions > kills // 20  # in different places


# -------------------------------------------------------------------------------------------------------- signals

SIGNALLED = """
import os, signal, sys
import torch
sys.path.insert(0, sys.argv[1])
from Miniproject_2.model import Model
from others import denoiser
from others.training import loop
denoiser.Denoiser.__init__.__defaults__ = ((8, 12), (3, 3))
path, number = sys.argv[2], getattr(signal, sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(1)
generator = torch.Generator().manual_seed(0)
pairs = [torch.randint(0, 256, (8, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2)]
def train(model, pairs, path):
    model.train(*pairs, 2, recipe=model.recipe()._replace(batch_size=2), progress=False, checkpoint=path)
model = Model()
step, steps = loop.train_step, 0
def signalled(*arguments):
    global steps
    steps += 1
    if steps == 6:
        os.kill(os.getpid(), number)
    return step(*arguments)
loop.train_step = signalled
train(model, pairs, path)
print("not interrupted")
"""


def trained(model, pairs, path=None):
    """8 pairs, minibatches of 2, 2 epochs."""
    model.train(*pairs, 2, recipe=model.recipe()._replace(batch_size=2), progress=False, checkpoint=path)
    return weights(model.network)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_ends_the_step_and_leaves_a_checkpoint(small, path, name):
    command = [sys.executable, "-c", SIGNALLED, str(ROOT), str(path), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    ends = (-signal.SIGINT, 1) if name == "SIGINT" else (-getattr(signal, name),)
    assert done.returncode in ends and done.stdout == ""  # as without us
    assert ("KeyboardInterrupt" in done.stderr) == (name == "SIGINT")
    assert checkpoint.load(path)["training"]["done"] == 6
    generator = torch.Generator().manual_seed(0)
    pairs = [torch.randint(0, 256, (8, 3, 8, 8), generator=generator, dtype=torch.uint8) for _ in range(2)]
    torch.manual_seed(1)
    expected = trained(Model(), pairs)
    assert same(trained(Model(), pairs, path), expected)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("late", [False, True])
def test_a_signal_while_validating_waits_for_one_piece_and_loses_no_record(pairs, path, monkeypatch, late):
    """Ten images in ten pieces: in the second epoch it comes in the first piece, or after the last."""
    pieces, add_tile = [], inference.add_tile
    monkeypatch.setattr(loop, "denoise", partial(inference.denoise, pixels_at_once=64))
    records = list(fit(tiny(), pairs, 3, RECIPE, pairs))

    def signalled(*arguments):
        pieces.append(1)
        if len(pieces) == (20 if late else 11):
            os.kill(os.getpid(), signal.SIGINT)
        add_tile(*arguments)

    network, seen = tiny(), []
    with monkeypatch.context() as patch:
        patch.setattr(inference, "add_tile", signalled)
        with pytest.raises(KeyboardInterrupt):
            seen += fit(network, pairs, 3, RECIPE, pairs, checkpoint=path)
    assert len(pieces) == (20 if late else 11) and checkpoint.load(path)["training"]["done"] == 6
    network = tiny()
    rest = list(fit(network, pairs, 3, RECIPE, pairs, checkpoint=path))
    assert same(weights(network), uninterrupted(pairs)[0])
    kept = [training.Record(*fields) for fields in run.records_in(checkpoint.load(path)["training"])]
    assert [(r.epoch, r.loss, r.psnr) for r in kept] == [(r.epoch, r.loss, r.psnr) for r in records]
    assert rest == kept[1:] and all(record.seconds > 0 for record in kept)


def test_a_signal_while_the_epoch_is_saved_loses_no_record(pairs, path, monkeypatch):
    save = checkpoint.save

    def signalled(path, content):
        save(path, content)
        if content["training"]["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", signalled)
        list(fit(tiny(), pairs, 3, RECIPE, checkpoint=path))
    rest = list(fit(tiny(), pairs, 3, RECIPE, checkpoint=path))
    assert [record.epoch for record in rest] == [3]
    assert [epoch for epoch, *_ in run.records_in(checkpoint.load(path)["training"])] == [1, 2, 3]


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_handlers_are_those_from_before_whatever_happens(pairs, path):
    before, seen = handlers(), []
    for record in fit(tiny(), pairs, 2, RECIPE, checkpoint=path, on_step=lambda *_: seen.append(handlers())):
        assert record and handlers() == before
    assert len(seen) == 6 and before not in seen
    path.unlink()
    with pytest.raises(Stop):
        list(fit(tiny(), pairs, 2, RECIPE, checkpoint=path, on_step=stop_at(2)))
    assert handlers() == before
    list(fit(tiny(), pairs, 2, RECIPE, on_step=lambda *_: seen.append(handlers())))
    assert seen[6:] == [before] * 6  # without a file, signals do what they always do


def test_the_callers_handler_is_called_and_may_let_it_go_on(pairs, path, every_step):
    came, before = [], signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        network = tiny()
        list(fit(network, pairs, 3, RECIPE, checkpoint=path,
                 on_step=lambda done, total: os.kill(os.getpid(), signal.SIGTERM) if done == 4 else None))  # fmt: skip
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]
    assert same(weights(network), uninterrupted(pairs)[0])


def test_ignored_signals_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Held():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_it_trains_without_handlers(pairs, path):
    network, before = tiny(), handlers()
    thread = threading.Thread(target=lambda: list(fit(network, pairs, 3, RECIPE, checkpoint=path)))
    thread.start()
    thread.join()
    assert same(weights(network), uninterrupted(pairs)[0]) and handlers() == before


# ------------------------------------------------------------------------------------------------------ divergence


def losses(monkeypatch, values):
    """Real steps, but these losses."""
    values, step = iter(values), loop.train_step

    def train_step(*arguments):
        step(*arguments)
        return next(values)

    monkeypatch.setattr(loop, "train_step", train_step)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_best_weights(pairs, monkeypatch, value):
    monkeypatch.setattr(run, "WINDOW", 2)
    losses(monkeypatch, [0.5, 0.4, 0.3, 0.2, 0.9, 0.9, value])
    network, seen = tiny(), []
    message = re.escape(f"training stopped at step 7 (epoch 3 of 3), at rate 0.5: the loss is {value}.")
    with pytest.raises(Diverged, match=message.replace("0\\.5:", "[0-9.]+:")) as raised:
        list(fit(network, pairs, 3, RECIPE, on_step=lambda *_: seen.append(weights(network))))
    assert "has the best weights it had. Train with a lower rate, such as lr=0.5, or" in str(raised.value)
    assert raised.value.learnt
    assert same(weights(network), seen[3])  # those after the window of 0.3 and 0.2
    assert not network.training


def test_an_exploding_loss_stops_and_keeps_the_best_weights(pairs, monkeypatch):
    monkeypatch.setattr(run, "WINDOW", 3)
    with monkeypatch.context() as patch:
        losses(patch, [0.1, 0.1, 0.1, 0.9, 0.1, 0.1])  # one bad minibatch is none
        list(fit(tiny(), pairs, 2, RECIPE))
    losses(monkeypatch, [0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.5, 0.5, 0.5])
    network, seen = tiny(), []
    with pytest.raises(Diverged, match=r"at step 9 .*: the loss has risen from 0\.1 to 0\.5, over 3 steps each"):
        list(fit(network, pairs, 3, RECIPE, on_step=lambda *_: seen.append(weights(network))))
    assert same(weights(network), seen[2])


@pytest.mark.parametrize("name", ["prescribed", "rednet"])
def test_a_model_with_an_absurd_rate_stays_usable(small, pairs, name):
    model = Model(name)
    before, options = model.predict(pairs[0]), {"recipe": model.recipe()._replace(lr=1e30, clip=1e30, batch_size=1)}
    if name == "prescribed":  # its sigmoid keeps the loss finite
        options["recipe"] = options["recipe"]._replace(lr=float("inf"))
    with pytest.raises(Diverged, match=r"has the weights it began with\. Train with a lower rate") as raised:
        model.train(*pairs, 5, progress=False, **options)
    assert not raised.value.learnt
    assert torch.equal(model.predict(pairs[0]), before)
    model.train(*pairs, 1, progress=False)


@pytest.mark.parametrize("saving", [True, False])
def test_weights_that_overflow_in_the_last_step_are_noticed(pairs, path, monkeypatch, saving):
    """The loss was finite: it is that of the weights before the step."""
    step, steps = loop.train_step, []

    def train_step(network, *rest):
        loss = step(network, *rest)
        steps.append(network)
        if len(steps) == 5 + saving * 4:
            network.parameters()[0].fill_(torch.inf)
        return loss

    monkeypatch.setattr(loop, "train_step", train_step)
    if not saving:  # in the middle of the second epoch, before it is saved
        monkeypatch.setattr(run, "SAVE_EVERY", 0.0)
    network = tiny()
    with pytest.raises(Diverged, match=f"at step {len(steps) + 5 + saving * 4} .*: weights are not finite"):
        list(fit(network, pairs, 3, RECIPE, checkpoint=path))
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert checkpoint.load(path)["training"]["done"] == (6 if saving else 4)


def test_the_checkpoint_never_holds_weights_of_a_lost_training(pairs, path, every_step, monkeypatch):
    losses(monkeypatch, [0.1, 0.1, 0.1, float("nan")])
    with pytest.raises(Diverged):
        list(fit(tiny(), pairs, 3, RECIPE, checkpoint=path))
    assert checkpoint.load(path)["training"]["done"] == 3


# ------------------------------------------------------------------------------------------------------------ disk


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_reported_before_the_first_step(pairs, path, monkeypatch):
    monkeypatch.setattr(os, "fsync", full)
    network = tiny()
    before = weights(network)
    with pytest.raises(OSError, match=r"could not be written \(No space left on device\); nothing was trained yet"):
        list(fit(network, pairs, 3, RECIPE, checkpoint=path))
    assert same(weights(network), before) and list(path.parent.iterdir()) == []


def test_a_disk_too_small_for_what_will_come_is_reported_before_the_first_step(pairs, path, monkeypatch):
    usage = type("Usage", (), {"free": 50_000})
    monkeypatch.setattr(run.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match="50000 bytes are free, checkpoints need") as raised:
        list(fit(tiny(), pairs, 3, RECIPE, checkpoint=path, on_step=stop_at(1)))
    assert raised.value.errno == errno.ENOSPC


def test_a_disk_full_for_a_while_costs_nothing(pairs, path, every_step, monkeypatch):
    fsync = os.fsync

    def on_step(done, total):
        monkeypatch.setattr(os, "fsync", full if 2 <= done < 6 else fsync)

    with pytest.warns(UserWarning, match="could not be written .*; training goes on and tries again, make room"):
        found, _ = uninterrupted(pairs, checkpoint=path, on_step=on_step)
    monkeypatch.setattr(os, "fsync", fsync)
    assert same(found, uninterrupted(pairs)[0])
    assert checkpoint.load(path)["training"]["done"] == 9


def test_a_disk_full_at_the_end_is_an_error_and_the_network_keeps_its_weights(pairs, path, monkeypatch):
    network, before = tiny(), None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(OSError, match="the network keeps its weights: save them elsewhere"):
            list(fit(network, pairs, 3, RECIPE, checkpoint=path,
                     on_step=lambda done, total: monkeypatch.setattr(os, "fsync", full)))  # fmt: skip
    before = weights(network)
    monkeypatch.undo()
    assert same(before, uninterrupted(pairs)[0])
    assert checkpoint.load(path)["training"]["done"] == 0  # the file from before
    list(fit(network, pairs, 3, RECIPE, checkpoint=path))
    assert same(weights(network), before)


def test_a_limit_on_the_size_of_files(run_python, path):
    """The system itself refuses to write: no room for a single checkpoint."""
    script = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
import torch
from others import denoiser
from others.training import Recipe, fit
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
pairs = (torch.zeros(4, 3, 8, 8),) * 2
try:
    list(fit(denoiser.Denoiser(channels=(8, 12)), pairs, 1, Recipe(), checkpoint=sys.argv[1]))
except OSError as error:
    print(error)
"""
    pytest.importorskip("resource")
    assert "could not be written" in run_python(script, path.parent, path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("room", [2_000, 40_000])
def test_a_disk_that_fills_up_in_the_middle_costs_nothing(pairs, small_disk, every_step, room):
    """A file system of a megabyte with hardly any room left in the second epoch: a warning, and the same bits."""
    path, ballast = small_disk / "training.pth", small_disk / "ballast"

    def on_step(done, total):
        if done == 4:
            ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - room))
        if done == 6:
            ballast.unlink()

    with pytest.warns(UserWarning, match=r"could not be written \(No space left on device\); training goes on"):
        found, _ = uninterrupted(pairs, checkpoint=path, on_step=on_step)
    assert same(found, uninterrupted(pairs)[0]) and checkpoint.load(path)["training"]["done"] == 9
    assert os.listdir(small_disk) == ["training.pth"]


def test_a_limit_in_the_middle_costs_nothing(pairs, path, every_step):
    """The same where nothing can be mounted: the system refuses to write more than so many bytes into a file."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def on_step(done, total):
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096 if 4 <= done < 6 else before[0], before[1]))

    try:
        with pytest.warns(UserWarning, match=r"could not be written \(File too large\); training goes on"):
            found, _ = uninterrupted(pairs, checkpoint=path, on_step=on_step)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert same(found, uninterrupted(pairs)[0]) and checkpoint.load(path)["training"]["done"] == 9
    assert os.listdir(path.parent) == ["training.pth"]


def test_a_folder_that_is_not_there(pairs, tmp_path):
    with pytest.raises(OSError, match=r"nowhere.training\.pth: the checkpoint could not be written"):
        list(fit(tiny(), pairs, 1, RECIPE, checkpoint=tmp_path / "nowhere" / "training.pth"))
