"""Any arguments and any files: exit status 0, 1 or 2, one line that says why, never a traceback, inputs as they were.
200 examples and more in the suite, 10,000 with HYPOTHESIS_PROFILE=nightly."""

import contextlib
import glob
import io
import itertools
import math
import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from Miniproject_2.model import Model
from others import cli, data, denoiser, denoiser_bonus, pictures, progress
from others.cli import info, train
from others.storage import networks

pytest.importorskip("PIL")
pytest.importorskip("tifffile")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fuzz"))
import readers

ROOT = Path(__file__).resolve().parents[2]
NO_TEXT = os.fsdecode(b"\xff.png")  # a name that is not UTF-8
MANY = settings(max_examples=max(200, settings().max_examples), suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with inputs of every kind, and settings in which every command takes milliseconds."""
    folder = tmp_path_factory.mktemp("made") / "world"
    generator = torch.Generator().manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(denoiser.Denoiser.__init__, "__defaults__", ((4, 4), (3, 3)))
        patch.setattr(denoiser_bonus.Denoiser.__init__, "__defaults__", (((4, 3, 1), (4, 3, 2)),))
        patch.setattr(Model.load_pretrained_model, "__defaults__", (folder / "small.pth",))
        patch.setattr(info, "SHIPPED", folder / "bestmodel.pth")
        patch.setattr(train, "GENERATED", {"pairs": 3, "images": 2})
        patch.setitem(sys.modules, "tqdm", None)  # its bar is no message
        patch.setattr(progress, "PATIENCE", math.inf)
        patch.setitem(sys.modules, "skimage", None)  # whose denoisers take seconds
        for place in ("a/0.png", "a/1.png", "b/0.png", "b/1.png", "clean/0.png", "clean/1.png", "photo.png", "grey.jpg",
                      "deep.tif", "photos/0.png", "photos/1.png"):  # fmt: skip
            shape = (1 if place == "grey.jpg" else 3,)
            kind, white = (torch.uint16, 65535) if place == "deep.tif" else (torch.uint8, 255)
            page = torch.randint(0, white, (40, 36, *shape), generator=generator).to(kind)
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            format = pictures.FORMATS[Path(place).suffix]
            pictures.write(folder / place, pictures.Picture(format, [page], {}))
        (folder / "data").mkdir()
        torch.save(data.generated_pairs(4), folder / "data" / "train_data.pkl")
        torch.save(data.generated_validation(2), folder / "data" / "val_data.pkl")
        for name in ("prescribed", "rednet", "camera"):
            model = Model(name, device="cpu")
            networks.save(folder / "small.pth", name, model.network, {"made": 1})
        shutil.copy(folder / "small.pth", folder / "bestmodel.pth")
        (folder / "half.png").write_bytes((folder / "photo.png").read_bytes()[:200])
        (folder / "half.tif").write_bytes((folder / "deep.tif").read_bytes()[:600])
        (folder / "empty.png").touch()
        shutil.copy(folder / "photo.png", folder / NO_TEXT)
        (folder / "text.txt").write_text("no picture\n")
        (folder / "nothing").mkdir()
        (folder / "loop").symlink_to("loop")
        yield folder


@contextlib.contextmanager
def copied(world):
    """In a copy of the world, two folders deep. Afterwards all of its files must be there as they were."""
    here, place = Path.cwd(), world.parent / f"copy {random.Random().getrandbits(64)}" / "deep" / "world"
    shutil.copytree(world, place, symlinks=True)
    os.mkfifo(place / "pipe")
    os.chdir(place)
    try:
        yield place
    finally:
        os.chdir(here)
        shutil.rmtree(place.parents[1])


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def run(arguments):
    """Exit status and stderr of the command line in this process; a warning is an error, and so is a traceback."""
    stdout = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with (contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(io.StringIO()) as said,
          warnings.catch_warnings()):  # fmt: skip
        warnings.simplefilter("error")
        try:
            status = cli.main(arguments)
        except SystemExit as stopped:
            status = stopped.code
    return status, said.getvalue()


def check(status, said, arguments):
    """0, 1 with a line of ours for every problem, 2 with argparse's."""
    what = f"{arguments}: status {status}, {said[-500:]}"
    assert status in (0, 1, 2), what
    assert "Traceback" not in said, what
    lines = [line for line in said.splitlines() if not line.startswith("note: ")]
    if status == 2:
        assert ": error: " in lines[-1], what
    else:
        assert all(line.startswith(f"noise2noise {arguments[0]}: ") for line in lines), what
        assert bool(lines) == (status == 1) or not status, what
        assert all(len(line) < 2000 for line in lines), what


def attempt(world, arguments, spoil=None):
    """Run it in a copy of the world, in which `spoil(place)` may change a file first."""
    with copied(world) as place:
        if spoil:
            spoil(place)
        before = files(place)
        status, said = run(arguments)
        check(status, said, arguments)
        after = files(place)
        changed = [path for path, content in before.items() if after.get(path) != content]
        wrong = [path for path in changed if "--force" not in arguments or is_input(path, arguments)]
        assert not wrong, f"{arguments} changed {wrong}"
        return status


def is_input(path, arguments):
    """Whether a word that may name an input names the file, or a folder that it is a picture or data of."""
    if arguments[0] == "simulate":
        return path.suffix != ".pkl"  # its results have names of their own
    values = [word for option, word in itertools.pairwise(arguments) if option not in NO_INPUT]
    found = {Path(name).resolve() for word in values for name in (word, *glob.glob(word))}
    return path in found or (path.suffix in (*pictures.FORMATS, ".pkl") and not found.isdisjoint(path.parents))


# ----------------------------------------------------------------------------------------------------- arguments

NAMES = st.sampled_from([
    "photo.png", "grey.jpg", "deep.tif", "a", "b", "clean", "photos", "data", "data/train_data.pkl", "a/0.png",
    "data/val_data.pkl", "small.pth", "half.png", "empty.png", "text.txt", "nothing", "missing", "missing/x.png",
    "*.png", "a/*", "[", ".", "..", "", "-", "--", "data/train_data.pkl/x", "photo.png/", "x" * 300,
    "x" * 240 + ".png", "a\0b", "a\nb", "/dev/full", "pipe", "loop",
])  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0/"), max_size=8)
PATHS = st.one_of(NAMES, NAMES, TEXT, st.just(NO_TEXT))
OUTPUTS = st.one_of(st.sampled_from(["out.png", "out", "deep/er/out.tif", "out.pth", "out.csv", "out.webp", "out.bmp",
                                     "out.xyz", "a/0.png", "small.pth", "data/train_data.pkl"]), PATHS)  # fmt: skip
SMALL = st.sampled_from(["1", "2", "3"])
NUMBERS = st.one_of(SMALL, SMALL, st.sampled_from(
    ["0", "-1", "1.5", "nan", "inf", "-inf", "1e400", "x", "", "٣", "1_0", "0x1", "9" * 30, str(2**63 - 1), "1e308",
     "1e-320"],
))  # fmt: skip
RANGES = st.tuples(NUMBERS, NUMBERS)
FIGURES = st.sampled_from(["out.xyz", "out.xyz/", "", "a", "a\0b", "out.pdf"])
FLAG = st.just(None)
MODEL = {"--denoiser": st.sampled_from(["prescribed", "rednet", "other", ""]), "--weights": PATHS,
         "--device": st.sampled_from(["cpu", "cuda", "cpu:7", "meta", "mps", "x", ""]),
         "--precision": st.sampled_from(["fp32", "bf16", "fp64"])}  # fmt: skip
FORCE = {"--force": FLAG, "--nonsense": FLAG, "-h": FLAG}
NO_INPUT = ("-o", "--figure", "--curve", "--quality", "--range", "--csv", "--json", "--onnx",
            "--device", "--denoiser", "--precision", "--epochs", "--count", "--patch", "--lr", "--seed")  # fmt: skip
COUNTS = SMALL | st.sampled_from(["0", "-1", "x", "1.5", "", "9" * 30])  # more of these is more work, as asked for
COMMANDS = {
    "denoise": (PATHS, {"-o": OUTPUTS, "--compare": FLAG, "--self-ensemble": FLAG, "--skip-existing": FLAG,
                        "--quality": NUMBERS, "--range": RANGES, **FORCE, **MODEL}),
    "evaluate": (PATHS, {"--csv": OUTPUTS, "--json": OUTPUTS, "--plain": FLAG, "--self-ensemble": FLAG,
                         "--figure": FIGURES, "--range": RANGES, **FORCE, **MODEL}),
    "simulate": (PATHS, {"--noise": st.sampled_from(["gaussian", "poisson", "camera", "subsampling", "x"]),
                         "--sigma": NUMBERS, "--photons": NUMBERS, "--pairs": NUMBERS, "--images": NUMBERS,
                         "--seed": NUMBERS, "--cell": COUNTS, **FORCE}),
    "info": (st.nothing(), {"--weights": PATHS, "--layers": FLAG, **FORCE}),
    "export": (st.nothing(), {"--onnx": OUTPUTS, **FORCE, **MODEL}),
    "train": (st.nothing(), {"--pairs": st.tuples(PATHS, PATHS), "--burst": PATHS, "--data": PATHS, "-o": OUTPUTS,
                             "--validate": st.tuples(PATHS, PATHS), "--epochs": COUNTS, "--count": COUNTS,
                             "--patch": NUMBERS, "--lr": NUMBERS, "--seed": NUMBERS, "--csv": OUTPUTS,
                             "--curve": FIGURES, "--range": RANGES, "--from-scratch": FLAG,
                             "--from-shipped": FLAG, "--resume": FLAG, "--unchecked": FLAG, **FORCE, **MODEL}),
    "": (PATHS, {}), "nonsense": (PATHS, FORCE),
}  # fmt: skip
QUICK = {"train": ["--epochs", "1", "--count", "2", "--patch", "16"], "simulate": ["--pairs", "2", "--images", "2"]}


@st.composite
def command_lines(draw):
    name = draw(st.sampled_from([*COMMANDS, "denoise", "train", "evaluate"]))
    positional, options = COMMANDS[name]
    words = [name, *QUICK.get(name, [])]
    chosen = draw(st.lists(st.sampled_from(sorted(options)), max_size=5, unique=True)) if options else []
    required = {"train": "-o", "export": "--onnx"}.get(name)
    if required and required not in chosen and draw(st.integers(0, 9)):
        chosen.append(required)
    for option in chosen:
        value = draw(options[option])
        words += [option, *([] if value is None else [value] if isinstance(value, str) else value)]
    places = draw(st.lists(positional, max_size=3)) if not positional.is_empty else []
    return [*words, *places] if draw(st.booleans()) else [words[0], *places, *words[1:]]


@MANY
@example(["train", *QUICK["train"], "--device", "", "--force", "--from-shipped", "-o", "\udcff.png"])
@given(command_lines())
@example(["train", *QUICK["train"], "--force", "-o", "photo.png"])  # no input here
def test_any_arguments(world, arguments):
    attempt(world, arguments)


@pytest.mark.parametrize("arguments", [
    ["evaluate", "a", "clean", "--csv", "a/0.png"],
    ["evaluate", "data/val_data.pkl", "--json", "data/val_data.pkl"],
    ["evaluate", "data/val_data.pkl", "--weights", "small.pth", "--csv", "a/../small.pth"],
    ["train", "--pairs", "a", "b", "-o", "b/1.png", *QUICK["train"]],
    ["train", "--data", "data", "-o", "data/train_data.pkl"],
    ["train", "--data", "data", "-o", "small.pth", "--weights", "small.pth"],
    ["export", "--onnx", "small.pth", "--weights", "small.pth"],
])  # fmt: skip
def test_no_input_is_overwritten_by_force(world, arguments):
    assert attempt(world, [*arguments, "--force"]) == 1


# ------------------------------------------------------------------------------------------------------- contents

#: What reads a file, and the file: {command line: place}
READING = {
    ("denoise", "photo.png", "-o", "out.png", "--compare"): "photo.png",
    ("denoise", "grey.jpg"): "grey.jpg",
    ("denoise", "deep.tif", "-o", "out.tif"): "deep.tif",
    ("denoise", "photo.png", "--weights", "small.pth"): "small.pth",
    ("denoise", "a", "-o", "out"): "a/1.png",
    ("evaluate", "a", "clean", "--csv", "out.csv", "--json", "out.json"): "clean/0.png",
    ("evaluate", "data/val_data.pkl", "--denoiser", "rednet"): "data/val_data.pkl",
    ("simulate", "photos", "out", "--pairs", "2", "--images", "2"): "photos/1.png",
    ("info", "--weights", "small.pth", "--layers"): "small.pth",
    ("export", "--onnx", "out.onnx", "--weights", "small.pth"): "small.pth",
    ("train", "--pairs", "a", "b", "-o", "out.pth", *QUICK["train"]): "b/0.png",
    ("train", "--data", "data", "-o", "out.pth", *QUICK["train"]): "data/train_data.pkl",
    ("train", "--data", "data", "-o", "out.pth", "--epochs", "1", "--weights", "small.pth"): "small.pth",
}  # fmt: skip


@st.composite
def spoiled(draw):
    """(command line, place, change of the file's bytes)"""
    arguments = draw(st.sampled_from(sorted(READING)))
    seed, kind = draw(st.integers(0, 2**32)), draw(st.integers(0, 5))

    def change(content):
        if kind == 0:
            return random.Random(seed).randbytes(seed % 300)
        if kind == 1:
            return content[: seed % len(content)]
        return readers.changed(b"\0" + content, random.Random(seed))[1:]

    return list(arguments), READING[arguments], change


@MANY
@given(spoiled())
def test_any_content(world, case):
    arguments, place, change = case
    attempt(world, arguments, lambda folder: (folder / place).write_bytes(change((folder / place).read_bytes())))


LOG = "epoch,loss_against_noisy,psnr_a_db,seconds,images_per_second\n1,0.1,20.0,1.0,4.0\n"


@settings(suppress_health_check=list(HealthCheck))
@given(st.sampled_from(["out.pth.state", "log.csv"]), st.integers(0, 2**32), st.binary(max_size=60), st.booleans())
@example("log.csv", 0, b"", True)
@example("log.csv", 0, b"epoch\nx\n", True)
def test_what_a_resumed_training_finds(world, place, seed, random_bytes, whole):
    """The state and the log of an interrupted training are files like others; they are refused, or replaced by a
    training that goes on."""
    arguments = ["train", "--data", "data", "-o", "out.pth", "--epochs", "2", "--resume", "--csv", "log.csv"]
    with copied(world) as folder:
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(networks, "save", interrupt)
                run(arguments)
        except KeyboardInterrupt:
            pass
        (folder / "log.csv").write_text(LOG)
        content = (folder / place).read_bytes()
        changed = random_bytes if whole else readers.changed(b"\0" + content, random.Random(seed))[1:]
        (folder / place).write_bytes(changed)
        before = files(folder / "data")
        status, said = run(arguments)
        check(status, said, arguments)
        assert files(folder / "data") == before


def interrupt(*_, **__):
    raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------------------ processes


@pytest.mark.parametrize("arguments", [
    ["denoise", "half.tif"],
    ["train", "--data", "missing", "-o", "out.pth"],
    ["evaluate", "a", "nothing"],
    ["info", "--weights", "text.txt"],
    ["simulate", "photos", "photo.png"],
])  # fmt: skip
def test_every_command_refuses(world, arguments):
    """`test_errors.py` has a process of each."""
    assert attempt(world, arguments) == 1


@pytest.mark.parametrize("arguments", [
    ["denoise", "half.png", "photo.png", "-o", "out"],
    ["denoise", f"missing{NO_TEXT}"],
    ["denoise", NO_TEXT],
    ["nonsense"],
    [],
])  # fmt: skip
def test_in_a_process_of_its_own(world, arguments):
    with copied(world) as place:
        before = files(place)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run([sys.executable, "-m", "others", *arguments], cwd=place, env=environment,
                              capture_output=True, check=False)  # fmt: skip
        check(done.returncode, done.stderr.decode(), arguments)
        assert (done.returncode == 0) == (NO_TEXT in arguments)
        after = files(place)
        assert all(after[path] == content for path, content in before.items())
