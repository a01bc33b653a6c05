"""What cannot be written is said before the work, by every command that writes."""

import os
from pathlib import Path

import pytest

from others import data
from others.cli.common import check_outputs

pytest.importorskip("PIL")

COMMANDS = {
    "train": ["train", "-o"],
    "train --csv": ["train", "-o", "own.pth", "--csv"],
    "evaluate": ["evaluate", "val.pkl", "--csv"],
    "export": ["export", "--onnx"],
}
BAD = {
    "a folder": ("results", "expected the name of a file, got a folder"),
    "no files here": ("/proc/x.out", "expected a place that takes files, got /proc (No such file or directory)"),
    "no folders here": ("/proc/new/deep/x.out", "expected a place that takes files, got /proc ("),
    "below a file": ("file/x.out", "expected a place that takes files, got file (Not a directory)"),
    "a long name while half written": ("x" * 240, "expected a place that takes files, got . (File name too long)"),
    "a long name": ("x" * 250, "expected a place that takes files, got . (File name too long)"),
    "longer": ("x" * 300, "expected a place that takes files, got . (File name too long)"),
}


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    """What comes after the check of the outputs fails."""
    for name in ("load_pairs", "generated_pairs"):
        monkeypatch.setattr(data, name, lambda *_: pytest.fail("checked too late"))
    monkeypatch.setattr("others.cli.export.load_model", lambda *_: pytest.fail("checked too late"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="a folder that takes no files, not even root's")
@pytest.mark.parametrize("output, problem", BAD.values(), ids=BAD)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_place_that_takes_no_file(tmp_path, here, command, output, problem):
    (tmp_path / "results").mkdir()
    (tmp_path / "file").touch()
    status, stdout, stderr = here(*command, output, "--force")
    assert (status, stdout) == (1, "")
    assert stderr.startswith(f"noise2noise {command[0]}: {output}: {problem}") and len(stderr.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == ["file", "results"]


@pytest.mark.parametrize("arguments", [
    ["train", "-o", "same.pth", "--csv", "same.pth"],
    ["train", "-o", "own.pth", "--csv", "x/../log.csv", "--curve", "log.csv"],
    ["train", "-o", "link.pth", "--csv", "log.csv"],
    ["train", "--resume", "-o", "own.pth", "--csv", "own.pth.state"],
    ["evaluate", "val.pkl", "--csv", "r", "--json", "r"],
    ["evaluate", "val.pkl", "--figure", "r.png", "--gains", "./r.png"],
], ids=" ".join)  # fmt: skip
def test_two_outputs_that_are_one_file(tmp_path, here, arguments):
    (tmp_path / "x").mkdir()
    (tmp_path / "link.pth").symlink_to("log.csv")
    status, stdout, stderr = here(*arguments, "--force")
    assert (status, stdout) == (1, "") and "expected outputs of different names, got " in stderr
    assert len(stderr.splitlines()) == 1 and sorted(os.listdir(tmp_path)) == ["link.pth", "x"]


def test_simulate_asks_before_it_draws(tmp_path, here, monkeypatch):
    monkeypatch.setattr(data, "photo_files", lambda *_: pytest.fail("checked too late"))
    (tmp_path / "out" / "train_data.pkl").mkdir(parents=True)
    status, _, stderr = here("simulate", ".", "out", "--force")
    assert status == 1 and "out/train_data.pkl: expected the name of a file, got a folder" in stderr


def test_the_check_leaves_nothing(tmp_path):
    """Neither in a folder that is there nor above one that is not."""
    kept = tmp_path / "kept.csv"
    kept.write_text("kept")
    check_outputs([tmp_path / "new" / "deep" / "x.pth", kept, None], [], force=True)
    assert os.listdir(tmp_path) == ["kept.csv"] and kept.read_text() == "kept"
