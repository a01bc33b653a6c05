"""What is installed and handed in: a wheel that works alone, the course's zip."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SUBMISSION = ROOT / "examples" / "make_submission.py"


def run(*command, cwd, **environment):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_the_wheel_denoises_without_the_repository(tmp_path, save_png):
    """Built from a copy, unpacked where no other copy is found first, run from another directory."""
    pytest.importorskip("build")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git repository to copy")
    for file in listed.stdout.splitlines():
        if (ROOT / file).is_file() and file.startswith(("others/", "Miniproject_2/", "pyproject", "README", "LICENSE")):
            (tmp_path / "copy" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "copy" / file).write_bytes((ROOT / file).read_bytes())
    done = run("-m", "build", "--wheel", "--no-isolation", "-o", tmp_path / "dist", ".", cwd=tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
        names = archive.namelist()
    assert {"Miniproject_2/bestmodel.pth", "others/cli/__init__.py", "others/__main__.py"} <= set(names)
    entry = next(name for name in names if name.endswith("entry_points.txt"))
    assert "noise2noise = others.cli:main" in (tmp_path / "site" / entry).read_text()
    elsewhere = tmp_path / "elsewhere"
    save_png(elsewhere / "x.png")
    where = "import others, Miniproject_2; print(others.__file__, Miniproject_2.__file__)"
    site = {"PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    assert run("-c", where, cwd=elsewhere, **site).stdout.count(str(tmp_path / "site")) == 2
    done = run("-m", "others", "denoise", "x.png", cwd=elsewhere, **site)
    assert done.returncode == 0, done.stderr
    assert (elsewhere / "x-denoised.png").is_file()


@pytest.fixture
def save_png():
    image = pytest.importorskip("PIL.Image")

    def save(path):
        path.parent.mkdir(parents=True)
        image.new("RGB", (20, 10), (10, 200, 30)).save(path)

    return save


@pytest.mark.parametrize("scipers", [[], ["12345"], ["1234567"], ["111111"] * 4, ["abcdef"]], ids=str)
def test_a_submission_needs_scipers(scipers):
    done = run(SUBMISSION, *scipers, cwd=ROOT)
    assert done.returncode == 2 and "six digits" in done.stdout


def test_the_zip_has_the_courses_structure(tmp_path, monkeypatch):
    """All but the run of test.py, which other tests and `make submission` do."""
    monkeypatch.syspath_prepend(str(SUBMISSION.parent))
    import make_submission

    if subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("no git repository to list")
    files = make_submission.write(tmp_path / "x.zip", "Proj_111111_222222")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path)
    assert {f"Proj_111111_222222/{name}" for name in make_submission.NEEDED} <= names and len(names) == len(files)
    done = run("-c", "from model import Model; Model().load_pretrained_model()",
               cwd=tmp_path / "Proj_111111_222222" / "Miniproject_2", OMP_NUM_THREADS="1")  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_submission_that_fails_is_not_written(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SUBMISSION.parent))
    import make_submission

    monkeypatch.setattr(make_submission, "passes", lambda folder: False)
    assert make_submission.main(["999999"]) == 1 and "not ready" in capsys.readouterr().out
    assert not (ROOT / "Proj_999999.zip").exists()
