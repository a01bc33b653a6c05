"""The examples of the README are run."""

import doctest
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[1] / "README.md"


def test_examples():
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted > 15
    assert not result.failed


@pytest.mark.parametrize("target", ["demo", "test"])
def test_commands_exist(target):
    assert f"make {target} " in README.read_text()
    assert f"\n{target}: " in (README.parent / "Makefile").read_text()
