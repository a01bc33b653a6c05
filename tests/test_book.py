"""The book in docs/: examples print what they say, links lead somewhere, names exist, pictures are drawn, and whoever
follows the chapter on new layers gets one that passes all tests."""

import doctest
import importlib
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
CHAPTERS = [page for page in PAGES if page.name[0].isdigit()]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def listings(page, language):
    """(line, text) of the page's fenced blocks in a language."""
    text = page.read_text(encoding="utf-8")
    return [(text[: block.start(2)].count("\n"), block[2]) for block in FENCE.finditer(text) if block[1] == language]


def file_of(listing):
    """The file that a listing's first line names, or None."""
    name = re.match(r"# (\w+/[\w/]+\.py)\n", listing)
    return name and name[1]


def run(page):
    """Run the Python of a page from top to bottom -> (examples tried, examples failed). Listings without >>> are
    executed as if they stood in others/nn, except the files of tests."""
    names, runner = {"__name__": "book", "__package__": "others.nn"}, doctest.DocTestRunner()
    for line, listing in listings(page, "python"):
        if ">>>" in listing:
            test = doctest.DocTestParser().get_doctest(listing, names, page.name, str(page), line)
            runner.run(test, clear_globs=False)
            names = test.globs
        elif not (file_of(listing) or "").startswith("tests/"):
            exec(compile("\n" * line + listing, page, "exec"), names)
    return runner.tries, runner.failures


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples(page):
    tries, failures = run(page)
    assert not failures
    assert tries >= 10 or page not in CHAPTERS


def test_a_wrong_example_is_seen(tmp_path, capsys):
    """The runner itself: names last from block to block, files of tests are left alone."""
    page = tmp_path / "page.md"
    parts = ["x = 1", ">>> x\n1\n>>> x + 1\n3", "# tests/a.py\n1 / 0"]
    page.write_text("".join(f"```python\n{part}\n```\n" for part in parts))
    assert run(page) == (2, 1)
    assert "line 7" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------- links and names

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
QUOTED_FILE = re.compile(r"`([\w.-]+(?:/[\w.-]+)+\.(?:py|md|ipynb|pth|png|pdf|txt|toml))`")
QUOTED_NAME = re.compile(r"`(?:nn\.)?([a-z]\w*)\.(\w+)(?:\(\w*\))?`")


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.name)
def test_links_and_files_exist(page):
    text = page.read_text(encoding="utf-8")
    links = [page.parent / link for link in LINK.findall(text) if not link.startswith(("http:", "https:"))]
    files = [ROOT / name for name in QUOTED_FILE.findall(FENCE.sub("", text))]
    invented = {file for _, listing in listings(page, "python") if (file := file_of(listing))}
    assert [path for path in links + files if not path.exists() and str(path.relative_to(ROOT)) not in invented] == []


def test_the_index_lists_every_page_in_order():
    listed = [link for link in LINK.findall((DOCS / "README.md").read_text(encoding="utf-8")) if link.endswith(".md")]
    assert [link for link in listed if link[0].isdigit()] == [page.name for page in CHAPTERS]
    assert {page.name for page in PAGES} - {"README.md"} <= set(listed)
    assert len(CHAPTERS) == 10


def test_chapters_end_with_links_to_their_neighbours():
    titles = [page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for page in CHAPTERS]
    links = [f"[{title}]({page.name})" for title, page in zip(titles, CHAPTERS)]
    for number, page in enumerate(CHAPTERS):
        before = [f"Previous: {links[number - 1]}"] if number else []
        after = [f"Next: {links[number + 1]}"] if number + 1 < len(links) else []
        end = " |\n".join([*before, "[Contents](README.md)", *after])
        assert page.read_text(encoding="utf-8").endswith(f"\n\n---\n\n{end}\n"), page.name


def test_the_index_has_the_chapters_titles():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in CHAPTERS:
        number, title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ").split(". ", 1)
        assert f"\n{number}. [{title}]({page.name}): " in index


def test_names_exist():
    """What a chapter calls `kernels.scatter` is the scatter of a file kernels.py in others or others/nn."""
    names = {name for page in CHAPTERS for name in QUOTED_NAME.findall(FENCE.sub("", page.read_text(encoding="utf-8")))}
    modules = {
        path.stem: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in ROOT.glob("others/**/*.py")
    }
    known = [(modules[module], name) for module, name in names if module in modules]
    assert len(known) > 15
    assert [name for module, name in known if not hasattr(importlib.import_module(module), name)] == []


# ---------------------------------------------------------------------------------------------------------- pictures


def test_pictures_are_drawn(tmp_path):
    """The script writes exactly the pictures that the chapters show."""
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, DOCS / "pictures.py", tmp_path], env=environment, check=True, timeout=300)
    pages = [*CHAPTERS, DOCS / "better.md", ROOT / "README.md"]
    shown = {Path(link).name for page in pages for link in LINK.findall(page.read_text(encoding="utf-8"))}
    assert {file.name for file in tmp_path.iterdir()} == {name for name in shown if name.endswith(".png")}
    assert all(file.stat().st_size > 5000 for file in tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------------------- new layer


def change(diff, root):
    """Apply a listing in the form of a diff; the old lines of each place must stand in its file exactly once."""
    for part in diff.split("+++ ")[1:]:
        file, places = part.split("\n", 1)
        for place in places.split("@@\n"):
            lines, text = place.splitlines(), (root / file).read_text(encoding="utf-8")
            old, new = ("".join(f"{line[1:]}\n" for line in lines if line[0] in kept) for kept in (" -", " +"))
            assert text.count(old) == 1, f"{file} has {text.count(old)} places like {old!r}"
            (root / file).write_text(text.replace(old, new), encoding="utf-8")


def test_the_new_layer_passes_the_linter_and_the_tests_of_blocks(tmp_path):
    """The chapter on new layers, followed to the letter in a copy of the project."""
    page = DOCS / "8-new-layer.md"
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("others", "tests", "Miniproject_2"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    files = {file: listing for _, listing in listings(page, "python") if (file := file_of(listing))}
    for file, listing in files.items():
        (tmp_path / file).write_text(listing, encoding="utf-8")
    for _, listing in listings(page, "diff"):
        change(listing, tmp_path)
    layer, new = sorted(files)
    assert layer.startswith("others/nn/") and new.startswith("tests/nn/")
    if find_spec("ruff"):
        for check in (["check"], ["format", "--check"]):
            subprocess.run([sys.executable, "-m", "ruff", *check, "others", new], cwd=tmp_path, check=True)
    everywhere = ["tests/nn/test_gradcheck.py", "tests/test_rules.py", "tests/nn/test_summary.py"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", new, *everywhere]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
