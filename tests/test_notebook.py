"""The notebook, run by a real kernel; and as it is committed."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch

from Miniproject_2.model import Model
from others import data, pictures
from others.diagnose import noise
from others.model import suited

FOLDER = Path(__file__).resolve().parents[1] / "examples"
LESS = [("generated_pairs(800)", "generated_pairs(60)"), ("generated_validation(30)", "generated_validation(8)"),
        ("generated_validation(500, ", "generated_validation(40, "), ("num_epochs=8", "num_epochs=1"),
        ("num_epochs=4", "num_epochs=1")]  # fmt: skip


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
    """The cell that reads a picture, in a folder with the reader's, with and without one of them named in it."""
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("picture.png", "picture-denoised.png", "drawn.png", "mine.png")):
        page = torch.randint(0, 256, (40, 48, 3), dtype=torch.uint8)
        pictures.write(tmp_path / name, pictures.Picture("PNG", [page], {}))
        os.utime(tmp_path / name, (10**9 + number, 10**9 + number))
    before = {path: (path.read_bytes(), path.stat().st_mtime) for path in tmp_path.iterdir()}
    (source,) = (text for text in sources() if "PICTURE = None  # the name of your own file" in text)
    names = {"data": data, "noise": noise, "pictures": pictures, "plt": plt, "torch": torch, "Model": Model}
    names["suited"] = suited
    exec(source.replace("PICTURE = None", f"PICTURE = {own!r}"), names)
    assert {path: (path.read_bytes(), path.stat().st_mtime) for path in tmp_path.iterdir()} == before
    assert names["page"].shape == ((40, 48, 3) if own else (192, 256, 3))
    assert " weights\n" in capsys.readouterr().out
    plt.close("all")


def sources():
    """The text of each cell."""
    return ["".join(cell["source"]) for cell in json.loads((FOLDER / "noise2noise.ipynb").read_text())["cells"]]


def test_it_writes_no_file_and_ends_with_the_readers_noise():
    text = "\n".join(sources())
    assert not [
        word
        for word in ("open(", ".write", "savefig", "torch.save(", "networks.save(", "mkdir", "unlink")
        if word in text
    ]
    assert "def my_noise(" in sources()[-1]


@pytest.mark.parametrize("colab", [False, True])
def test_the_first_cell_installs_from_the_public_address_in_colab_alone(monkeypatch, colab):
    """The address is that of pyproject.toml, where it is known."""
    project = (FOLDER.parent / "pyproject.toml").read_text()
    known = re.search(r'^Source = "(.+)"$', project, re.MULTILINE)
    code = next(text for text in sources() if not text.startswith("#"))
    address = known[1] if known else ""
    assert f'URL = "{address}"' in code
    ran = []
    code = code.replace('%pip install --quiet "noise2noise-scratch[images,plots] @ git+{URL}"', "ran.append(URL)")
    assert "%" not in code
    if colab:
        monkeypatch.setitem(sys.modules, "google.colab", sys)
        code = code.replace('URL = ""', 'URL = "https://example.org/project"')
    exec(code, {"ran": ran})
    assert ran == ([address or "https://example.org/project"] if colab else [])


def test_it_is_committed_small_and_with_its_outputs():
    path = FOLDER / "noise2noise.ipynb"
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert path.stat().st_size < 300 * 1024 and all(cell["execution_count"] for cell in cells)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 4
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert "/home/" not in path.read_text() and "/tmp/" not in path.read_text()
