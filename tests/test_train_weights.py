"""The script that makes the shipped weights: starting larger networks from smaller ones, and reproducibility."""

import sys
from pathlib import Path

import pytest
import torch

from Miniproject_2.model import Model
from others import data
from others.storage import networks

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "train_weights.py"
sys.path.insert(0, str(SCRIPT.parent))
import train_weights  # noqa: E402


def started(name, arguments):
    """A small network of that architecture with random weights, and what a checkpoint would hold of it."""
    model = Model(name, device="cpu")
    model._build(**arguments)
    for parameter in model.network.parameters():
        parameter.copy_(torch.randn_like(parameter) * 0.1)
    state = {key: value.clone() for key, value in model.network.state_dict().items()}
    return model, {"arguments": model.network.arguments, "state": state, "info": {}}


@pytest.mark.parametrize(
    "name, small, large",
    [
        ("rednet", {"layers": ((5, 3, 1), (7, 3, 2))}, {"layers": ((5, 3, 1), (7, 3, 2), (9, 3, 2), (4, 3, 1))}),
        ("rednet", {"layers": ((5, 3, 1), (7, 3, 2))}, {"layers": ((5, 5, 1), (7, 3, 2))}),
        ("prescribed", {"channels": (6, 9), "kernel_sizes": (3, 3)}, {"kernel_sizes": (5, 3)}),
        ("rednet", {"layers": ((5, 3, 1), (7, 3, 2))}, {"layers": ((8, 3, 1), (9, 3, 2))}),
        ("rednet", {"layers": ((5, 3, 1), (7, 2, 2))}, {"layers": ((6, 5, 1), (9, 4, 2), (4, 3, 1))}),
        ("prescribed", {"channels": (6, 9), "kernel_sizes": (3, 3)}, {"channels": (8, 11), "kernel_sizes": (5, 3)}),
        ("camera", {"channels": 4, "blocks": 2}, {"blocks": 4}),
        ("camera", {"channels": 4, "blocks": 0}, {"channels": 7, "blocks": 1}),
        ("prescribed", {"channels": (6, 9)}, {}),
    ],
)
def test_a_grown_network_computes_what_the_small_one_did(name, small, large, pixels):
    model, start = started(name, small)
    noisy = pixels(3, 3, 16, 16)
    before, count = model.predict(noisy), sum(p.numel() for p in model.network.parameters())
    train_weights.grow(model, start, large)
    after = sum(p.numel() for p in model.network.parameters())
    assert (after > count) == bool(large)
    assert torch.allclose(model.predict(noisy), before, atol=1e-3)
    assert before.std() > 1


SMALL = "{'channels': (8, 12)}"


def test_twice_the_same_command_gives_identical_weights(tmp_path, run_python):
    torch.save(data.generated_pairs(40), tmp_path / "train_data.pkl")
    for name in ("first.pth", "second.pth"):
        script = f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
        run_python(
            script, tmp_path, "prescribed", "--data", tmp_path, "--epochs", 2, "--threads", 1, "--out", tmp_path / name,
            "--arguments", SMALL,
        )  # fmt: skip
    first, second = (networks.load(tmp_path / name, "prescribed") for name in ("first.pth", "second.pth"))
    assert first["info"]["command"].startswith("python benchmarks/train_weights.py prescribed --data DATA --epochs 2")
    assert all(torch.equal(first["state"][key], second["state"][key]) for key in first["state"])
    assert any(value.any() for value in first["state"].values())


def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    torch.save(data.generated_pairs(70), tmp_path / "train_data.pkl")

    def train(name, *options):
        command = ["prescribed", "--epochs", "3", "--precision", "fp32", "--threads", str(torch.get_num_threads())]
        command += ["--arguments", SMALL]
        files = ["--data", str(tmp_path), "--out", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", ["train_weights.py", *command, *files, *options])
        train_weights.main()
        return networks.load(tmp_path / name, "prescribed")

    def interrupt(*args):
        saved.append(args)
        if len(saved) == 2:
            raise KeyboardInterrupt
        save(*args)

    whole, save, saved = train("whole.pth"), train_weights.save, []
    monkeypatch.setattr(train_weights, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train("parts.pth", "--resume")
    assert (tmp_path / "parts.pth.state").is_file()
    assert networks.load(tmp_path / "parts.pth", "prescribed")["info"]["epochs"] == "1 of 3"
    parts = train("parts.pth", "--resume")
    assert not (tmp_path / "parts.pth.state").exists()
    assert parts["info"]["epochs"] == whole["info"]["epochs"] == "3 of 3"
    assert parts["info"]["command"] == whole["info"]["command"]
    assert all(torch.equal(parts["state"][key], value) for key, value in whole["state"].items())
