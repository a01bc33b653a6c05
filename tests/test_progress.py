"""Long predictions say how far they are; short ones say nothing."""

import io
import re
import sys

import pytest
import torch

from Miniproject_2.model import Model
from others import progress


@pytest.fixture
def clock(monkeypatch):
    """clock.now: the time in seconds; each call of predict's callback takes one."""

    class Clock:
        now = 0.0

    monkeypatch.setattr(progress.time, "monotonic", lambda: Clock.now)
    return Clock


def test_without_tqdm_a_line_whenever_twice_the_time_has_passed(monkeypatch, clock, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with progress.tiles("x.png") as advance:
        for done in range(1, 41):
            clock.now += 1
            advance(done, 40)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "x.png: 2 of 40 tiles, 38 s left"
    assert [int(re.search(r"(\d+) of", line)[1]) for line in lines] == [2, 4, 8, 16, 32]


def test_with_tqdm_the_bar_counts_tiles(monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(progress, "PATIENCE", 0)
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr("sys.stderr", terminal)
    with progress.tiles("x.png") as advance:
        advance(1, 3)
        advance(3, 3)
    assert "x.png" in terminal.getvalue() and "\r" in terminal.getvalue()


def test_a_stream_that_only_writes_is_enough(monkeypatch):
    class Log:
        write = flush = lambda *_: None

    for stream in (Log(), None):
        monkeypatch.setattr("sys.stderr", stream)
        with progress.progress() as (advance, _):
            assert advance is None


def test_a_log_gets_lines_instead_of_a_bar(monkeypatch, clock, capsys):
    for now in (1, 3, 5):
        with progress.tiles("x.png") as advance:
            clock.now += now
            advance(1, 3)
    with progress.progress() as (advance, write):
        write("a line")
    assert advance is None and capsys.readouterr() == (
        "a line\n", "x.png: 1 of 3 tiles, 6 s left\nx.png: 1 of 3 tiles, 10 s left\n")  # fmt: skip


@pytest.mark.parametrize("with_tqdm", [False, True])
def test_predict_shows_it_unless_told_otherwise(monkeypatch, small, capsys, with_tqdm):
    if not with_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    model, image = Model(device="cpu"), torch.zeros(1, 3, 700, 700)
    seen = []
    for on_tile in (None, False, lambda *counts: seen.append(counts)):
        model.predict(image, on_tile=on_tile)
    assert capsys.readouterr().err == ""  # all of them took less than 2 seconds
    assert seen[-1][0] == seen[-1][1] > 1
    monkeypatch.setattr(progress, "PATIENCE", 0)
    model.predict(image, on_tile=False)
    assert capsys.readouterr().err == ""
    model.predict(image)
    assert "denoising" in capsys.readouterr().err
