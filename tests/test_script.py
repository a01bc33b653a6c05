"""test.py itself: what it refuses to run on. That it passes on this project is for `make test`."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def script(*arguments, cwd):
    command = [sys.executable, ROOT / "test.py", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def test_a_project_without_its_parts_is_refused(tmp_path):
    done = script("-p", tmp_path, cwd=tmp_path)
    assert done.returncode == 2 and f"no Miniproject_2/model.py in {tmp_path}" in done.stderr


def test_parts_of_another_project_fill_no_gap(tmp_path):
    """Miniproject_2 alone: whatever `others` is installed, it is not this project's."""
    (tmp_path / "Miniproject_2").mkdir()
    for name in ("__init__.py", "model.py"):
        shutil.copy(ROOT / "Miniproject_2" / name, tmp_path / "Miniproject_2")
    for name in ("train_data.pkl", "val_data.pkl"):
        torch.save((torch.zeros(2, 3, 8, 8, dtype=torch.uint8),) * 2, tmp_path / name)
    done = script("-p", tmp_path, "-d", tmp_path, cwd=tmp_path)
    failed = [line for line in done.stderr.splitlines() if "FAILED Original." in line]
    assert done.returncode == 1 and len(failed) == 3
    assert all("expected others to be imported from" in line or "No module named 'others'" in line for line in failed)


@pytest.mark.parametrize("damaged, content", [
    ("train_data.pkl", b"hello"), ("val_data.pkl", b"hello"), ("train_data.pkl", b""),
    ("train_data.pkl", {"noisy": torch.zeros(2)}), ("val_data.pkl", (torch.zeros(2, 3, 8, 8),) * 2),
])  # fmt: skip
def test_data_that_are_no_images_are_named(tmp_path, monkeypatch, capsys, damaged, content):
    for name in ("train_data.pkl", "val_data.pkl"):
        torch.save((torch.zeros(2, 3, 8, 8, dtype=torch.uint8),) * 2, tmp_path / name)
    if isinstance(content, bytes):
        (tmp_path / damaged).write_bytes(content)
    else:
        torch.save(content, tmp_path / damaged)
    monkeypatch.setattr(sys, "argv", ["test.py", "-d", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(ROOT / "test.py"), run_name="__main__")
    assert stopped.value.code == 2
    assert f"{tmp_path / damaged}: expected two uint8 tensors (N, 3, H, W)" in capsys.readouterr().err.splitlines()[-1]
