"""What is installed and handed in: a wheel that works alone, the course's zip."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import others
from others import extras

ROOT = Path(__file__).resolve().parents[1]
SUBMISSION = ROOT / "examples" / "make_submission.py"


def run(*command, cwd, patience=300, **environment):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | environment
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=patience)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The unpacked wheel, built from the source archive, which is built from a copy of what git tracks."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git repository to copy")
    for file in listed.stdout.splitlines():
        if (ROOT / file).is_file() and not file.startswith(("experiments/", "docs/", "tests/")):
            (folder / "copy" / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / "copy" / file).write_bytes((ROOT / file).read_bytes())
    done = run("-m", "build", "--no-isolation", "-o", folder / "dist", ".", cwd=folder / "copy")
    assert done.returncode == 0, done.stderr
    (made,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_the_wheel_has_one_name(wheel):
    """Every module of others/, the weights, and nothing beside the package but what pip says about it."""
    (about,) = wheel.glob("*.dist-info")
    assert {path.name for path in wheel.iterdir()} == {"noise2noise", about.name}
    assert (about / "top_level.txt").read_text() == "noise2noise\n"
    assert "noise2noise = noise2noise.cli:main" in (about / "entry_points.txt").read_text()
    ours = {str(path.relative_to(ROOT / "others")) for path in (ROOT / "others").rglob("*.py")}
    held = {str(path.relative_to(wheel / "noise2noise")) for path in (wheel / "noise2noise").rglob("*.*")}
    assert held == ours | {"py.typed", "bestmodel.pth", "cli/serve/page.html", "diagnose/judge.pth"}
    shipped = (ROOT / "Miniproject_2" / "bestmodel.pth").read_bytes()
    assert (wheel / "noise2noise" / "bestmodel.pth").read_bytes() == shipped
    about = (about / "METADATA").read_text()
    assert f"\nVersion: {others.__version__}\n" in about
    assert all(f"\n{field}: " in about for field in ("Classifier", "Keywords", "Project-URL", "License-Expression"))


def test_the_wheel_denoises_without_the_repository(wheel, tmp_path, save_png):
    """Run from another directory, where no other copy is found first."""
    elsewhere = tmp_path / "elsewhere"
    save_png(elsewhere / "x.png")
    site = {"PYTHONPATH": str(wheel), "OMP_NUM_THREADS": "1"}
    names = (
        "import sys, noise2noise.cli.train; from noise2noise import Model, denoise, nn, __version__;"
        "print(noise2noise.__file__, nn.Conv2d(1, 2, 3), 'others' in sys.modules, 'Miniproject_2' in sys.modules)"
    )
    done = run("-c", names, cwd=elsewhere, **site)
    assert done.stdout == f"{wheel / 'noise2noise' / '__init__.py'} Conv2d(1 -> 2, 3x3) False False\n", done.stderr
    done = run("-m", "noise2noise", "denoise", "x.png", cwd=elsewhere, **site)
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


@pytest.fixture(scope="module")
def submission(tmp_path_factory):
    """The unpacked zip of two authors."""
    if subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("no git repository to list")
    folder = tmp_path_factory.mktemp("submission")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SUBMISSION.parent))
        import make_submission

        files = make_submission.write(folder / "x.zip", "Proj_111111_222222", ["111111", "222222"])
    assert (folder / "x.zip").stat().st_size < 12 * 10**6
    with zipfile.ZipFile(folder / "x.zip") as archive:
        names = set(archive.namelist())
        archive.extractall(folder)
    needed = {f"Proj_111111_222222/{name}" for name in make_submission.NEEDED}
    assert needed <= names and len(names) == len(files)
    return folder / "Proj_111111_222222"


def test_the_zip_has_the_courses_structure(submission):
    done = run("-c", "from model import Model; Model().load_pretrained_model()",
               cwd=submission / "Miniproject_2", OMP_NUM_THREADS="1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert {path.name for path in submission.iterdir()} == {"Miniproject_2", "others", "test.py", "README.md"}


def test_the_zips_own_test_passes(submission):
    done = run("test.py", cwd=submission, patience=1200)  # two minutes, on a core of its own
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_zips_readme_is_short_and_names_what_is_there(submission):
    text = (submission / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40 and "111111, 222222\n" in text and "$" not in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 8 and [link for link in links if not (submission / link).exists()] == []
    commands = re.findall(r"(?m)^    (\S+ \S+.*?)(?: {2,}#|$)", text)
    files = [re.fullmatch(r"python (?:-m )?(\S+)( .*)?", command)[1] for command in commands]
    assert set(files) == {"test.py", "others"} and "make" not in text.split()
    done = run("-m", "others", "--help", cwd=submission)
    assert done.returncode == 0, done.stderr
    assert f"the command line: {', '.join(re.findall(r'(?m)^    ([a-z]+) ', done.stdout))}\n" in text


def test_what_the_zip_says_to_install_can_be_installed_there(submission):
    """It has no pyproject.toml, so no `.[extra]`."""
    done = run("-c", "from others.extras import *; print(*map(install, PACKAGES), sep='\\n')", cwd=submission)
    assert done.stdout.splitlines() == [f"pip install {packages}" for packages in extras.PACKAGES.values()], done.stderr
    assert [file.name for file in submission.rglob("*.py") if 'pip install ".[' in file.read_text()] == ["extras.py"]


def test_the_packages_of_an_extra_are_those_of_the_project():
    project = (ROOT / "pyproject.toml").read_text()
    listed = {extra: re.search(rf"(?m)^{extra} = \[(.*)\]$", project)[1] for extra in extras.PACKAGES}
    named = {extra: " ".join(re.findall(r'"([\w-]+)>=', each)) for extra, each in listed.items()}
    assert named == extras.PACKAGES
    assert extras.install("plots") == 'pip install ".[plots]" in the folder of the project'


def test_report_and_help_name_no_file_that_the_zip_lacks(submission):
    texts = [ROOT / "experiments" / "report" / "report.typ", *(submission / "others" / "cli").rglob("*.py")]
    named = re.findall(r"\b(?:\w+/)+\w+\.(?:md|py|pdf)\b", "".join(path.read_text() for path in texts))
    assert [file for file in named if not (submission / file).exists()] == []


def test_the_zip_takes_the_report_that_it_is_given(tmp_path, monkeypatch):
    """So `make submission` writes the authors' numbers into no file of the project, also when it is killed."""
    monkeypatch.syspath_prepend(str(SUBMISSION.parent))
    import make_submission

    (tmp_path / "own.pdf").write_bytes(b"own")
    make_submission.write(tmp_path / "x.zip", "x", ["111111"], tmp_path / "own.pdf")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.read("x/Miniproject_2/Report_2.pdf") == b"own"
    recipe = re.search(r"(?m)^submission:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text())[1]
    assert "Miniproject_2" not in recipe and "--report out/Report_2.pdf" in recipe


def test_a_submission_that_fails_is_not_written(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SUBMISSION.parent))
    import make_submission

    monkeypatch.setattr(make_submission, "passes", lambda folder: False)
    assert make_submission.main(["999999"]) == 1 and "not ready" in capsys.readouterr().out
    assert not (ROOT / "Proj_999999.zip").exists()


def test_the_workflows_run_targets_that_exist_on_the_pythons_that_are_named():
    workflows = [path.read_text() for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
    targets = set(re.findall(r"run: make (\w+)", "".join(workflows)))
    assert len(workflows) == 2 and "test" in targets
    assert targets <= set(re.findall(r"(?m)^(\w+):", (ROOT / "Makefile").read_text()))
    project = (ROOT / "pyproject.toml").read_text()
    named = set(re.findall(r'"Programming Language :: Python :: (3\.\d+)"', project))
    oldest = re.search(r'requires-python = ">=(.+)"', project)[1]
    assert oldest in named == set(re.findall(r'"(3\.\d+)"', "".join(workflows)))
