"""A little of what `make fuzz` does for long: changed files, and findings of the past."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))
import readers

from others import pictures


@pytest.fixture(autouse=True, scope="module")
def limits():
    image = pytest.importorskip("PIL.Image")
    before = pictures.picture.LARGEST, image.MAX_IMAGE_PIXELS
    readers.lower_limits()
    yield
    pictures.picture.LARGEST, image.MAX_IMAGE_PIXELS = before


def test_changed_files_are_refused_or_read(count):
    tries = count("changed files read by the checkpoint, pairs and picture readers", 300, 10_000)
    done, read = readers.mutate(tries=tries, seed=1)
    assert done == tries and 0 < read < tries


@pytest.mark.parametrize("content", readers.FINDINGS)
def test_findings_stay_fixed(content):
    readers.one(content)


def test_the_hook_finds_what_a_file_may_not_do(tmp_path, monkeypatch):
    for harm in (lambda: (tmp_path / "made").write_text(""), lambda: (tmp_path / "made").mkdir()):
        monkeypatch.setattr(readers, "TARGETS", [(harm, bytes)])
        with pytest.raises(SystemError, match="reading a file caused"):
            readers.one(b"\0")
    assert not (tmp_path / "made").exists()


def test_seeds_are_right_files():
    assert sum(readers.one(seed) for seed in readers.seeds()) >= 4
