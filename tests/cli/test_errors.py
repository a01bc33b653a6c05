"""Every command, run as a user runs it, on every kind of bad file, on disks that take nothing, and interrupted: one
line that names the file, status 1, no traceback, and nothing half written."""

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
    "evaluate": ["evaluate", "{picture}", "a/x.png", "--csv", "out/x.csv", "--weights", "small.pth", "--plain"],
    "evaluate a .pkl": ["evaluate", "{pkl}", "--csv", "out/x.csv", "--weights", "small.pth", "--plain"],
    "simulate": ["simulate", "{folder}", "out/data", "--pairs", "4", "--images", "4", "--cell", "1"],
    "info": ["info", "--weights", "{weights}"],
    "export": ["export", "--weights", "{weights}", "--onnx", "out/x.onnx"],
}  # fmt: skip
SHIPPED = Path(__file__).resolve().parents[2] / "Miniproject_2" / "bestmodel.pth"
WRITING = [name for name in COMMANDS if name not in ("info", "evaluate a .pkl")]


def obey_permissions():
    """The superuser's right to ignore them does not go to what is executed from here. (prctl(2), capabilities(7))"""
    ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE
    ctypes.CDLL(None).prctl(24, 2, 0, 0, 0)  # CAP_DAC_READ_SEARCH


def small_disk():
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))


@pytest.fixture
def files(tmp_path, picture, save, weights):
    """Good files of every kind -> {kind: its path below tmp_path}."""
    for folder, seed in (("a", 0), ("b", 1)):
        for name in ("x.png", "y.png"):
            save(tmp_path / folder / name, picture(48, 48, seed=seed))
    torch.save(data.generated_validation(2), tmp_path / "val.pkl")
    (tmp_path / "out").mkdir()
    return {"picture": "b/x.png", "folder": "b", "pkl": "val.pkl", "weights": "small.pth"}


@pytest.fixture
def command(tmp_path, environment, files):
    """command(name, prepare, **options): the running process."""

    def start(name, prepare=None, **options):
        arguments = [argument.format(**files) for argument in COMMANDS[name]]
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "others", *arguments, *map(str, options.pop("more", ()))], cwd=tmp_path,
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=prepare, **options,
        )  # fmt: skip

    return start


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


def failed(process, names):
    """One line that says what; -> it"""
    stdout, stderr = process.communicate(timeout=120)
    lines = [line for line in stderr.splitlines() if line.startswith("noise2noise ")]
    assert process.returncode == 1 and len(lines) == 1 and "Traceback" not in stdout + stderr, stderr
    assert any(name in lines[0] for name in names), lines[0]
    return lines[0]


@pytest.mark.parametrize("how", ["missing", "unreadable", "truncated", "empty", "wrong type", "huge"])
@pytest.mark.parametrize("name", COMMANDS)
def test_a_bad_file(tmp_path, command, name, how):
    path = victim(name, tmp_path)
    spoil(path, how)
    if how == "missing" and name == "simulate":
        pytest.skip("it takes the photographs that are there")
    said = failed(command(name, obey_permissions), [path.name, "x in one only"])
    assert how != "unreadable" or "Permission denied" in said
    assert not any((tmp_path / "out").rglob("*.*"))


@pytest.mark.parametrize("name", WRITING)
def test_a_folder_that_takes_no_files(tmp_path, command, name):
    (tmp_path / "out").chmod(0o500)
    assert "Permission denied" in failed(command(name, obey_permissions), ["out"])
    (tmp_path / "out").chmod(0o700)
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("name", WRITING)
def test_a_disk_that_is_full_after_500_bytes(tmp_path, command, picture, save, name):
    """A limit of the system on what the process may write; of the temporary files nothing is left."""
    save(tmp_path / "b" / "x.png", picture(48, 48, seed=1))
    more = ["--json", "out/x.json", "--force"] if name == "evaluate" else ()
    if name == "evaluate":  # a table of more than 500 bytes
        pages = [picture(8, 8, seed=seed) for seed in range(30)]
        for folder in "ab":
            for number, page in enumerate(pages):
                save(tmp_path / folder / f"{number}.png", page)
        COMMANDS["many"] = ["evaluate", "a", "b", *COMMANDS["evaluate"][3:]]
    said = failed(command("many" if name == "evaluate" else name, small_disk, more=more), ["out", "File too large"])
    assert "too large" in said
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name, number", [
    ("denoise", signal.SIGINT), ("denoise", signal.SIGTERM), ("denoise", signal.SIGHUP), ("train", signal.SIGINT),
    ("train", signal.SIGTERM), ("evaluate", signal.SIGTERM), ("simulate", signal.SIGHUP), ("export", signal.SIGTERM),
])  # fmt: skip
def test_interrupted(tmp_path, command, picture, save, name, number):
    """A signal while it works: status 130, 143, 129, a line, whole files alone (train keeps what was learnt)."""
    size = 1800 if name in ("denoise", "evaluate") else 48
    for folder, seed in (("a", 0), ("b", 1)):
        save(tmp_path / folder / "x.png", picture(size, size, seed=seed))
    more = {"train": ["--epochs", 10_000], "simulate": ["--pairs", 300_000], "denoise": ["--denoiser", "rednet"],
            "evaluate": ["--weights", SHIPPED, "--denoiser", "rednet"]}  # fmt: skip
    process = command(name, more=more.get(name, ()))
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
    process = command("info", more=["--layers"])
    while process.poll() is None and "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        pass
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, "")
    assert stderr == "noise2noise: interrupted; every file that was written is whole\n"


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path, command, picture, save):
    """And nothing else."""
    save(tmp_path / "b" / "x.png", picture(1800, 1800, seed=1))
    foreign = [tmp_path / "out" / name for name in (".x.png.swp", ".y.png.abcd1234.n2n-tmp", "x.png.lock")]
    for file in foreign:
        file.write_text("of another")
    left = []
    while not left or not left[0].exists():  # it may end its work before it dies
        (tmp_path / "out" / "x.png").unlink(missing_ok=True)
        process = command("denoise", more=["--denoiser", "rednet"])
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
def test_a_disk_that_really_is_full(small_disk, command, files, name):
    """Not a byte is left of its megabyte; what was there stays, and nothing is added."""
    out = small_disk.parent / "out"
    out.rmdir()
    out.symlink_to(small_disk)
    with contextlib.suppress(OSError), (small_disk / "ballast").open("wb", 0) as ballast:
        while True:
            ballast.write(bytes(4096))
    said = failed(command(name), ["out", "disk"])
    assert "No space left on device" in said
    assert [path.name for path in small_disk.rglob("*") if path.is_file()] == ["ballast"]
