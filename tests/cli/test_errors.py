"""Every command on every kind of bad file, on disks that take nothing, and interrupted: one line that names the file,
status 1, no traceback, and nothing half written. What a process of its own cannot show better happens in this one."""

import contextlib
import ctypes
import os
import resource
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
import torch

from others import data
from others.pictures.png import SIGNATURE, chunk

pytest.importorskip("PIL")
pytest.importorskip("tifffile")
pytest.importorskip("onnx")

COMMANDS = {
    "denoise": ["denoise", "{picture}", "-o", "out/x.png"],
    "train": ["train", "--pairs", "{folder}", "a", "-o", "out/x.pth", "--weights", "small.pth", "--epochs", "1",
              "--count", "4", "--patch", "16"],
    "train on one pair": ["train", "--pairs", "{picture}", "a/x.png", "-o", "out/x.pth", "--weights", "small.pth",
                          "--epochs", "1", "--count", "4", "--patch", "16"],
    "evaluate": ["evaluate", "{picture}", "a/x.png", "--csv", "out/x.csv", "--weights", "small.pth", "--plain"],
    "evaluate a .pkl": ["evaluate", "{pkl}", "--csv", "out/x.csv", "--weights", "small.pth", "--plain"],
    "simulate": ["simulate", "{folder}", "out/data", "--pairs", "4", "--images", "4", "--cell", "1"],
    "info": ["info", "--weights", "{weights}"],
    "export": ["export", "--weights", "{weights}", "--onnx", "out/x.onnx"],
}  # fmt: skip
SHIPPED = Path(__file__).resolve().parents[2] / "Miniproject_2" / "bestmodel.pth"
WRITING = [name for name in COMMANDS if name not in ("info", "evaluate a .pkl", "train on one pair")]


@contextlib.contextmanager
def obeyed_permissions():
    """This thread is without the superuser's right to ignore them. (capset(2), capabilities(7))"""
    libc, header, held = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    fewer = type(held)(held[0] & ~0b110, *held[1:])  # effective: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert libc.capset(header, fewer) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0


@contextlib.contextmanager
def small_files():
    """No file grows beyond 500 bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def files(tmp_path, picture, save, weights):
    """Good files of every kind -> {kind: its path below tmp_path}."""
    for folder, seed in (("a", 0), ("b", 1)):
        for name in ("x.png", "y.png"):
            save(tmp_path / folder / name, picture(48, 48, seed=seed))
    torch.save(data.generated_validation(2), tmp_path / "val.pkl")
    (tmp_path / "out").mkdir()
    return {"picture": "b/x.png", "folder": "b", "pkl": "val.pkl", "weights": "small.pth"}


IMPATIENT = """
import sys
from others import cli, progress
progress.PATIENCE = 0
sys.exit(cli.main())
"""


@pytest.fixture
def command(tmp_path, environment, files):
    """command(name, *more): the running process, which shows at once how far it is."""

    def start(name, *more):
        arguments = [argument.format(**files) for argument in COMMANDS[name]]
        return subprocess.Popen(
            [sys.executable, "-u", "-c", IMPATIENT, *arguments, *map(str, more)], cwd=tmp_path, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


@pytest.fixture
def perform(here, files):
    """perform(name, *more): status, stdout and stderr of the command in this process."""
    return lambda name, *more: here(*(argument.format(**files) for argument in COMMANDS[name]), *more)


def victim(name, folder):
    """The file that a command reads."""
    kinds = {"info": "small.pth", "export": "small.pth", "evaluate a .pkl": "val.pkl"}
    return folder / kinds.get(name, "b/x.png")


def spoil(path, how):
    if how == "missing":
        path.unlink()
    elif how == "unreadable":
        path.chmod(0)
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "wrong type":
        path.write_text("a letter to a friend\n" * 20)
    elif path.suffix == ".png":  # huge: 2.5 billion pixels in a few bytes
        parts = (b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0"))
        path.write_bytes(SIGNATURE + b"".join(chunk(*part) for part in parts))
    else:  # 100 GiB that take no space
        os.truncate(path, 100 * 2**30)


def ended(process):
    """Status, stdout and stderr."""
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def failed(done, names):
    """One line that says what; -> it"""
    status, stdout, stderr = done
    lines = [line for line in stderr.splitlines() if line.startswith("noise2noise ")]
    assert status == 1 and len(lines) == 1 and "Traceback" not in stdout + stderr, stderr
    assert any(name in lines[0] for name in names), lines[0]
    return lines[0]


def left_out(done, said, folder):
    """One line that says what, and a training on the others."""
    status, stdout, stderr = done
    lines = [line for line in stderr.splitlines() if line.startswith(("note: ", "noise2noise "))]
    assert status == 0 and len(lines) == 1 and "Traceback" not in stdout + stderr, stderr
    assert lines[0].startswith(f"note: {said}") and "of 1 scene" in stdout
    assert (folder / "out" / "x.pth").is_file()


@pytest.mark.parametrize("how", ["missing", "unreadable", "truncated", "empty", "wrong type", "huge"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_bad_file(tmp_path, command, perform, name, how):
    """One kind as a user has it, in a process."""
    path = victim(name, tmp_path)
    spoil(path, how)
    if how == "missing" and name == "simulate":
        pytest.skip("it takes the photographs that are there")
    with obeyed_permissions():
        done = ended(command(name)) if how == "truncated" else perform(name)
    if name == "train":
        problem = {"unreadable": "pair x left out: b/x.png: Permission denied",
                   "missing": "left out of a, without a partner of the same name: 1 (x)"}  # fmt: skip
        return left_out(done, problem.get(how, "pair x left out: b/x.png: "), tmp_path)
    said = failed(done, [path.name])
    assert how != "unreadable" or "Permission denied" in said
    assert not any((tmp_path / "out").rglob("*.*"))


@pytest.mark.parametrize("name", WRITING)
def test_a_folder_that_takes_no_files(tmp_path, perform, name):
    (tmp_path / "out").chmod(0o500)
    with obeyed_permissions():
        assert "Permission denied" in failed(perform(name), ["out"])
    (tmp_path / "out").chmod(0o700)
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("name", WRITING)
def test_a_disk_that_is_full_after_500_bytes(tmp_path, perform, picture, save, name):
    """A limit of the system on what the process may write; of the temporary files nothing is left."""
    save(tmp_path / "b" / "x.png", picture(48, 48, seed=1))
    more = ["--json", "out/x.json", "--force"] if name == "evaluate" else ()
    if name == "evaluate":  # a table of more than 500 bytes
        pages = [picture(8, 8, seed=seed) for seed in range(30)]
        for folder in "ab":
            for number, page in enumerate(pages):
                save(tmp_path / folder / f"{number}.png", page)
        COMMANDS["many"] = ["evaluate", "a", "b", *COMMANDS["evaluate"][3:]]
    with small_files():
        done = perform("many" if name == "evaluate" else name, *more)
    assert "too large" in failed(done, ["out", "File too large"])
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name, number", [
    ("denoise", signal.SIGINT), ("denoise", signal.SIGTERM), ("denoise", signal.SIGHUP), ("train", signal.SIGINT),
    ("train", signal.SIGTERM), ("evaluate", signal.SIGTERM), ("simulate", signal.SIGHUP), ("export", signal.SIGTERM),
])  # fmt: skip
def test_interrupted(tmp_path, command, picture, save, name, number):
    """A signal while it works: status 130, 143, 129, a line, whole files alone (train keeps what was learnt)."""
    times = 15 if name in ("denoise", "evaluate") else 1
    for folder, seed in (("a", 0), ("b", 1)):
        save(tmp_path / folder / "x.png", picture(60, 60, seed=seed).repeat(times, times, 1))
    more = {"train": ["--epochs", 10_000], "simulate": ["--pairs", 300_000], "denoise": ["--denoiser", "rednet"],
            "evaluate": ["--weights", SHIPPED, "--denoiser", "rednet"]}  # fmt: skip
    process = command(name, *more.get(name, ()))
    begun = {
        "denoise": "x.png",
        "evaluate": "denoising",
        "train": "epoch 2/",
        "simulate": "Drawing",
        "export": "Running",
    }
    output, seen = process.stderr if name in ("denoise", "evaluate") else process.stdout, ""
    while begun[name] not in seen:
        letter = output.read(1)
        assert letter, seen
        seen += letter
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr and "nterrupted" in stdout + stderr
    assert process.returncode == 128 + number
    assert sorted(os.listdir(tmp_path / "out")) == (["x.pth"] if name == "train" else [])


def test_interrupted_before_it_began(command):
    """While torch is imported: as afterwards, no traceback."""
    process = command("info", "--layers")
    while process.poll() is None and "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        pass
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "noise2noise: interrupted; every file that was written is whole\n"


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path, command, picture, save):
    """And nothing else."""
    save(tmp_path / "b" / "x.png", picture(60, 60, seed=1).repeat(30, 30, 1))
    foreign = [tmp_path / "out" / name for name in (".x.png.swp", ".y.png.abcd1234.n2n-tmp", "x.png.lock")]
    for file in foreign:
        file.write_text("of another")
    left = []
    while not left or not left[0].exists():  # it may end its work before it dies
        (tmp_path / "out" / "x.png").unlink(missing_ok=True)
        process = command("denoise")
        while not (left := list((tmp_path / "out").glob(".x.png.*.n2n-tmp"))):
            assert process.poll() is None
        process.kill()
        process.communicate()
    save(tmp_path / "b" / "x.png", picture(48, 48, seed=1))
    done = command("denoise")
    assert done.wait(60) == 0
    done.communicate()
    assert sorted((tmp_path / "out").iterdir()) == sorted([tmp_path / "out" / "x.png", *foreign])


@pytest.mark.parametrize("name", WRITING)
def test_a_disk_that_really_is_full(small_disk, perform, files, name):
    """Not a byte is left of its megabyte; what was there stays, and nothing is added."""
    out = small_disk.parent / "out"
    out.rmdir()
    out.symlink_to(small_disk)
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", 0) as ballast:
        while True:
            ballast.write(bytes(4096))
    said = failed(perform(name), ["out", "disk"])
    assert "No space left on device" in said
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["ballast"]
