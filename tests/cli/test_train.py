"""`noise2noise train`: own pairs, bursts, the course's files; what is wrong with pairs; interruption."""

import argparse
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from Miniproject_2.model import Model
from others import data, denoiser, pictures, training
from others.cli import train
from others.diagnose import pairs
from others.model import denoisers
from others.storage import checkpoint, networks
from others.storage.files import locked
from others.training import loop, run

pytest.importorskip("PIL")
pytest.importorskip("tifffile")
FEW = ["--epochs", 2, "--count", 6, "--patch", 32]
SCRATCH = ["--denoiser", "prescribed", "--from-scratch"]


def grainy(clean, seed, sigma=15):
    """(H, W, 3) with Gaussian noise."""
    noise = sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return (clean.float() + noise).round().clamp(0, 255).to(torch.uint8)


def scene(seed, height=80, width=96):
    """A picture of rectangles, (H, W, 3)."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.full((height, width, 3), 120, dtype=torch.uint8)
    for _ in range(25):
        top, left, size = (int(torch.randint(n, (), generator=generator)) for n in (height, width, 40))
        image[top : top + size, left : left + size] = torch.randint(30, 220, (3,), generator=generator).to(torch.uint8)
    return image


@pytest.fixture
def folders(tmp_path, save):
    """Folders a and b of noisy pictures, clean of clean ones, and burst with shots named after their scenes."""
    for number in range(3):
        clean = scene(number)
        save(tmp_path / "clean" / f"{number}.png", clean)
        for shot, folder in enumerate("ab"):
            noisy = grainy(clean, 10 * number + shot)
            save(tmp_path / folder / f"{number}.png", noisy)
            save(tmp_path / "burst" / f"scene{number}_{shot}.png", noisy)
            save(tmp_path / "deep" / f"s{number}" / f"{folder}.png", noisy)
    return tmp_path


def test_own_pairs_from_shot_to_denoised_picture(folders, here, weights):
    pytest.importorskip("matplotlib")
    options = ["--validate", "a", "clean", "--csv", "log.csv", "--curve", "curve.png", "--weights", weights]
    status, stdout, stderr = here("train", "--pairs", "a", "b", "-o", "own.pth", *options, *FEW)
    assert status == 0, stderr
    assert "aligned, different, independent noise" in stdout
    assert "noise has a variance of 0.0" in stdout and "plus the error against clean images" in stdout
    rows = list(csv.DictReader((folders / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"] and all(float(row["psnr_a_db"]) > 5 for row in rows)
    assert (folders / "curve.png").read_bytes().startswith(b"\x89PNG")
    info = networks.load(folders / "own.pth", "prescribed")["info"]
    assert info["epochs"] == "2 of 2" and info["start"] == {"recipe": "none"} and "3 scenes" in info["data"]
    trained, before = Model("prescribed", "cpu"), Model("prescribed", "cpu")
    trained.load_pretrained_model(folders / "own.pth")
    before.load_pretrained_model(weights)
    assert not torch.equal(trained.network.parameters()[0], before.network.parameters()[0])
    assert here("denoise", "a/0.png", "--weights", "own.pth")[0] == 0 and (folders / "a" / "0-denoised.png").is_file()


@pytest.mark.parametrize("burst", ["burst", "deep"])
def test_bursts(folders, here, weights, burst):
    status, stdout, stderr = here("train", "--burst", burst, "-o", "own.pth", "--weights", weights, *FEW)
    assert status == 0, stderr
    assert "6 pictures of 3 scenes" in stdout and (folders / "own.pth").is_file()


@pytest.mark.parametrize("source", [["--pairs", "shots", "a"], ["--burst", "shots"]])
def test_pictures_that_are_not_read_are_named(folders, here, weights, source):
    (folders / "shots").mkdir()
    (folders / "shots" / "1.heic").write_bytes(b"something")
    status, _, stderr = here("train", *source, "-o", "own.pth", "--weights", weights)
    assert status == 1 and "note: left out: shots/1.heic: HEIC, which is not read here" in stderr.splitlines()[0]
    assert "no picture" in stderr.splitlines()[1] and len(stderr.splitlines()) == 2


def test_course_data_and_generated(tmp_path, here, monkeypatch, small):
    monkeypatch.setitem(train.GENERATED, "images", 3)
    torch.save(data.generated_pairs(8), tmp_path / "train_data.pkl")
    torch.save(data.generated_validation(3), tmp_path / "val_data.pkl")
    status, stdout, _ = here("train", "--data", tmp_path, "-o", "own.pth", "--epochs", 1)
    assert status == 0 and "8 pairs of" in stdout
    assert networks.load(tmp_path / "own.pth", "prescribed")["info"]["psnr_a"] > 0
    status, stdout, _ = here("train", "-o", "other.pth", "--epochs", 1, "--count", 4)
    assert status == 0 and "4 generated pairs" in stdout


def test_data_of_torch_before_1_6_are_read(tmp_path, here, weights):
    torch.save(data.generated_pairs(4), tmp_path / "train_data.pkl", _use_new_zipfile_serialization=False)
    status, stdout, stderr = here("train", "--data", tmp_path, "-o", "own.pth", "--epochs", 1, "--weights", weights)
    assert status == 0 and "4 pairs of" in stdout, stderr


def test_the_seed_decides(folders, here, small):
    found = []
    for name, seed in (("1.pth", 1), ("2.pth", 1), ("3.pth", 2)):
        options = ["--pairs", "a", "b", "-o", name, "--seed", seed, "--epochs", 1, "--count", 2, "--patch", 16]
        assert here("train", *options, *SCRATCH)[0] == 0
        found.append(networks.load(folders / name, "prescribed")["state"])
    equal = [[torch.equal(found[0][key], other[key]) for key in found[0]] for other in found[1:]]
    assert all(equal[0]) and not any(equal[1])


@pytest.fixture
def shipped(tmp_path, monkeypatch, small):
    """A file of small weights in place of the shipped ones: one for each denoiser."""
    path = tmp_path / "shipped.pth"
    for name in denoisers():
        network = Model(name, device="cpu").network
        for weight in network.parameters():
            weight.add_(len(name) / 100)  # other numbers than the random ones of a seed
        networks.save(path, name, network, {"made of": name})
    monkeypatch.setattr(Model.load_pretrained_model, "__defaults__", (path,))
    monkeypatch.setattr(train, "SHIPPED", path)
    monkeypatch.setitem(train.GENERATED, "images", 2)
    return path


PAIRS, BURST, DATA = ["--pairs", "a", "b"], ["--burst", "burst"], ["--data", "data"]
STARTS = {
    "pairs": (PAIRS, "camera", "the shipped weights"),
    "a burst": (BURST, "camera", "the shipped weights"),
    "said": ([*PAIRS, "--from-shipped"], "camera", "the shipped weights"),
    "another denoiser": ([*BURST, "--denoiser", "rednet"], "rednet", "the shipped weights"),
    "scratch": ([*PAIRS, "--from-scratch", "--seed", 7], "camera", "random weights (seed 7)"),
    "another's": ([*PAIRS, "--from-scratch", "--denoiser", "rednet"], "rednet", "random weights (seed 0)"),
    "a file": ([*PAIRS, "--weights", "small.pth"], "prescribed", "the weights in small.pth"),
    "data": (DATA, "prescribed", "random weights (seed 0)"),
    "data, shipped": ([*DATA, "--from-shipped"], "prescribed", "the shipped weights"),
    "data, scratch": ([*DATA, "--from-scratch", "--denoiser", "camera"], "camera", "random weights (seed 0)"),
    "generated": (["--count", 3], "prescribed", "random weights (seed 0)"),
}


@pytest.mark.parametrize("options, denoiser, words", STARTS.values(), ids=STARTS)
def test_where_it_starts(folders, here, weights, shipped, options, denoiser, words):
    """In the first line, in the file, and in the weights, which a rate of nearly zero does not move."""
    (folders / "data").mkdir()
    torch.save(data.generated_pairs(3), folders / "data" / "train_data.pkl")
    few = ["--epochs", 1, "--patch", 16, "--lr", 1e-30]
    few += [] if "--data" in options or "--count" in options else ["--count", 4]
    status, stdout, stderr = here("train", *options, "-o", "own.pth", *few)
    assert status == 0, stderr
    assert stdout.splitlines()[0] == f"Starting from {words} of {denoiser!r}."
    (name, saved), *more = networks.held(folders / "own.pth").items()
    start = {"the shipped weights": shipped, "the weights in small.pth": weights}.get(words)
    assert name == denoiser and not more and ("start" in saved["info"]) == (start is not None)
    if start:
        expected = networks.load(start, denoiser)
        assert saved["info"]["start"] == expected["info"]
        assert all(torch.allclose(saved["state"][key], value) for key, value in expected["state"].items())
    else:
        expected = networks.load(shipped, denoiser)["state"]
        assert not any(torch.allclose(saved["state"][key], value) for key, value in expected.items())


def test_an_architecture_alone_has_no_camera(folders, here, shipped, monkeypatch):
    monkeypatch.setattr("others.model.denoisers", lambda: {"prescribed": denoiser})
    status, stdout, stderr = here("train", "--pairs", "a", "b", "-o", "own.pth", *FEW)
    assert status == 0 and stdout.startswith("Starting from the shipped weights of 'prescribed'.\n"), stderr
    assert list(networks.held(folders / "own.pth")) == ["prescribed"]


def test_how_long_it_takes_is_said_before_it_begins(folders, here, weights, monkeypatch):
    """Of what is left, when it goes on."""
    time = r"This takes about (\d+ s|\d+ min|\d+\.\d h) for "
    options = ["--pairs", "a", "b", "-o", "own.pth", "--weights", weights, "--resume", *FEW]
    with interrupted_in(2, monkeypatch):
        stdout = here("train", *options)[1]
    assert re.search(time + "2 epochs\\.\n", stdout.partition("epoch 1/")[0])
    stdout = here("train", *options)[1]
    assert re.search(time + "what is left of 2 epochs\\.\n", stdout.partition("epoch 1/")[0])
    stdout = here("train", "-o", "other.pth", *SCRATCH, "--epochs", 1, "--count", 3, "--lr", 1e-9)[1]
    assert re.search(time + "1 epoch\\.\n", stdout)


GAIN = re.compile(
    r"held-out patches: noisy ((?:about )?)([\d.]+) dB, denoised \1([-\d.]+) dB before this training, \1([-\d.]+) dB "
    r"after \(estimated from noisy pictures alone\)(?:; the weights it started from are as good: more .* help)?\n",
)


@pytest.mark.parametrize("source", [PAIRS, BURST])
def test_what_was_gained_is_said_and_written(folders, here, weights, source):
    """Sigma 15 is 24.6 dB. Patches of 16 leave 64 of 80 rows, in strips of six patches."""
    options = [*source, "-o", "own.pth", "--weights", weights, "--epochs", 2, "--count", 256, "--patch", 16]
    options += ["--lr", 0.3]
    status, stdout, stderr = here("train", *options)
    assert status == 0, stderr
    assert "Held out: the lowest rows of 3 of 3 scenes.\n" in stdout
    about, noisy, before, after = GAIN.search(stdout).groups()
    assert about == "" and abs(float(noisy) - 24.6) < 0.3 and float(after) > float(before) + 0.5
    assert stdout.index("epoch 2/2") < stdout.index("held-out patches")
    held = networks.load(folders / "own.pth", "prescribed")["info"]["held_out"]
    assert held["patches"] == 18
    assert [f"{held[name]:.2f}" for name in ("noisy", "before", "after")] == [noisy, before, after]
    assert f"PSNR: {after} dB (on held-out patches, estimated" in here("info", "--weights", "own.pth")[1]


def test_too_little_to_hold_out_is_said(folders, here, weights):
    status, stdout, _ = here("train", *PAIRS, "-o", "own.pth", "--weights", weights, *FEW)
    assert status == 0 and "Held out: nothing, the pictures are too small for it" in stdout
    assert "held-out patches" not in stdout
    assert "held_out" not in networks.load(folders / "own.pth", "prescribed")["info"]


def test_of_ten_scenes_one_is_held_out(folders, save):
    for number in range(10):
        for shot in range(2):
            save(folders / "ten" / f"{number}" / f"{shot}.png", grainy(scene(number), 10 * number + shot))
    found = train.load_source(options(burst=folders / "ten", data=None, count=50, seed=0))
    assert "50 patches of 32 x 32 an epoch from 18 pictures of 9 scenes" in found.described
    last = train.load_scenes(options(burst=folders / "ten"))[0]["9"]
    first, second = found.held
    assert torch.equal(first[0], last[0][:, :32, :32].float()) and torch.equal(second[0], last[1][:, :32, :32].float())
    assert len(first) == 2 * 3


def test_exposures_that_differ_make_it_about(folders, here, save, weights):
    for number in range(3):
        clean = scene(number, 200, 240)
        save(folders / "bright" / f"{number}.png", grainy(clean, 10 * number))
        save(folders / "dark" / f"{number}.png", (grainy(clean, 10 * number + 1).float() * 0.9).round().to(torch.uint8))
    status, stdout, _ = here("train", "--pairs", "bright", "dark", "-o", "own.pth", "--weights", weights, *FEW)
    assert status == 0 and "corrected." in stdout and GAIN.search(stdout).group(1) == "about "


def test_pictures_without_a_difference_have_no_gain(folders, here, weights):
    options = ["--pairs", "a", "a", "-o", "own.pth", "--weights", weights, "--unchecked"]
    status, stdout, _ = here("train", *options, "--epochs", 1, "--count", 4, "--patch", 16)
    assert status == 0 and "held-out patches: too little noise, or too few pixels, to tell" in stdout
    assert networks.load(folders / "own.pth", "prescribed")["info"]["held_out"] == {"patches": 18}


def test_a_resumed_training_gains_what_one_never_interrupted_does(folders, here, weights, monkeypatch):
    """From the weights at the very start; the bits are the same, and so is the line."""
    options = [*PAIRS, "--weights", weights, "--epochs", 3, "--count", 8, "--patch", 16]
    with interrupted_in(3, monkeypatch):
        assert here("train", *options, "-o", "own.pth", "--resume")[0] == 130
    resumed = here("train", *options, "-o", "own.pth", "--resume")[1]
    whole = here("train", *options, "-o", "whole.pth")[1]
    assert GAIN.search(resumed).group() == GAIN.search(whole).group()
    own, other = (networks.load(folders / name, "prescribed") for name in ("own.pth", "whole.pth"))
    assert own["info"]["held_out"] == other["info"]["held_out"]
    assert all(torch.equal(value, other["state"][key]) for key, value in own["state"].items())


@pytest.fixture
def interrupted(folders, environment):
    """interrupted(*options): exit status and stdout of `train -o own.pth`, sent SIGINT after its second epoch."""

    def run(*options):
        command = [sys.executable, "-u", "-m", "others", "train", "-o", "own.pth", *map(str, options)]
        running = subprocess.Popen(
            command, cwd=folders, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in running.stdout:
            if line.startswith("epoch 2/"):
                break
        running.send_signal(signal.SIGINT)
        stdout, _ = running.communicate(timeout=60)
        return running.returncode, stdout

    return run


def test_interrupted_training_keeps_what_was_learnt(folders, interrupted, weights):
    """SIGINT after the first epoch: status 130, whole weights."""
    options = ["--pairs", "a", "b", "--weights", weights, "--epochs", 1000, "--count", 8, "--patch", 32]
    status, stdout = interrupted(*options)
    said = "Interrupted: own.pth holds what was learnt so far. The same options with --weights own.pth and another -o "
    assert status == 130 and f"{said}go on." in stdout
    epochs = networks.load(folders / "own.pth", "prescribed")["info"]["epochs"]
    assert 2 <= int(epochs.split()[0]) < 1000


def test_interrupted_before_the_first_step_it_replaces_nothing(folders, here, weights, monkeypatch):
    own = folders / "own.pth"
    own.write_bytes(weights.read_bytes())

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(run.Run, "begin", interrupted)
    status, stdout, stderr = here("train", "--pairs", "a", "b", "-o", "own.pth", "--force", *FEW, *SCRATCH)
    assert status == 130 and "Interrupted" not in stdout and "interrupted; every file" in stderr
    assert own.read_bytes() == weights.read_bytes()


@pytest.mark.parametrize("window", [2, 100])
def test_a_training_that_is_given_up_writes_its_best_weights(folders, here, weights, monkeypatch, window):
    """Those after the first two steps; none if not even a window of losses was seen."""
    monkeypatch.setattr(run, "WINDOW", window)
    step, seen, losses = training.train_step, [], iter([0.5, 0.4, 0.9, 0.9, float("nan")])

    def train_step(network, *rest):
        seen.append({key: value.clone() for key, value in network.state_dict().items()})
        step(network, *rest)
        return next(losses)

    monkeypatch.setattr(loop, "train_step", train_step)
    monkeypatch.setitem(denoiser.RECIPE, "batch_size", 16)
    own = folders / "own.pth"
    own.write_bytes(weights.read_bytes())
    options = ["--pairs", "a", "b", "--weights", weights, "--force", "--epochs", 1, "--count", 192, "--patch", 16]
    status, stdout, stderr = here("train", "-o", "own.pth", *options)
    assert status == 1 and "training stopped at step 5" in stderr.splitlines()[-1]
    assert ("Given up: own.pth holds the best weights" in stdout) == (window == 2)
    assert ("the best weights it had" if window == 2 else "the weights it began with") in stderr
    if window == 2:
        state = networks.load(own, "prescribed")["state"]
        assert all(torch.equal(state[key], value) for key, value in seen[2].items())
    else:
        assert own.read_bytes() == weights.read_bytes()


@contextmanager
def interrupted_in(call, monkeypatch, name="train_step"):
    """with interrupted_in(call): Ctrl-C comes in that call of `training`'s function."""
    function, calls = getattr(loop, name), []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == call:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, name, interrupted)
        yield


def test_only_resuming_uses_up_the_state_and_only_with_the_same_pictures(folders, here, save, weights, monkeypatch):
    options = ["--weights", weights, "--epochs", 4, "--count", 8, "--patch", 16, "-o", "own.pth"]
    with interrupted_in(2, monkeypatch):
        assert "Interrupted" in here("train", "--pairs", "a", "b", *options, "--resume")[1]
    kept, own = (folders / "own.pth.state").read_bytes(), (folders / "own.pth").read_bytes()
    for number in range(2):
        for seed, folder in enumerate(("r1", "r2")):
            save(folders / folder / f"{number}.png", grainy(scene(50 + number), 70 + 10 * number + seed))
    for others in (["r1", "r2"], ["a", "b", "--count", 12], ["a", "b", "--patch", 32]):
        status, _, stderr = here("train", *options, "--resume", "--pairs", *others)
        assert status == 1 and "own.pth.state: belongs to another training (pairs: " in stderr
        assert (folders / "own.pth").read_bytes() == own
    assert here("train", "--pairs", "a", "b", *options, "--force")[0] == 0
    assert (folders / "own.pth.state").read_bytes() == kept
    assert here("train", "--pairs", "a", "b", *options, "--resume")[0] == 0
    assert not (folders / "own.pth.state").exists()


@pytest.mark.parametrize("epoch", [2, 4])
def test_the_log_has_every_epoch_though_the_signal_came_while_validating_one(
    folders, here, weights, monkeypatch, epoch
):
    options = ["--pairs", "a", "b", "--validate", "a", "clean", "--weights", weights, "--epochs", 4, "--count", 4,
               "--patch", 16, "--csv", "log.csv", "--resume", "-o", "own.pth"]  # fmt: skip
    with interrupted_in(epoch, monkeypatch, "psnr_a"):
        assert "Interrupted" in here("train", *options)[1]
    assert here("train", *options)[0] == 0
    rows = list(csv.DictReader((folders / "log.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"] and all(row["psnr_a_db"] for row in rows)


@pytest.mark.parametrize("lost", ["the log", "records in the state"])
def test_the_log_is_completed_from_what_there_is(folders, here, weights, monkeypatch, lost):
    """The state has all; those of the first versions, which kept no records, are refused."""
    options = ["--pairs", "a", "b", "--weights", weights, "--epochs", 4, "--count", 4, "--patch", 16,
               "--csv", "log.csv", "--resume", "-o", "own.pth"]  # fmt: skip
    with interrupted_in(3, monkeypatch):
        assert "Interrupted" in here("train", *options)[1]
    if lost == "the log":
        (folders / "log.csv").unlink()
    else:
        content = checkpoint.load(folders / "own.pth.state")
        del content["training"]["records"], content["training"]["version"]
        checkpoint.save(folders / "own.pth.state", content)
        status, _, stderr = here("train", *options, "--force")
        assert status == 1 and "own.pth.state: another version began this training" in stderr
        return
    assert here("train", *options)[0] == 0
    assert [row["epoch"] for row in csv.DictReader((folders / "log.csv").open())] == ["1", "2", "3", "4"]


def test_a_file_that_is_no_log_is_not_replaced_by_resuming(folders, here, weights, monkeypatch):
    options = ["--pairs", "a", "b", "--weights", weights, "--resume", "-o", "own.pth", *FEW]
    with interrupted_in(2, monkeypatch):
        assert "Interrupted" in here("train", *options)[1]
    (folders / "mine.csv").write_text("name,age\nx,1\n")
    status, _, stderr = here("train", *options, "--csv", "mine.csv")
    assert status == 1 and "mine.csv exists; choose another name, or --force" in stderr
    assert (folders / "mine.csv").read_text() == "name,age\nx,1\n"


@pytest.mark.parametrize("option, name", [("--curve", "holiday.png"), ("--csv", "accounts.csv"), ("-o", "own.pth")])
def test_resuming_replaces_only_what_this_training_made(folders, here, weights, monkeypatch, option, name):
    """A file that was not asked for when it began is another's; with --force it may go."""
    pytest.importorskip("matplotlib")
    options = ["--pairs", "a", "b", "--weights", weights, "--resume", "--csv", "log.csv", "-o", "own.pth", *FEW]
    if option == "-o":
        (folders / "own.pth.state").write_bytes(weights.read_bytes())  # no state of a training
    else:
        with interrupted_in(2, monkeypatch):
            assert here("train", *options)[0] == 130
    (folders / name).write_bytes(b"not yours")
    status, _, stderr = here("train", *options, option, name)
    assert status == 1 and f"{name} exists; choose another name, or --force to replace it" in stderr
    assert (folders / name).read_bytes() == b"not yours"
    if option != "-o":
        assert here("train", *options, option, name, "--force")[0] == 0
        assert (folders / name).read_bytes() != b"not yours"


def test_a_training_that_ends_meanwhile_keeps_its_weights(folders, here, weights, monkeypatch):
    """The other one began when there were none; it is refused when it has the lock."""
    load = train.load_source

    def slow(args):
        (folders / "own.pth").write_bytes(b"of a shorter training")
        return load(args)

    monkeypatch.setattr(train, "load_source", slow)
    for resume in ([], ["--resume"]):
        (folders / "own.pth").unlink(missing_ok=True)
        status, _, stderr = here("train", "--pairs", "a", "b", "--weights", weights, "-o", "own.pth", *FEW, *resume)
        assert status == 1 and "own.pth exists; choose another name" in stderr
        assert (folders / "own.pth").read_bytes() == b"of a shorter training"
        assert not (folders / "own.pth.state").exists()


def test_trainings_with_one_log_exclude_each_other(folders, here, weights):
    with locked(folders / "log.csv"):
        status, _, stderr = here(
            "train", "--pairs", "a", "b", "--weights", weights, "-o", "x.pth", "--csv", "log.csv", *FEW
        )
    assert status == 1 and "log.csv: another training is writing this file" in stderr


def test_a_finished_training_resumed_is_done(folders, here, weights):
    """The same command as often as one likes; another is refused, and an output that is missing is not made up."""
    options = ["--pairs", "a", "b", "--weights", weights, "--resume", "-o", "own.pth", *FEW]
    assert here("train", *options, "--csv", "log.csv")[0] == 0
    before = {name: (folders / name).read_bytes() for name in ("own.pth", "log.csv")}
    for _ in range(2):
        status, stdout, stderr = here("train", *options, "--csv", "log.csv")
        assert (status, stderr) == (0, "") and "own.pth: this training is done" in stdout and "epoch 1/" not in stdout
    for other in (["--csv", "other.csv"], ["--seed", 1], ["--epochs", 3], ["--lr", 1e-3], ["--pairs", "b", "a"]):
        status, _, stderr = here("train", *options, *other)
        assert status == 1 and "own.pth exists; choose another name" in stderr
    assert here("train", *[option for option in options if option != "--resume"])[0] == 1
    assert before == {name: (folders / name).read_bytes() for name in before}
    assert not (folders / "own.pth.state").exists() and not (folders / "other.csv").exists()
    assert here("train", *options, "--seed", 1, "--force")[0] == 0
    assert (folders / "own.pth").read_bytes() != before["own.pth"]


def test_an_interrupted_training_is_not_done(folders, here, weights, monkeypatch):
    """Though its state is lost."""
    options = ["--pairs", "a", "b", "--weights", weights, "--resume", "-o", "own.pth", *FEW]
    with interrupted_in(2, monkeypatch):
        assert here("train", *options)[0] == 130
    (folders / "own.pth.state").unlink()
    status, _, stderr = here("train", *options)
    assert status == 1 and "own.pth exists" in stderr


def test_resuming_from_other_weights_is_refused(folders, here, weights, monkeypatch, small):
    """Those of another file, of other random numbers, or the shipped ones."""
    other = Model("prescribed", device="cpu")
    networks.save(folders / "other.pth", "prescribed", other.network, {})
    options = ["--pairs", "a", "b", "--resume", "-o", "own.pth", *FEW]
    with interrupted_in(2, monkeypatch):
        assert here("train", *options, "--weights", weights)[0] == 130
    for start in (SCRATCH, ["--weights", "other.pth"]):
        status, _, stderr = here("train", *options, *start)
        assert status == 1 and "own.pth.state: belongs to another training (" in stderr and "start: " in stderr
    assert here("train", *options, "--weights", weights)[0] == 0


def test_a_disk_full_during_the_epochs_is_a_warning(folders, here, weights, monkeypatch):
    """A real limit on what the process may write, over the second of three epochs; the third writes all."""
    resource = pytest.importorskip("resource")
    step, steps, before = training.train_step, [], resource.getrlimit(resource.RLIMIT_FSIZE)

    def train_step(*arguments):
        steps.append(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100 if len(steps) == 2 else before[0], before[1]))
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", train_step)
    options = ["--pairs", "a", "b", "--weights", weights, "--epochs", 3, "--count", 4, "--patch", 16, "--resume"]
    try:
        status, stdout, stderr = here("train", *options, "-o", "own.pth", "--csv", "log.csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert status == 0 and "epoch 3/3" in stdout, stderr
    lines = stderr.splitlines()
    assert any(
        "own.pth.state: the checkpoint could not be written (File too large); training goes on" in x for x in lines
    )
    assert any("own.pth: File too large; training goes on and tries again, make room" in x for x in lines)
    assert all("noise2noise train: " in line for line in lines if "File too large" in line)
    assert len((folders / "log.csv").read_text().splitlines()) == 4
    monkeypatch.setattr(loop, "train_step", step)
    assert here("train", *options, "-o", "whole.pth")[0] == 0
    states = [networks.load(folders / name, "prescribed")["state"] for name in ("own.pth", "whole.pth")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_disk_full_in_the_end_keeps_what_was_learnt(folders, here, weights, small_disk, monkeypatch):
    """No room for the last state, but for the weights: status 1, and the weights are there."""
    step, steps = training.train_step, []

    def train_step(*arguments):
        steps.append(1)
        if len(steps) == 2:
            free = shutil.disk_usage(small_disk).free
            (small_disk / "ballast").write_bytes(bytes(free - weights.stat().st_size - 12_000))
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", train_step)
    options = ["--pairs", "a", "b", "--weights", weights, "--epochs", 2, "--count", 4, "--patch", 16, "--resume"]
    status, stdout, stderr = here("train", *options, "-o", "disk/own.pth")
    assert status == 1 and "the checkpoint could not be written (No space left on device)" in stderr
    assert "Stopped: disk/own.pth holds what was learnt so far." in stdout
    kept = networks.load(small_disk / "own.pth", "prescribed")["state"]
    (small_disk / "ballast").unlink()
    assert here("train", *options, "-o", "disk/own.pth")[0] == 0
    again = networks.load(small_disk / "own.pth", "prescribed")["state"]
    assert all(torch.equal(kept[key], again[key]) for key in kept)


def test_an_interrupted_training_says_how_to_go_on(folders, here, weights, monkeypatch):
    with interrupted_in(2, monkeypatch):
        said = here("train", "--pairs", "a", "b", "--weights", weights, "--resume", "-o", "own.pth", *FEW)[1]
    assert "Interrupted: own.pth holds what was learnt so far. The same command goes on." in said


def test_resumed_training_ends_as_if_never_interrupted(folders, interrupted, here, weights):
    options = ["--pairs", "a", "b", "--weights", weights, "--epochs", 30, "--count", 32, "--patch", 32]
    options += ["--csv", "log.csv", "--resume"]
    assert "Interrupted" in interrupted(*options)[1]
    assert (folders / "own.pth.state").is_file()
    before = len((folders / "log.csv").read_text().splitlines())
    assert before < 31
    status, _, stderr = here("train", "-o", "own.pth", *options)
    assert status == 0, stderr
    assert not (folders / "own.pth.state").exists()
    rows = list(csv.DictReader((folders / "log.csv").open()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 31))
    status, _, stderr = here("train", "-o", "whole.pth", *options, "--force")
    assert status == 0, stderr
    states = [networks.load(folders / name, "prescribed")["state"] for name in ("own.pth", "whole.pth")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_resumed_training_without_a_log_knows_its_epochs(folders, here, weights, monkeypatch):
    """Interrupted after the last epoch's state was written, before the weights were."""
    options = ["--pairs", "a", "b", "-o", "own.pth", "--weights", weights, "--resume", *FEW]
    save, saved = networks.save, []

    def interrupted(*arguments, **options):
        saved.append(arguments)
        if len(saved) > 1:
            raise KeyboardInterrupt
        save(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(networks, "save", interrupted)
        assert here("train", *options)[0] == 130
    assert networks.load(folders / "own.pth", "prescribed")["info"]["epochs"] == "1 of 2"
    assert here("train", *options)[0] == 0
    assert networks.load(folders / "own.pth", "prescribed")["info"]["epochs"] == "2 of 2"


def test_resume_reads_every_pixel_of_the_pairs_once(folders, here, monkeypatch):
    read, right = [], run.fingerprint
    monkeypatch.setattr(run, "fingerprint", lambda pairs: read.append(pairs) or right(pairs))
    options = ["-o", "own.pth", "--pairs", "a", "b", "--count", 8, "--patch", 32, "--epochs", 1, "--resume"]
    assert here("train", *options)[0] == 0
    assert len(read) == 2 and callable(read[0]) and read[1] is read[0](0)  # the function, and what it makes


def test_two_trainings_of_one_file_at_once(folders, environment, here, weights):
    """The second is told which file, and the first goes on."""
    options = ["--pairs", "a", "b", "--weights", weights, "--count", 8, "--patch", 32, "--epochs", 1000]
    command = [sys.executable, "-u", "-m", "others", "train", "-o", "own.pth", *map(str, options)]
    first = subprocess.Popen(command, cwd=folders, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        while not first.stdout.readline().startswith("epoch 1/"):
            pass
        status, _, stderr = here("train", "-o", "own.pth", *options, "--force")
        assert status == 1
        assert "train: own.pth: another training is writing this file; wait" in stderr.splitlines()[-1]
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()


def test_two_processes_write_one_file(folders, environment, weights, here):
    options = ["--pairs", "a", "b", "--weights", str(weights), *map(str, FEW), "--csv", "log.csv"]
    options += ["--precision", "fp32"]  # in bf16 the order of sums shows
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "others",
        "train",
    ]
    done = subprocess.run(
        [*command, "-o", "two.pth", *options], cwd=folders, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("two.pth: use it") == 1 and done.stdout.count("epoch 1/2") == 1
    assert here("train", "-o", "one.pth", *options, "--force")[0] == 0
    states = [networks.load(folders / name, "prescribed")["state"] for name in ("one.pth", "two.pth")]
    for key, value in states[0].items():
        assert torch.allclose(states[1][key], value, atol=1e-5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
def test_interrupted_under_torchrun(folders, environment, weights):
    """Each process ends with 143, rank 0 keeps what was learnt, and torchrun, whose status is its own, fails."""
    options = ["--pairs", "a", "b", "--weights", str(weights), "--count", "8", "--patch", "32", "--epochs", "100000"]
    command = [
        sys.executable,
        "-u",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        "-m",
        "others",
    ]
    with open(folders / "said", "w+") as said:
        running = subprocess.Popen([*command, "train", "-o", "own.pth", *options], cwd=folders, env=environment,
                                   stdout=subprocess.PIPE, stderr=said, text=True)  # fmt: skip
        for line in running.stdout:
            if line.startswith("epoch 2/"):
                break
        with open(f"/proc/{running.pid}/task/{running.pid}/children") as children:
            for child in children.read().split():
                os.kill(int(child), signal.SIGTERM)
        stdout, _ = running.communicate(timeout=120)
        said.seek(0)
        stderr = said.read()
    assert running.returncode != 0 and "exitcode  : 143" in stderr, stderr
    assert stdout.count("Interrupted: own.pth holds what was learnt so far.") == 1 and "use it with" not in stdout
    assert networks.load(folders / "own.pth", "prescribed")["info"]["processes"] == 2
    assert not list(folders.glob(".*"))


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--pairs", "a", "a"], 1, "they are the same picture"),
        (["--pairs", "a", "shifted"], 1, "is shifted by +2 rows and -3 columns"),
        (["--pairs", "a", "same"], 1, "they have the same noise"),
        (["--pairs", "a", "sizes"], 1, "different sizes"),
        (["--pairs", "a", "others"], 1, "expected the same names in both, found none; rename"),
        (["--pairs", "a", "bad"], 1, "damaged"),
        (["--pairs", "a"], 2, "expected 2 arguments"),
        (["--pairs", "a", "missing"], 1, "expected a folder"),
        (["--burst", "a"], 1, "expected two shots or more of every scene"),
        (["--burst", "missing"], 1, "no folder missing"),
        (["--data", "missing"], 1, "no data file"),
        (["--data", "x", "--burst", "a"], 2, "not allowed with"),
        (["--epochs", "0"], 2, "positive int"),
        (["--lr", "1e400"], 2, "positive float"),
        (["--lr", "nan"], 2, "positive float"),
        (["--burst", "twice"], 1, "(0: they are the same picture"),
        (["--pairs", "a", "b", "--validate", "a", "sizes"], 1, "a/0.png and sizes/0.png: the two versions have"),
        (["--csv", "a/0.png"], 1, "a/0.png exists"),
    ],
)
def test_what_is_wrong_is_said_before_training(folders, here, save, arguments, status, message):
    for number in range(3):
        first = grainy(scene(number), 10 * number)
        save(folders / "shifted" / f"{number}.png", grainy(scene(number), 99).roll((2, -3), (0, 1)))
        save(folders / "same" / f"{number}.png", grainy(first, 50, 1))
        save(folders / "sizes" / f"{number}.png", first[:70])
    for shot, seed in enumerate((1, 2, 2)):
        save(folders / "twice" / f"0_{shot}.png", grainy(scene(0), seed))
    save(folders / "others" / "x.png", scene(0))
    for number in range(3):
        path = save(folders / "bad" / f"{number}.png", scene(number))
        path.write_bytes(path.read_bytes()[:60])
    found, _, stderr = here("train", "-o", "own.pth", *FEW, *SCRATCH, *arguments)
    assert found == status and message in stderr.splitlines()[-1]
    assert not (folders / "own.pth").exists()


def broken(path, how):
    """Put a broken file in the place of a picture. -> what is said of it"""
    content = {"truncated": path.read_bytes()[: path.stat().st_size // 2], "empty": b"", "text": b"no picture"}[how]
    path.write_bytes(content)
    said = {"truncated": "damaged or incomplete", "empty": "the file is empty", "text": "not a picture that can be"}
    return f"{path.relative_to(path.parents[1])}: {said[how]}"


@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_broken_shot_is_left_out_by_name(folders, here, save, weights, how, deep):
    """scene0 keeps two shots of three; scene1 has one left of two, and goes too; scene2 is whole."""
    for file in sorted((folders / "burst").iterdir()) if deep else ():
        page = next(pictures.pages(file))[0].permute(1, 2, 0)
        save(file, page.int().mul(257).to(torch.uint16))
    third = grainy(scene(0), 5)
    save(folders / "burst" / "scene0_2.png", third.int().mul(257).to(torch.uint16) if deep else third)
    said = [broken(folders / "burst" / name, how) for name in ("scene0_1.png", "scene1_0.png")]
    status, stdout, stderr = here("train", "--burst", "burst", "-o", "own.pth", "--weights", weights, *FEW)
    assert status == 0 and (folders / "own.pth").is_file(), stderr
    assert [sum(f"left out: {text}" in line for line in stderr.splitlines()) for text in said] == [1, 1]
    *_, last = notes = re.findall("^note: .*", stderr, re.MULTILINE)
    assert last.startswith("note: left out: scene scene1 (1 of 2 files cannot be read") and len(notes) == 3
    assert "4 pictures of 2 scenes" in stdout


def test_what_is_left_of_a_burst_is_read_as_if_the_broken_shot_were_not_there(folders, save, capsys):
    """16 bits: the scale is that of the whole ones together."""
    for shot in range(3):
        save(folders / "dim" / f"0_{shot}.tif", grainy(scene(0), shot).int().mul(20 + shot).to(torch.uint16))
    broken(folders / "dim" / "0_1.tif", "truncated")
    found = train.load_scenes(options(burst=folders / "dim"))[0]["0"]
    (folders / "dim" / "0_1.tif").unlink()
    expected = train.load_scenes(options(burst=folders / "dim"))[0]["0"]
    assert len(found) == 2 and all(map(torch.equal, found, expected))


@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
def test_too_few_whole_shots_are_one_error(folders, here, how):
    for number in range(3):
        broken(folders / "burst" / f"scene{number}_0.png", how)
    status, _, stderr = here("train", "--burst", "burst", "-o", "own.pth", *FEW, *SCRATCH)
    *notes, error = stderr.splitlines()
    assert status == 1 and len(notes) == 3 and not (folders / "own.pth").exists()
    assert "expected two shots or more of every scene" in error
    assert "found fewer of: scene0 (1 of 2 files cannot be read; replace what is broken)" in error


def test_a_burst_that_is_one_broken_file_is_one_error(folders, here):
    said = broken(folders / "a" / "0.png", "truncated")
    status, _, stderr = here("train", "--burst", "a/0.png", "-o", "own.pth", *FEW, *SCRATCH)
    assert status == 1 and stderr.startswith(f"noise2noise train: {said}") and len(stderr.splitlines()) == 1


@pytest.mark.parametrize("how", ["truncated", "empty", "text"])
def test_a_broken_pair_is_left_out_by_name(folders, here, weights, how):
    said = broken(folders / "b" / "1.png", how), broken(folders / "clean" / "2.png", how)
    options = ["--validate", "a", "clean", "--weights", weights, *FEW]
    status, stdout, stderr = here("train", "--pairs", "a", "b", "-o", "own.pth", *options)
    assert status == 0 and "4 pictures of 2 scenes" in stdout, stderr
    assert [line.startswith(f"note: pair {name} left out: {text}") for line, name, text
            in zip(stderr.splitlines(), "12", said)] == [True, True]  # fmt: skip


def test_a_broken_shot_does_not_hide_one_of_another_size(folders, here, save):
    broken(folders / "burst" / "scene0_1.png", "empty")
    for shot, rows in enumerate((80, 70)):
        save(folders / "burst" / "scene0" / f"{shot}.png", grainy(scene(0), shot)[:rows])
    status, stdout, stderr = here("train", "--burst", "burst", "-o", "own.pth", *FEW, *SCRATCH)
    assert status == 1 and "scene scene0: they have different sizes, 80 x 96 and 70 x 96" in stdout
    assert "cannot teach Noise2Noise" in stderr.splitlines()[-1]


def test_pictures_of_other_scenes_are_refused(folders, here, save):
    """Names rotated by one."""
    for number in range(3):
        save(folders / "wrong" / f"{number}.png", grainy(scene((number + 1) % 3), 10 * number + 1))
    status, stdout, stderr = here("train", "--pairs", "a", "wrong", "-o", "own.pth", *FEW, *SCRATCH)
    assert status == 1 and stdout.count("they show different scenes") == 3
    assert "3 of 3 scenes cannot teach Noise2Noise (0: they show different scenes)" in stderr
    assert not (folders / "own.pth").exists()


def test_other_exposure_is_corrected_and_said(folders, here, save, weights):
    for number in range(3):
        clean = scene(number, 200, 240)
        save(folders / "bright" / f"{number}.png", grainy(clean, 10 * number))
        save(folders / "dark" / f"{number}.png", (grainy(clean, 10 * number + 1).float() / 2).round().to(torch.uint8))
    status, stdout, stderr = here("train", "--pairs", "bright", "dark", "-o", "own.pth", "--weights", weights, *FEW)
    assert status == 0, stderr
    assert stdout.count("the second is exposed differently (0.5") == 3 and stdout.count("corrected.") == 3
    for first, second in train.load_scenes(options(pairs=[folders / "bright", folders / "dark"]))[0].values():
        assert abs(float((first - second).mean())) < 1 and (first - second).abs().mean() < 20


def test_when_nothing_can_be_said_the_words_are_cannot_tell(folders, here, save, weights):
    for shot, folder in enumerate("uv"):
        save(folders / folder / "wall.png", grainy(torch.full((80, 96, 3), 120, dtype=torch.uint8), shot))
    status, stdout, _ = here("train", "--pairs", "u", "v", "-o", "own.pth", "--weights", weights, *FEW)
    assert status == 0 and "Cannot tell whether they show one scene: 1 (wall)." in stdout
    assert "aligned, different" not in stdout


def options(**given):
    return argparse.Namespace(**{"pairs": None, "burst": None, "patch": 32, "unchecked": False, "range": None, **given})


def test_all_pages_of_stacks_are_used(folders, save, capsys):
    """12 slices of 12 scenes in a pair of files; a burst of 8 shots as one file, in a folder or alone."""
    first, second = ([grainy(scene(slice), 20 * slice + shot) for slice in range(12)] for shot in range(2))
    save(folders / "s1" / "stack.tif", *first)
    save(folders / "s2" / "stack.tif", *second)
    scenes, *_ = train.load_scenes(options(pairs=[folders / "s1", folders / "s2"]))
    assert list(scenes) == [f"stack page {number}" for number in range(1, 13)]
    for number, shots in enumerate(scenes.values()):
        assert all(torch.equal(shot, page[number].permute(2, 0, 1)) for shot, page in zip(shots, (first, second)))
    file = save(folders / "shots" / "burst.tif", *(grainy(scene(5), seed) for seed in range(8)))
    for source in (file, file.parent):
        scenes, *_ = train.load_scenes(options(burst=source))
        assert list(scenes) == ["burst"] and len(scenes["burst"]) == 8
    save(folders / "s2" / "stack.tif", *second[:8])
    with pytest.raises(ValueError, match="expected as many pages in both, got 12 and 8"):
        train.load_scenes(options(pairs=[folders / "s1", folders / "s2"]))


def test_a_cameras_folder_is_grouped_by_what_the_pictures_show(folders, here, save, weights):
    """Two shots of a scene, one of another, three of a third, all named IMG_0001 and so on."""
    for number, shown in enumerate((0, 0, 1, 2, 2, 2), 1):
        save(folders / "camera" / f"IMG_{number:04}.png", grainy(scene(shown), number))
    status, stdout, stderr = here("train", "--burst", "camera", "-o", "own.pth", "--weights", weights, *FEW)
    assert status == 0, stderr
    assert "scene IMG: 1 (IMG_0003.png) show what no other does; left out" in stdout
    assert "5 pictures of 2 scenes" in stdout
    for number in range(1, 7):
        save(folders / "walk" / f"IMG_{number:04}.png", grainy(scene(number), number))
    status, _, stderr = here("train", "--burst", "walk", "-o", "walk.pth", "--weights", weights, *FEW)
    assert status == 1 and "found fewer of: IMG (its pictures show different scenes)" in stderr
    assert not (folders / "walk.pth").exists()


def test_a_strip_is_left_out_by_name(folders, here, save, weights):
    for shot, folder in enumerate(("w1", "w2")):
        for number in range(2):
            save(folders / folder / f"{number}.png", grainy(scene(number, 256, 256), 10 * number + shot))
        save(folders / folder / "strip.png", grainy(scene(7, 4, 200), shot))
        save(folders / f"clean_{folder}" / "0.png", scene(0, 256, 256))
        save(folders / f"clean_{folder}" / "1.png", scene(1, 256, 256))
        save(folders / f"clean_{folder}" / "strip.png", scene(7, 4, 200))
    few = ["--epochs", 1, "--count", 4, "--validate", "w1", "clean_w1"]
    status, stdout, stderr = here("train", "--pairs", "w1", "w2", "-o", "own.pth", "--weights", weights, *few)
    assert status == 0, stderr
    assert stdout.count("scene strip: 4 x 200 pixels, smaller than a patch of 64 x 64; left out.") == 2  # both uses
    assert "4 patches of 64 x 64 an epoch from 4 pictures of 2 scenes" in stdout


def test_pictures_are_upright_before_they_are_compared(folders, save):
    image_module = pytest.importorskip("PIL.Image")
    exif = image_module.Exif()
    exif[pictures.ORIENTATION] = 6  # the first row of the file is the right side of the picture
    first, second = (grainy(scene(4), seed) for seed in (1, 2))
    save(folders / "up" / "0.png", first)
    save(folders / "turned" / "0.png", second.flip(0).transpose(0, 1).flip(0).flip(1), exif=exif.tobytes())
    ((_, shot),) = train.load_scenes(options(pairs=[folders / "up", folders / "turned"]))[0].values()
    assert torch.equal(shot, second.permute(2, 0, 1))


@pytest.mark.parametrize("large", [0, 2])
def test_what_is_too_small_to_check_is_said(folders, here, save, weights, large):
    for number in range(3):
        clean = scene(number, 64, 64) if number < large else scene(number, 32, 32)
        save(folders / "s1" / f"{number}.png", grainy(clean, number))
        save(folders / "s2" / f"{number}.png", grainy(clean.roll(0 if number < large else 8, 0), 10 + number))
    status, stdout, _ = here("train", "--pairs", "s1", "s2", "-o", "own.pth", "--weights", weights, *FEW)
    assert status == 0
    assert f"{3 - large} too small to check (sides below 64 pixels)" in stdout
    assert ("Checked 2 scenes: aligned, different, independent noise." in stdout) == (large == 2)
    assert ("aligned, different" in stdout) == (large == 2)


def test_unchecked_pairs_can_be_trained_on(folders, here, save, weights):
    options = ["--pairs", "a", "a", "-o", "own.pth", "--weights", weights, "--unchecked", *FEW]
    assert here("train", *options)[0] == 0


def test_a_full_disk_leaves_the_weights_that_were_there(folders, here, weights, monkeypatch):
    own = folders / "own.pth"
    own.write_bytes(weights.read_bytes())

    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.fsync", full)
    status, _, stderr = here("train", "--pairs", "a", "b", "-o", "own.pth", "--force", "--weights", weights, *FEW)
    assert status == 1 and "No space left" in stderr and own.read_bytes() == weights.read_bytes()


# --------------------------------------------------------------------------------------------------------- pairs


@pytest.mark.parametrize("shift", [(0, 0), (1, 0), (0, -2), (-7, 5)])
def test_shifts_are_found(shift):
    clean = scene(1, 120, 100)
    first, second = grainy(clean, 1), grainy(clean.roll(shift, (0, 1)), 2)
    assert pairs.shift(*(image.float().mean(2) for image in (first, second))) == shift


@pytest.mark.parametrize("contrast, sigma", [(0.0, 15), (0.1, 25), (0.3, 25), (1.0, 75), (1.0, 25)])
def test_little_but_noise_is_not_called_a_shift(contrast, sigma):
    """A wall, the sky, a picture taken in the dark: aligned, but little tells so."""
    generator = torch.Generator().manual_seed(0)
    for seed in range(8):
        clean = 128 + contrast * (scene(seed, 128, 128).float() - 128)
        first, second = (clean + sigma * torch.randn(clean.shape, generator=generator) for _ in range(2))
        assert pairs.problem(first.permute(2, 0, 1), second.permute(2, 0, 1)) is None


def test_patches_are_of_one_place_and_two_shots():
    """Scenes of constant pictures, whose values tell scene, shot and row."""
    rows = torch.arange(40.0).view(1, 40, 1).expand(3, 40, 50)
    scenes = [[rows + 1000 * scene + 100 * shot for shot in range(3)] for scene in range(2)]
    patches = data.Patches(scenes, count=20, size=8, seed=3)
    first, second = patches(0)
    assert first.shape == (20, 3, 8, 8)
    assert {abs(int(d)) for d in (first - second).flatten()} == {100, 200}
    assert all(torch.equal(a, b) for a, b in zip((first, second), patches(0)))
    assert not torch.equal(first, patches(1)[0])
    assert data.Patches(scenes, count=1, size=64)(0)[0].shape == (1, 3, 40, 40)
