"""The README is short, its examples run, and its figures are those that were measured."""

import doctest
import importlib.util
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from others.model import SHIPPED
from others.storage import networks

README = Path(__file__).resolve().parents[1] / "README.md"


def test_examples():
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted > 12
    assert not result.failed


@pytest.mark.parametrize("target", ["demo", "test"])
def test_commands_exist(target):
    assert f"make {target} " in README.read_text()
    assert f"\n{target}: " in (README.parent / "Makefile").read_text()


def test_it_can_be_taken_in_at_a_glance():
    """At most 120 lines, 1,200 words, and 40 numbers outside of listings and addresses."""
    text = README.read_text()
    assert len(text.splitlines()) <= 120 and len(text.split()) <= 1200
    prose = re.sub(r"(?s)```.*?```|`[^`]*`|\]\([^)]*\)", " ", text)
    assert len(re.findall(r"(?<![\w-])\d[\d.,]*", prose)) <= 40


@pytest.fixture
def facts():
    spec = importlib.util.spec_from_file_location("facts", README.parent / "docs" / "facts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_those_of_the_results(facts):
    for path in facts.DOCUMENTS:
        assert facts.written(path.read_text()) == path.read_text(), f"{path.name}: run make readme"


def test_a_figure_that_differs_is_written_anew(facts, tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results -->\n| old |\n<!-- end -->\nafter\n")
    monkeypatch.setattr(facts, "DOCUMENTS", [page])
    assert facts.main() == 1 and "page.md" in capsys.readouterr().out
    assert facts.psnr("rednet") in page.read_text() and page.read_text().endswith("<!-- end -->\nafter\n")
    assert facts.main() == 0


@pytest.mark.parametrize("name", ["prescribed", "rednet", "camera"])
def test_the_weights_hold_their_card(name):
    """But for its head and its figures, which stand in the page."""
    text = (README.parent / "docs" / "model-card.md").read_text()
    (before, rest), end = text.split("<!-- card -->"), "<!-- end -->"
    before, rest = before[before.index("# Model card") :].rstrip(), rest.split(end, 1)[1].lstrip()
    assert networks.load(SHIPPED, name)["info"]["card"] == f"{before}\n\n{rest}"


def test_the_shipped_file_is_what_packing_it_gives(tmp_path, monkeypatch):
    """With the text of the card and the figure of camera as the pages have them."""
    monkeypatch.setattr(sys, "argv", ["pack_weights.py", "--out", str(tmp_path / "packed.pth")])
    runpy.run_path(str(README.parent / "benchmarks" / "pack_weights.py"), run_name="__main__")
    packed, shipped = networks.held(tmp_path / "packed.pth"), networks.held(SHIPPED)
    assert packed.keys() == shipped.keys() == {"prescribed", "rednet", "camera"}
    for name, entry in shipped.items():
        assert packed[name]["info"] == entry["info"], "run python benchmarks/pack_weights.py"
        assert all(torch.equal(packed[name]["state"][key], value) for key, value in entry["state"].items())
