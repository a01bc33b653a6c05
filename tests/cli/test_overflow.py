"""Numbers that overflow are errors of one line, and no file is written."""

import pytest
import torch

from others.cli import train
from others.storage import checkpoint, networks


def spoil(path, value, dtype):
    """Every weight of a file is the value."""
    saved = networks.load(path, "prescribed")
    state = {name: torch.full_like(weight, value, dtype=dtype) for name, weight in saved["state"].items()}
    checkpoint.save(path, {"denoisers": {"prescribed": {**saved, "state": state}}})


@pytest.mark.parametrize("denoiser", ["prescribed", "rednet"])
def test_a_rate_that_overflows(tmp_path, here, small, monkeypatch, denoiser):
    monkeypatch.setitem(train.GENERATED, "images", 3)
    status, _, said = here("train", "-o", "own.pth", "--denoiser", denoiser, "--lr", "1e30", "--epochs", "1",
                           "--count", "40")  # fmt: skip
    assert status == 1 and "Train with a lower rate" in said and "Traceback" not in said
    assert not (tmp_path / "own.pth").exists()


@pytest.mark.parametrize("value, dtype, reason", [
    (1e300, torch.float64, "0.weight is not finite"),
    (1e38, torch.float32, "0.weight has values up to 1e+38, expected 1e+06 at most"),
    (-1e38, torch.float32, "0.weight has values up to 1e+38, expected 1e+06 at most"),
], ids=str)  # fmt: skip
def test_weights_that_overflow(tmp_path, here, picture, save, weights, value, dtype, reason):
    spoil(weights, value, dtype)
    save(tmp_path / "a.png", picture())
    status, _, said = here("denoise", "a.png", "--weights", weights)
    assert status == 1 and reason in said and len(said.splitlines()) == 1
    assert not (tmp_path / "a-denoised.png").exists()
