"""Renaming others/denoiser_bonus.py to denoiser.py swaps the network: done for real, in a copy of the tree."""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from others import denoiser, denoiser_bonus, inference, pictures
from others.storage import networks

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ROOT / "Miniproject_2" / "bestmodel.pth"

SCRIPT = """
import sys, torch
tree, images, out, *names = sys.argv[1:]
sys.path.insert(0, tree)
import others
from Miniproject_2.model import Model
images, found = torch.load(images), []
for name in names:
    try:
        model = Model(None if name == "default" else name)
    except ValueError as error:
        found.append(str(error))
        continue
    model.load_pretrained_model()
    found.append({
        "name": model.module.NAME,
        "layers": [type(layer).__name__ for layer in model.network],
        "arguments": model.network.arguments,
        "output": model.predict(images),
        "from": others.__file__,
    })
    before = found[-1]["output"]
    model.train(images, images, 1, progress=False)
    assert not torch.equal(model.predict(images), before)
torch.save(found, out)
"""

LAYERS = {
    "prescribed": ["Conv2d", "ReLU", "Conv2d", "ReLU", "TransposeConv2d", "ReLU", "TransposeConv2d", "Sigmoid"],
    "rednet": ["Skip"],
}


@pytest.fixture
def tree(tmp_path):
    """A copy of what is shipped."""
    tree = tmp_path / "copy of the project"
    for folder in ("Miniproject_2", "others"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


@pytest.fixture
def saved_networks(tree):
    """Small networks whose weights take the place of the shipped ones in the copy."""
    path = tree / "Miniproject_2" / "bestmodel.pth"
    path.unlink(missing_ok=True)
    made = {
        "prescribed": denoiser.Denoiser(channels=(5, 6)).eval(),
        "rednet": denoiser_bonus.Denoiser(layers=((5, 3, 1), (6, 3, 2))).eval(),
    }
    for name, network in made.items():
        networks.save(path, name, network, {})
    return made


@pytest.fixture
def ask(tree, tmp_path, run_python, pixels):
    """ask("default", "rednet", ...): what Model of each name is in the copy, run from an unrelated folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    torch.save(pixels(2, 3, 9, 8), tmp_path / "images.pt")

    def run(*names):
        run_python(SCRIPT, elsewhere, tree, tmp_path / "images.pt", tmp_path / "found.pt", *names)
        return torch.load(tmp_path / "found.pt")

    return run


def check(found, name, tree, saved_networks, images):
    assert found["name"] == name
    assert found["layers"] == LAYERS[name]
    assert found["from"] == str(tree / "others" / "__init__.py")
    assert found["arguments"] == saved_networks[name].arguments
    torch.testing.assert_close(found["output"], inference.denoise(saved_networks[name], images), rtol=1e-5, atol=1e-3)


def test_names_select_without_renaming(tree, saved_networks, ask, pixels):
    default, rednet, prescribed, unknown = ask("default", "rednet", "prescribed", "unet")
    check(default, "prescribed", tree, saved_networks, pixels(2, 3, 9, 8))
    check(rednet, "rednet", tree, saved_networks, pixels(2, 3, 9, 8))
    check(prescribed, "prescribed", tree, saved_networks, pixels(2, 3, 9, 8))
    assert "expected denoiser to be one of 'prescribed', 'rednet', 'camera', got 'unet'" in unknown


def test_rename_the_bonus_over_the_denoiser(tree, saved_networks, ask, pixels):
    (tree / "others" / "denoiser_bonus.py").replace(tree / "others" / "denoiser.py")
    default, rednet, prescribed = ask("default", "rednet", "prescribed")
    check(default, "rednet", tree, saved_networks, pixels(2, 3, 9, 8))
    check(rednet, "rednet", tree, saved_networks, pixels(2, 3, 9, 8))
    assert "expected denoiser to be one of 'rednet', 'camera', got 'prescribed'" in prescribed


def test_the_command_line_after_the_rename(tree, saved_networks):
    """The file holds the weights of both."""
    (tree / "others" / "denoiser_bonus.py").replace(tree / "others" / "denoiser.py")
    run = partial(subprocess.run, cwd=tree, capture_output=True, text=True, timeout=300)
    told = run([sys.executable, "-m", "others", "info", "--history"])
    assert (told.returncode, told.stderr) == (0, "")
    assert "no denoiser here has this name" in told.stdout and str(saved_networks["rednet"].arguments) in told.stdout
    pictures.write(tree / "x.png", pictures.Picture("PNG", [torch.zeros(8, 9, 3, dtype=torch.uint8)], {}))
    weights = tree / "Miniproject_2" / "bestmodel.pth"
    done = run([sys.executable, "-m", "others", "denoise", "x.png", "--weights", str(weights)])
    assert (done.returncode, done.stderr) == (0, "") and (tree / "x-denoised.png").is_file()


def test_exchange_the_two_files(tree, saved_networks, ask, pixels):
    first, second = (tree / "others" / f"{name}.py" for name in ("denoiser", "denoiser_bonus"))
    text = first.read_text()
    first.write_text(second.read_text())
    second.write_text(text)
    default, rednet, prescribed = ask("default", "rednet", "prescribed")
    check(default, "rednet", tree, saved_networks, pixels(2, 3, 9, 8))
    check(rednet, "rednet", tree, saved_networks, pixels(2, 3, 9, 8))
    check(prescribed, "prescribed", tree, saved_networks, pixels(2, 3, 9, 8))


def test_swap_finds_the_shipped_weights(tree, ask, pixels):
    (tree / "others" / "denoiser_bonus.py").replace(tree / "others" / "denoiser.py")
    (found,) = ask("default")
    saved = networks.load(SHIPPED, "rednet")
    network = denoiser_bonus.Denoiser(**saved["arguments"]).load_state_dict(saved["state"]).eval()
    check(found, "rednet", tree, {"rednet": network}, pixels(2, 3, 9, 8))
