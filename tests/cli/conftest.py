"""The command line, on files that the tests make."""

import os
from pathlib import Path

import pytest
import torch

from Miniproject_2.model import Model
from others import cli, pictures
from others.storage import networks

ROOT = Path(__file__).resolve().parents[2]
WHITE = {torch.uint8: 255, torch.uint16: 65535}


@pytest.fixture
def environment():
    """That of a command in a process of its own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def here(tmp_path, monkeypatch, capsys):
    """here(*arguments) -> (status, stdout, stderr) of the command line in this process, in tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")  # which main() leaves, too

    def run(*arguments):
        try:
            status = cli.main(list(map(str, arguments)))
        except SystemExit as stopped:
            status = stopped.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def picture():
    """picture(H, W, C, dtype, seed): a page of smooth colours with some noise, alpha included."""

    def make(height=24, width=30, channels=3, dtype=torch.uint8, seed=0):
        generator = torch.Generator().manual_seed(seed)
        rows, columns = torch.arange(height).view(-1, 1, 1) / height, torch.arange(width).view(1, -1, 1) / width
        shade = (rows + columns * torch.rand(channels, generator=generator)) / 2
        noisy = shade + 0.05 * torch.randn(height, width, channels, generator=generator)
        return (noisy.clamp(0, 1) * WHITE[dtype]).round().to(dtype)

    return make


@pytest.fixture
def save():
    """save(path, *pages, **about): a picture file in the format of its suffix."""

    def write(path, *pages, **about):
        pictures.write(path, pictures.Picture(pictures.FORMATS[path.suffix], list(pages), about), force=True)
        return path

    return write


@pytest.fixture
def weights(tmp_path):
    """A small file of weights: a prescribed network of few channels, untrained."""
    model = Model("prescribed", device="cpu")
    model._build(channels=(8, 12))
    path = tmp_path / "small.pth"
    networks.save(path, "prescribed", model.network, {"recipe": "none"})
    return path
