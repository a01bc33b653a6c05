"""What a command prints may be lost, on real pipes, devices and closed streams: the work is not, and its exit status
says so; no traceback, also not when Python ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from others import __version__ as version
from others import data
from others.cli import streams

pytest.importorskip("PIL")
FULL = Path("/dev/full")
DENOISE = ["denoise", "pictures", "-o", "out", "--weights", "small.pth"]


@pytest.fixture
def shell(tmp_path, environment, picture, save, weights):
    """shell("denoise ... | head -1"): what a shell gives, in a folder with 12 pictures; `n2n` stands for the command.
    PIPESTATUS of the command is the exit status."""
    for number in range(12):
        save(tmp_path / "pictures" / f"{number:02}.png", picture(8, 8, seed=number))
    torch.save(data.generated_validation(2), tmp_path / "val.pkl")
    (tmp_path / "data").mkdir()
    torch.save(data.generated_pairs(4), tmp_path / "data" / "train_data.pkl")

    def run(line):
        script = f"n2n() {{ '{sys.executable}' -m others \"$@\"; }}; {line}; exit ${{PIPESTATUS[0]}}"
        return subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True,
                              timeout=120, check=False)  # fmt: skip

    return run


@pytest.mark.parametrize("end", ["2>&1 | head -1", "<&- >&- 2>&-", *([">/dev/full"] if FULL.exists() else [])])
def test_pictures_are_denoised_though_the_output_is_lost(tmp_path, shell, end):
    done = shell(f"n2n {' '.join(DENOISE)} {end}")
    assert done.returncode == 0, done.stderr
    assert len(os.listdir(tmp_path / "out")) == 12
    said = done.stderr.splitlines()
    assert not [line for line in said if not line.startswith("noise2noise denoise: what it printed was lost (No space")]
    assert len(said) == (end == ">/dev/full")


@pytest.mark.parametrize("end", ["| head -1", *(["2>/dev/full"] if FULL.exists() else [])])
def test_a_bad_picture_still_counts(tmp_path, shell, end):
    (tmp_path / "pictures" / "07.png").write_bytes(b"no picture")
    done = shell(f"n2n {' '.join(DENOISE)} {end}")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert len(os.listdir(tmp_path / "out")) == 11
    assert ("07.png" in done.stderr) == ("2>" not in end)


@pytest.mark.skipif(not FULL.exists(), reason="a device that takes nothing")
def test_a_result_that_is_printed_and_lost_is_a_failure(shell):
    """Except that a reader who closes the pipe has seen enough."""
    done = shell("n2n info --weights small.pth >/dev/full")
    assert done.returncode == 1
    assert done.stderr == "noise2noise info: what it printed was lost (No space left on device); files are whole\n"
    done = shell("n2n evaluate val.pkl --weights small.pth --plain | true")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("end", ["2>&1 | true", "2>&-"])
def test_training_goes_on_without_output(tmp_path, shell, end):
    done = shell(f"n2n train --data data -o own.pth --epochs 2 --weights small.pth --csv log.csv {end}")
    assert (done.returncode, done.stderr) == (0, "") and (tmp_path / "own.pth").is_file()
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_a_closed_standard_stream_is_never_an_output(tmp_path, environment):
    """The next file that is opened would have its number, and what a library prints would go into it."""
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).resolve().parents[2])!r})
from others.cli import streams
with streams.surroundings(print):
    with open("kept", "wb") as file:
        assert file.fileno() > 2
        print("lost")
        os.write(2, b"lost, too")
"""
    done = subprocess.run(["bash", "-c", f"'{sys.executable}' - >&- 2>&-"], input=script, cwd=tmp_path, text=True,
                          env=environment, check=False)  # fmt: skip
    assert done.returncode == 0 and (tmp_path / "kept").read_bytes() == b""


def test_without_numpy_nothing_is_said_of_it(tmp_path, environment):
    """By torch, which warns when it is imported; the commands that need it say so themselves."""
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError(\"No module named 'numpy'\")\n")
    environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path), environment["PYTHONPATH"]))
    imported = [sys.executable, "-c", "import torch; torch.ones(1)"]
    assert (
        "Failed to initialize NumPy" in subprocess.run(imported, env=environment, capture_output=True, text=True).stderr
    )
    for command in ("-m", "others", "info"), ("-c", CHECK):
        done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


CHECK = """
import warnings
warnings.simplefilter("ignore")
from Miniproject_2.model import Model
from others import check_denoiser
check_denoiser.CHECKS[:] = [check_denoiser.importing_has_no_side_effects]
((_, problem),) = check_denoiser.failures(Model)
assert problem is None, problem
"""


def test_help_says_what_was_called(environment, here):
    command = [sys.executable, "-m", "others", "denoise", "--help"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True).stdout
    assert "python -m others denoise photo.jpg" in told and "noise2noise" not in told
    assert "  noise2noise denoise photo.jpg" in here("denoise", "--help")[1]
    assert here("--version")[1] == f"noise2noise {version}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's OpenMP")
@pytest.mark.parametrize("given, spins", [
    ({}, 1000), ({"GOMP_SPINCOUNT": "7"}, 7), ({"OMP_WAIT_POLICY": "PASSIVE"}, 0),
])  # fmt: skip
def test_threads_that_wait_sleep_soon(environment, given, spins):
    """Unless the user wants it otherwise: on a busy machine threads that spin take minutes for seconds."""
    kept = {key: value for key, value in environment.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-m", "others", "info"]
    done = subprocess.run(command, env={**kept, "OMP_DISPLAY_ENV": "VERBOSE", **given}, capture_output=True, text=True)
    assert done.returncode == 0 and f"GOMP_SPINCOUNT = '{spins}'" in done.stderr


@pytest.mark.parametrize("error, said", [
    (OSError(28, "No space left on device"), "No space left on device"),
    (OSError(28, "No space left on device", "a/b"), "a/b: No space left on device"),
    (OSError(13, "Permission denied", "a/.x.tmp", None, "a/x"), "a/x: Permission denied"),
    (OSError("a sentence"), "a sentence"),
    (ValueError("two\nlines"), "two\nlines"),
    (MemoryError(), "MemoryError"),
])  # fmt: skip
def test_errors_in_words(error, said):
    assert streams.words(error) == said
