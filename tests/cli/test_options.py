"""What an option cannot be, and what it does not do, is said in one sentence before the work."""

import os
import re

import pytest
import torch

from others.cli import COMMANDS, common, parser, train

pytest.importorskip("PIL")
pytest.importorskip("tifffile")
HUGE = "9" * 30
SCRATCH = ["--denoiser", "prescribed", "--from-scratch"]


@pytest.fixture
def no_work(monkeypatch):
    for place in ("train.load_source", "evaluate.load_pairs", "denoise.load_model", "export.load_model"):
        monkeypatch.setattr(f"others.cli.{place}", lambda *_: pytest.fail("checked too late"))


WRONG = {
    "a seed": (["train", "-o", "x.pth", "--seed", HUGE], 2, "expected a seed between -1,099,511,627,776 and"),
    "a small seed": (["train", "-o", "x.pth", "--seed", "-" + HUGE], 2, "expected a seed between"),
    "epochs": (["train", "-o", "x.pth", "--epochs", HUGE], 2, "expected a positive int up to 1,000,000,000, got 999"),
    "patches": (["train", "-o", "x.pth", "--count", HUGE], 2, "expected a positive int up to"),
    "their side": (["train", "-o", "x.pth", "--patch", HUGE], 2, "expected a positive int up to 1,000,000"),
    "a rate": (["train", "-o", "x.pth", "--lr", "1e308"], 2, "expected a positive float up to"),
    "no rate": (["train", "-o", "x.pth", "--lr", "nan"], 2, "expected a positive float, got nan"),
    "two starts": (["train", "-o", "x.pth", "--from-shipped", "--weights", "y.pth"], 2, "expected one of them"),
    "a burst's two": (
        ["train", "--burst", "b", "-o", "x.pth", "--from-shipped", "--from-scratch"],
        2,
        "--from-shipped and --from-scratch: expected one of them, the weights to start from",
    ),
    "data's two": (
        ["train", "--data", "d", "-o", "x.pth", "--weights", "y.pth", "--from-scratch"],
        2,
        "--weights and --from-scratch: expected one of them, the weights to start from",
    ),
    "a curve": (["train", "-o", "x.pth", "--curve", "x.xyz"], 1, "x.xyz: expected the name of a figure, in ."),
    "no output": (["train", "-o", ""], 2, "argument -o/--out: expected the name of a file or folder, got ''"),
    "no table": (["evaluate", "a.png", "b.png", "--csv", ""], 2, "argument --csv: expected the name of a file"),
    "no input": (["evaluate", "", "b.png"], 2, "argument NOISY: expected the name of a file or folder"),
    "a null": (["export", "--onnx", "x\0.onnx"], 2, "argument --onnx: expected the name of a file or folder, got"),
    "no weights": (["info", "--weights", ""], 2, "argument --weights: expected the name of a file or folder"),
    "a seed in words": (["train", "-o", "x.pth", "--seed", "now"], 2, "1,099,511,627,776, got now"),
    "a share": (["denoise", "x.png", "--strength", "50%"], 2, "expected a number from 0 to 1.5, got 50%"),
    "a strength": (["denoise", "x.png", "--strength", "nan"], 2, "expected a number from 0 to 1.5, got nan"),
    "a port": (["serve", "--port", "any"], 2, "expected a port from 0 to 65535, got any"),
    "a typing error": (["denoise", "x.png", "--strenght=0.5"], 2, "--strenght=0.5; did you mean --strength?"),
    "no option": (
        ["info", "x.pth", "y.pth"],
        2,
        "unrecognized arguments: y.pth; noise2noise info --help lists what it takes",
    ),
    "a good quality": (["denoise", "x.png", "--quality", "best"], 2, "expected a positive int, got best"),
    "a quality": (["denoise", "x.png", "--quality", "101"], 2, "expected a positive int up to 100, got 101"),
}


@pytest.mark.parametrize("arguments, status, said", WRONG.values(), ids=WRONG)
def test_what_an_option_cannot_be(tmp_path, here, no_work, arguments, status, said):
    pytest.importorskip("matplotlib")
    found, stdout, stderr = here(*arguments)
    assert (found, stdout) == (status, "") and said in stderr and stderr.count("\n") == 1 and os.listdir(tmp_path) == []
    assert stderr.count("noise2noise " + arguments[0] + ": ") == 1


@pytest.mark.parametrize("given, said", [
    ("x.pong", "expected one of denoise, serve, train, evaluate, simulate, info, export"),
    (".", "did you mean noise2noise denoise .?"),
    ("denoize", "did you mean noise2noise denoise?"),
])  # fmt: skip
def test_a_word_that_is_no_command(here, given, said):
    assert here(given, "x.png") == (2, "", f"noise2noise: error: no command {given}; {said}\n")


@pytest.mark.parametrize("command", ["denoise", "evaluate", "serve", "train"])
def test_the_help_says_which_denoiser_it_is(here, command):
    status, stdout, _ = here(command, "--help")
    text = " ".join(stdout.split())
    assert status == 0 and "or prescribed)" not in text and "camera (for photographs)" in text


@pytest.mark.parametrize("largest", [common.SEEDS - 1, 1 - common.SEEDS])
def test_the_largest_seeds_work(tmp_path, here, small, monkeypatch, largest):
    monkeypatch.setattr(train, "GENERATED", {"pairs": 3, "images": 2})
    assert here("train", "-o", "x.pth", "--epochs", 1, "--count", 2, "--seed", largest)[0] == 0


IGNORED = {
    "generated pairs": ([], ["--count", 7], "--count 7: of generated pictures there are 3 pairs at most"),
    "so few": ([], ["--count", 2], ""),
    "patches": ([], ["--patch", 8, "--unchecked"], "--patch and --unchecked do nothing with generated pictures"),
    "data": (["--data", "data"], ["--count", 2], "--count does nothing with --data"),
    "pairs": (["--pairs", "a", "b"], ["--count", 2, "--patch", 16, "--unchecked", *SCRATCH], ""),
}


@pytest.mark.parametrize("source, options, said", IGNORED.values(), ids=IGNORED)
def test_what_an_option_does_not_do(tmp_path, here, small, picture, save, monkeypatch, source, options, said):
    monkeypatch.setattr(train, "GENERATED", {"pairs": 3, "images": 2})
    monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
    for seed, folder in enumerate("ab"):
        save(tmp_path / folder / "x.png", picture(40, 40, seed=seed))
    (tmp_path / "data").mkdir()
    pair = torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.ones(4, 3, 32, 32, dtype=torch.uint8)
    torch.save(pair, tmp_path / "data" / "train_data.pkl")
    status, _, stderr = here("train", *source, "-o", "x.pth", "--epochs", 1, *options)
    assert status == 0 and [line for line in stderr.splitlines() if line] == ([f"note: {said}"] if said else [])


def test_export_says_that_it_writes_float32(here, weights):
    pytest.importorskip("onnx")
    status, _, stderr = here("export", "--onnx", "x.onnx", "--weights", weights, "--precision", "bf16")
    assert status == 0 and stderr == "note: --precision bf16 does nothing: the file holds float32\n"


def test_a_turned_shot_trains_as_an_upright_one(tmp_path, here, small, picture, save):
    """Orientation 6 beside an upright picture: aligned once both are upright, and the same weights."""
    image = pytest.importorskip("PIL.Image")
    for seed, folder in enumerate("ab"):
        save(tmp_path / folder / "x.png", picture(72, 96, seed=0) + seed)
    exif = image.Exif()
    exif[0x0112] = 6
    (tmp_path / "turned").mkdir()
    with image.open(tmp_path / "b" / "x.png") as upright:
        upright.transpose(image.Transpose.ROTATE_90).save(tmp_path / "turned" / "x.png", exif=exif)
    found = []
    for second in ("b", "turned"):
        options = ["--epochs", 1, "--count", 4, "--patch", 16, "--unchecked", *SCRATCH]
        status, _, stderr = here("train", "--pairs", "a", second, "-o", f"{second}.pth", *options)
        assert status == 0, stderr
        found.append(torch.load(tmp_path / f"{second}.pth")["denoisers"]["prescribed"]["state"])
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


def test_help_states_the_default_of_every_option():
    top = parser()
    (commands,) = (action for action in top._actions if action.dest == "command")
    assert set(commands.choices) == set(COMMANDS)
    for name, command in commands.choices.items():
        for action in command._actions:
            if action.option_strings and not action.required and action.dest != "help":
                said = command._get_formatter()._expand_help(action)
                assert "(default: " in said, f"{name} {action.option_strings}: {said}"
                if action.default not in (None, False):
                    assert f"(default: {action.default})" in said
        assert re.search(r" (\d+ s|seconds|minutes)\b", command.epilog), f"{name}: how long it takes"


@pytest.mark.parametrize("number, words", [(0, "0 pairs"), (1, "1 pair"), (2, "2 pairs"), (5000, "5,000 pairs")])
def test_one_is_singular(number, words):
    assert common.counted(number, "pair") == words
    assert common.counted(number, "patch", "patches") == words.replace("pairs", "patches").replace("pair", "patch")
