"""One writer at a time, between processes, threads and after deaths; rights, full disks and signals while writing."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from Miniproject_2.model import Model
from others import denoiser
from others.storage import checkpoint, networks
from others.storage.files import locked, remove_left, replacing
from others.training import Recipe, fit

ROOT = Path(__file__).resolve().parents[2]

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
from others.storage.files import locked
path = Path(sys.argv[2])
for _ in range(int(sys.argv[3])):
    with locked(path, patience=100):
        path.write_text(str(int(path.read_text()) + 1))
"""

SAVING = """
import sys
sys.path.insert(0, sys.argv[1])
from others import denoiser
from others.storage import checkpoint, networks
network = denoiser.Denoiser(channels=(8, 12))
for number in range(5):
    networks.save(sys.argv[2], f"{sys.argv[3]}.{number}", network, {})
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


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_systems_without_locks_and_missing_folders(path, pairs, monkeypatch, number):
    """What cannot be locked is written without; what cannot be written says so itself."""
    with locked(path / "nowhere" / "w.pth"), locked(None):
        pass

    def no_locks(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    left = path.parent / ".training.pth.abcd_123.n2n-tmp"
    left.touch()  # nobody can tell whether it is still written
    assert len(train(path, pairs)) == 2
    assert left.exists()


def test_a_lock_that_cannot_be_removed_while_it_is_held(path, monkeypatch):
    """As on Windows, where filelock removes it."""

    def in_use(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch, locked(path):
        patch.setattr(os, "unlink", in_use)
    with locked(path):
        pass
    assert os.listdir(path.parent) == []


def test_the_lock_of_another_program_is_left_alone(path, pairs):
    """poetry.lock beside a training of `poetry`."""
    foreign = [path.with_name(name) for name in ("training.pth.lock", ".training.pth.lock", ".training.pth.tmp")]
    for file in foreign:
        file.write_text("of another program")
    train(path, pairs)
    assert all(file.read_text() == "of another program" for file in foreign)
    assert sorted(os.listdir(path.parent)) == sorted([path.name, *(file.name for file in foreign)])


# ------------------------------------------------------------------------------------------------ rights and races


@pytest.fixture
def umask():
    """umask(mode) until the test ends."""
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)


def mode(path):
    return os.stat(path).st_mode & 0o777


@pytest.mark.parametrize("mask, expected", [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644), (0o002, 0o664)])
def test_a_new_file_has_the_rights_of_the_umask(tmp_path, umask, mask, expected):
    umask(mask)
    with replacing(tmp_path / "x") as file:
        assert mode(file.name) == expected  # nobody reads it meanwhile either
    assert mode(tmp_path / "x") == expected


@pytest.mark.parametrize("old", [0o600, 0o640, 0o444, 0o666, 0o755])
def test_a_replaced_file_keeps_its_rights(tmp_path, umask, old):
    umask(0o022)
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(old)
    with replacing(path, force=True) as file:
        assert mode(file.name) == old
        file.write(b"new")
    assert mode(path) == old and path.read_bytes() == b"new"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the superuser gives files away")
def test_a_replaced_file_keeps_its_owner(tmp_path):
    path = tmp_path / "x"
    path.touch()
    os.chown(path, 1234, 2345)
    with replacing(path, force=True):
        pass
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


@pytest.mark.parametrize("links", [True, False])
def test_what_comes_while_a_file_is_written_is_not_replaced(tmp_path, monkeypatch, links):
    """In the last moment, after any check; without hard links, until the last check."""

    def link(source, target):
        if not links:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        Path(target).write_text("of another")
        real_link(source, target)

    real_link, path = os.link, tmp_path / "x"
    monkeypatch.setattr(os, "link", link)
    with pytest.raises(FileExistsError, match="x exists; choose another name"), replacing(path):
        if not links:
            path.write_text("of another")
    assert path.read_text() == "of another" and os.listdir(tmp_path) == ["x"]


def test_without_hard_links_files_are_written(tmp_path, monkeypatch):
    def link(source, target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    with replacing(tmp_path / "x") as file:
        file.write(b"new")
    assert (tmp_path / "x").read_bytes() == b"new" and os.listdir(tmp_path) == ["x"]


# ----------------------------------------------------------------------------------------------------- half written

WRITING = """
import sys, time
sys.path.insert(0, sys.argv[1])
from others.storage.files import replacing
with replacing(sys.argv[2]) as file:
    file.write(b"half")
    print(file.name, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    path, others = tmp_path / "x.png", [tmp_path / name for name in (".x.png.tmp", ".y.png.abcd1234.n2n-tmp")]
    for other in others:
        other.touch()
    running = start(WRITING, path)
    try:
        half = Path(running.stdout.readline().rstrip())
        assert half.parent == tmp_path
        remove_left([path])
        assert half.exists()
    finally:
        running.kill()
        running.communicate()
    remove_left([tmp_path / "z.png", tmp_path / "missing" / "x.png"])
    assert half.exists()
    remove_left([path])
    assert not half.exists() and all(other.exists() for other in others)


SAVED_AGAIN = """
import os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
import torch
from others.storage import checkpoint, networks
path, tries = sys.argv[2], int(sys.argv[3])
torch.set_num_threads(1)
random.seed(0)
content = {"a": torch.arange(100_000.0), "b": [torch.ones(50)] * 100}
checkpoint.save(path, content)
ended = {}
for number in range(tries):
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            os.write(1, b".")
            while True:
                checkpoint.save(path, content)
        except BaseException as error:
            os._exit(77 if type(error) is KeyboardInterrupt else 1)
    time.sleep(random.uniform(0.02, 0.1))
    os.kill(child, signal.SIGTERM)
    status = os.WEXITSTATUS(os.waitpid(child, 0)[1])
    ended[status] = ended.get(status, 0) + 1
    assert checkpoint.load(path)["a"].sum() == content["a"].sum()
print(f" {ended} {sorted(os.listdir(os.path.dirname(path)))}")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_signal_during_a_save_is_that_signal_and_leaves_nothing(run_python, path, count):
    """torch.save makes a RuntimeError of any exception that the file raises."""
    tries = count("signals during saves, none turned into another error, no file left", 12, 300)
    said = run_python(SAVED_AGAIN, path.parent, ROOT, path, tries).split(" ", 1)[1]
    assert said == f"{{77: {tries}}} ['training.pth']\n"


def test_a_signal_waits_until_the_file_is_whole(path, monkeypatch):
    checkpoint.save(path, {"a": 1})
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (signal.raise_signal(signal.SIGINT), fsync(number)))
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, {"a": 2})
    assert checkpoint.load(path)["a"] == 2 and os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize("work", ["save", "load"])
def test_a_signal_waits_for_libraries_that_make_another_error_of_it(path, monkeypatch, work):
    """zipfile raises a ValueError in its place, or loses it in a destructor; torch.save raises a RuntimeError."""
    content, original, ended = {"a": torch.ones(3)}, getattr(torch, work), []

    def interrupted(*arguments, **options):
        try:
            signal.raise_signal(signal.SIGINT)
        except BaseException as error:
            raise RuntimeError("something else") from error
        ended.append(original(*arguments, **options))
        return ended[-1]

    checkpoint.save(path, content)
    monkeypatch.setattr(torch, work, interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(path, content) if work == "save" else checkpoint.load(path)
    assert len(ended) == 1 and signal.getsignal(signal.SIGINT) is before
    monkeypatch.undo()
    assert torch.equal(checkpoint.load(path)["a"], content["a"]) and os.listdir(path.parent) == [path.name]


# --------------------------------------------------------------------------------------------------------- full disk


def test_an_error_without_a_number_names_the_file_too(tmp_path):
    """As numpy's, which writes the pixels of a TIFF."""
    said = r"x: not written \(4320000 requested and 1048352 written\)$"
    with pytest.raises(OSError, match=said), replacing(tmp_path / "x"):
        raise OSError("4320000 requested and 1048352 written")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("write", [
    lambda path: checkpoint.save(path, {"a": torch.ones(2**20)}),
    lambda path: networks.save(path, "a", denoiser.Denoiser(channels=(200, 200)), {}, alone=True),
], ids=["save", "save_denoiser"])  # fmt: skip
@pytest.mark.parametrize("exists", [True, False])
def test_a_full_disk_keeps_what_was_there(small_disk, write, exists):
    """A file system of one megabyte; the error is the system's and names the file."""
    path = small_disk / "w.pth"
    if exists:
        path.write_bytes(b"old")
    with pytest.raises(OSError) as raised:
        write(path)
    assert raised.value.errno == errno.ENOSPC and raised.value.filename == str(path)
    assert [file.read_bytes() for file in small_disk.iterdir()] == [b"old"] * exists
