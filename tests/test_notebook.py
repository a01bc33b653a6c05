"""The notebook, run by a real kernel; and as it is committed."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from Miniproject_2.model import Model
from others import pictures
from others.diagnose import noise

FOLDER = Path(__file__).resolve().parents[1] / "examples"
LESS = [("generated_pairs(800)", "generated_pairs(60)"), ("generated_validation(30)", "generated_validation(8)"),
        ("num_epochs=8", "num_epochs=1")]  # fmt: skip


def test_every_cell_runs(tmp_path, monkeypatch):
    pytest.importorskip("nbclient", reason='needs nbclient: pip install ".[notebook]" in the folder of the project')
    pytest.importorskip("ipykernel", reason='needs ipykernel: pip install ".[notebook]" in the folder of the project')
    pytest.importorskip("matplotlib")
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    from execute_notebook import NOTEBOOK, execute

    text = NOTEBOOK.read_text()
    assert all(old in text for old, _ in LESS)
    cells = [cell for cell in execute(replacements=LESS).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    printed = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert "denoised " in printed and "a wrong one: " in printed
    assert sys.modules.pop("execute_notebook")


@pytest.mark.parametrize("own", [None, "mine.png", "picture.png"])
def test_the_readers_own_pictures_stay_as_they_are(tmp_path, monkeypatch, capsys, own):
    """The last cell, in a folder with the reader's pictures, with and without one of them named in it."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("picture.png", "picture-denoised.png", "drawn.png", "mine.png")):
        page = torch.randint(0, 256, (40, 48, 3), dtype=torch.uint8)
        pictures.write(tmp_path / name, pictures.Picture("PNG", [page], {}))
        os.utime(tmp_path / name, (10**9 + number, 10**9 + number))
    before = {path: (path.read_bytes(), path.stat().st_mtime) for path in tmp_path.iterdir()}
    source = "".join(json.loads((FOLDER / "noise2noise.ipynb").read_text())["cells"][-1]["source"])
    assert "own = None  # put your own file's name here" in source
    names = {"Path": Path, "noise": noise, "plt": plt, "shipped": Model("prescribed", device="cpu"), "torch": torch}
    exec(source.replace("own = None", f"own = {own!r}"), names)
    assert {path: (path.read_bytes(), path.stat().st_mtime) for path in tmp_path.iterdir()} == before
    assert names["page"].shape == ((40, 48, 3) if own else (120, 160, 3))
    assert "the noise: " in capsys.readouterr().out
    plt.close("all")


def test_it_is_committed_small_and_with_its_outputs():
    path = FOLDER / "noise2noise.ipynb"
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert path.stat().st_size < 300 * 1024 and all(cell["execution_count"] for cell in cells)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert "/home/" not in path.read_text() and "/tmp/" not in path.read_text()
