"""One writer at a time: the lock of a checkpoint, between processes, threads and after deaths."""

import errno
import os
import signal
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import torch

from Miniproject_2.model import Model
from others import checkpoint, denoiser, files
from others.files import locked, replacing
from others.training import Recipe, fit

ROOT = Path(__file__).resolve().parents[1]

TRAINING = """
import sys, time
sys.path.insert(0, sys.argv[1])
import torch
from others import denoiser
from others.training import Recipe, fit
pairs = (torch.zeros(4, 3, 8, 8, dtype=torch.uint8),) * 2
def wait(done, total):
    print(done, flush=True)
    time.sleep(600)
list(fit(denoiser.Denoiser(channels=(8, 12)), pairs, 2, Recipe(batch_size=2), checkpoint=sys.argv[2], on_step=wait))
"""

COUNTING = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from others.files import locked
path = Path(sys.argv[2])
for _ in range(int(sys.argv[3])):
    with locked(path, patience=100):
        path.write_text(str(int(path.read_text()) + 1))
"""

SAVING = """
import sys
sys.path.insert(0, sys.argv[1])
from others import checkpoint, denoiser
network = denoiser.Denoiser(channels=(8, 12))
for number in range(5):
    checkpoint.save_denoiser(sys.argv[2], f"{sys.argv[3]}.{number}", {}, network, {})
"""


def start(script, *arguments):
    command = [sys.executable, "-c", script, str(ROOT), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "training.pth"


@pytest.fixture
def training(path):
    """Another process in the first step of a training with this checkpoint."""
    running = start(TRAINING, path)
    assert running.stdout.readline() == "1\n"
    yield running
    running.kill()
    running.communicate()


@pytest.fixture
def pairs():
    return (torch.zeros(4, 3, 8, 8, dtype=torch.uint8),) * 2


def train(path, pairs):
    return list(fit(denoiser.Denoiser(channels=(8, 12)), pairs, 2, Recipe(batch_size=2), checkpoint=path))


def test_a_second_training_is_refused_and_changes_nothing(small, path, pairs, training):
    before = path.read_bytes()
    for attempt in (lambda: train(path, pairs), lambda: Model().train(*pairs, 2, progress=False, checkpoint=path)):
        with pytest.raises(
            BlockingIOError, match=r"training\.pth: another training is writing this file; wait"
        ) as raised:
            attempt()
        assert "\n" not in str(raised.value)
    assert path.read_bytes() == before and training.poll() is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM] if hasattr(signal, "SIGKILL") else [])
def test_a_process_that_died_has_no_lock(path, pairs, training, number):
    others = {".training.pth.state.abcd_123.n2n-tmp", ".training.pth.original", ".training.pth.20260101"}
    if number == signal.SIGKILL:
        (path.parent / ".training.pth.abcd_123.n2n-tmp").write_text("half a file")
        for name in others:
            (path.parent / name).write_text("of another file")
    training.send_signal(number)
    training.kill()
    training.wait()
    assert len(train(path, pairs)) == 2
    left = others if number == signal.SIGKILL else set()
    assert {entry.name for entry in path.parent.iterdir()} == {"training.pth"} | left


def test_threads_exclude_each_other(path, pairs):
    first = fit(denoiser.Denoiser(channels=(8, 12)), pairs, 2, Recipe(batch_size=2), checkpoint=path)
    next(first)
    refused = []

    def other():
        with pytest.raises(BlockingIOError):
            train(path, pairs)
        refused.append(True)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert refused and len(list(first)) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["training.pth"]


def test_an_interrupted_training_holds_no_lock_while_its_traceback_is_kept(small, path, pairs):
    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        Model().train(*pairs, 2, progress=interrupt, checkpoint=path)
    assert len(Model().train(*pairs, 2, progress=False, checkpoint=path)) == 1 and raised.value is not None


def test_trainings_of_other_files_do_not_wait(path, pairs, training):
    assert len(train(path.with_name("other.pth"), pairs)) == 2


def test_never_two_at_once(tmp_path):
    """Processes that lock, count and unlock as fast as they can: no count is lost, though each removes the lock."""
    path = tmp_path / "count"
    path.write_text("0")
    running = [start(COUNTING, path, 200) for _ in range(4)]
    assert [process.wait(100) for process in running] == [0] * 4
    assert path.read_text() == "800" and [entry.name for entry in tmp_path.iterdir()] == ["count"]


def test_weights_put_into_one_file_at_the_same_time_are_all_there(path):
    running = [start(SAVING, path, number) for number in range(3)]
    assert [process.wait(100) for process in running] == [0] * 3
    assert checkpoint.load(path)["denoisers"].keys() == {f"{a}.{b}" for a in range(3) for b in range(5)}


def test_what_a_killed_writer_leaves_is_removed_by_the_next(path):
    """Whatever name `replacing` gave it."""
    with replacing(path) as file:
        left = Path(file.name)
        held = left.read_bytes()
    left.write_bytes(held)
    with locked(path):
        assert not left.exists() and path.exists()


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path):
    """Also for the lock: two names of one file are one file."""
    (tmp_path / "disk").mkdir()
    file, link = tmp_path / "disk" / "file", tmp_path / "link"
    file.write_text("old")
    link.symlink_to(file)
    with replacing(link, force=True) as new:
        new.write(b"new")
    assert link.is_symlink() and file.read_text() == "new"
    with locked(link), pytest.raises(BlockingIOError, match="link"), locked(file):
        raise AssertionError("two have the lock")
    assert sorted(os.listdir(tmp_path)) == ["disk", "link"] and os.listdir(tmp_path / "disk") == ["file"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_never_replaced(tmp_path, make):
    make(tmp_path / "x")
    kind = os.stat(tmp_path / "x").st_mode
    for force in (False, True):
        with pytest.raises(OSError, match="x: expected a file or nothing there, got"), replacing(tmp_path / "x", force):
            raise AssertionError("opened")
    assert os.stat(tmp_path / "x").st_mode == kind


def test_patience_ends(path):
    with locked(path), pytest.raises(BlockingIOError, match="another training is writing"), locked(path, 0.1):
        raise AssertionError("two have the lock")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_systems_without_locks_and_missing_folders(path, pairs, monkeypatch, number):
    """What cannot be locked is written without; what cannot be written says so itself."""
    with locked(path / "nowhere" / "w.pth"), locked(None):
        pass

    def no_locks(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "lock", no_locks)
    assert len(train(path, pairs)) == 2


@pytest.mark.parametrize("taken", [False, True])
def test_the_lock_of_windows(path, monkeypatch, taken):
    """Its module, as its documentation has it: PermissionError for a byte that somebody else has."""
    asked = []

    def locking(handle, mode, count):
        asked.append((mode, count))
        if taken:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files, "fcntl", None)
    monkeypatch.setattr(files, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2), raising=False)
    if taken:
        with pytest.raises(BlockingIOError), locked(path):
            pass
    else:
        with locked(path):
            assert path.with_name("training.pth.lock").exists()
        assert not path.with_name("training.pth.lock").exists()
    assert asked == [(2, 1)]
