"""The demo of `make demo`, with little data; and the figure it draws."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from others.evaluation import figures

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


def test_demo_trains_measures_and_draws(tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "new" / "demo.png"
    command = [sys.executable, ROOT / "examples" / "demo.py", "--pairs", "40", "--images", "6", "--epochs", "2"]
    done = subprocess.run([*command, "--picture", picture], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 2
    noisy, denoised = (float(line.split()[-2]) for line in lines if line.startswith("PSNR A, "))
    assert denoised > noisy + 1
    assert lines[-1] == f"Picture: {picture}"
    assert sum("variance" in line for line in lines) == done.stdout.count("not to zero") == 1
    assert picture.read_bytes().startswith(PNG)


def test_titles_of_the_comparison_name_the_psnr(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    drawn = []
    maker = figures.figure_maker()
    monkeypatch.setattr(figures, "figure_maker", lambda: lambda *size: drawn.append(maker(*size)) or drawn[0])
    clean = torch.full((2, 3, 4, 4), 100.0)
    figures.comparison(tmp_path / "grid.png", clean + 25.5, clean + 2.55, clean)
    titles = [axis.get_title() for axis in drawn[0].axes]
    assert titles == ["noisy, 20.0 dB", "denoised, 40.0 dB", "clean"] * 2


def test_a_missing_matplotlib_is_said_in_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    with pytest.raises(ImportError, match=r'pip install "\.\[plots\]" in the folder of the project'):
        figures.figure_maker()
