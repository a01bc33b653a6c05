"""Fuzz the readers of files that others send: checkpoints, pickles of pairs, pictures.

    python tests/fuzz/readers.py [CORPUS] [-max_total_time=600] ...     coverage-guided, with atheris
    python tests/fuzz/readers.py --seconds 60                          without it: random changes of right files

A reader may refuse a file with its error, or read it. Any other exception, a warning, a file written, a process
started by what it reads, and memory without bounds are findings; `FINDINGS` keeps those of the past.
"""

import argparse
import io
import os
import pickle
import random
import sys
import tempfile
import time
import warnings
import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from others import checkpoint, data

FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
FILE = FOLDER / "sent"
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "os.mkdir", "os.remove", "os.rename",
             "os.rmdir", "socket.connect", "shutil.rmtree", "ctypes.dlopen")  # fmt: skip
watching = False


def watch(event, arguments):
    """An audit hook: what a file may not make its reader do."""
    if not watching:
        return
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event in FORBIDDEN or writes:
        raise SystemError(f"reading a file caused {event} {arguments}")


sys.addaudithook(watch)


def file_of(pickled, folder=b"archive"):
    """A zip with right sums around any pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", b"little")
        archive.writestr("archive/data/0", bytes(40))
        archive.writestr("archive/version", b"3\n")
    return buffer.getvalue()


def read_weights():
    checkpoint.load_denoiser(FILE, "prescribed")


def read_pairs():
    data.load_pairs(FILE)


def read_mapped():
    data.load_pairs(FILE, mmap=True)


def read_picture():
    import_module("others.pictures").read(FILE)


TARGETS = [
    (read_weights, bytes), (read_weights, file_of), (read_pairs, bytes), (read_pairs, file_of), (read_mapped, file_of),
]  # fmt: skip
if find_spec("others.pictures"):
    TARGETS += [(read_picture, bytes)] * 2


def one(content):
    """The first byte chooses the reader; the rest is the file, or the pickle in it. -> whether it was read"""
    global watching
    read, wrap = TARGETS[content[0] % len(TARGETS)] if content else TARGETS[0]
    FILE.write_bytes(wrap(content[1:]))
    watching = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read()
    except (ValueError, TypeError, checkpoint.CheckpointError) as error:
        assert str(error), "an empty message"
        return False
    finally:
        watching = False
    return True


def seeds():
    """Right files of every kind, for a start."""
    numbers = torch.arange(10.0)
    entry = {"arguments": {"channels": (1, 2)}, "state": {"0.weight": numbers}, "info": {"loss": 0.5}}
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for number, (read, wrap) in enumerate(TARGETS):
        content = {"format": 1, "denoisers": {"prescribed": entry}} if read is read_weights else (images, images)
        if read is read_picture:
            yield from (bytes([number]) + picture for picture in pictures())
            continue
        zipped, old = io.BytesIO(), io.BytesIO()
        torch.save(content, zipped)
        torch.save(content, old, _use_new_zipfile_serialization=False)
        if wrap is bytes:
            yield bytes([number]) + zipped.getvalue()
            yield bytes([number]) + old.getvalue()
        else:
            with zipfile.ZipFile(zipped) as archive:
                yield bytes([number]) + archive.read("archive/data.pkl")
    yield bytes([1]) + pickle.dumps({"format": 1, "denoisers": {}}, 2)


def pictures():
    """Small pictures of every format that Pillow writes here."""
    if not find_spec("PIL"):
        return
    from PIL import Image

    for mode, format in (("RGB", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("L", "JPEG"), ("RGB", "TIFF"), ("P", "GIF"),
                         ("RGB", "BMP"), ("RGB", "WEBP")):  # fmt: skip
        buffer = io.BytesIO()
        Image.new(mode, (5, 4)).save(buffer, format)
        yield buffer.getvalue()


def changed(content, generator):
    """A few random changes: bytes, bits, cuts, repetitions, numbers that are large."""
    content = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 4, 16))):
        place = generator.randrange(1, max(2, len(content)))
        kind = generator.randrange(6)
        if kind == 0 and place < len(content):
            content[place] = generator.randrange(256)
        elif kind == 1 and place < len(content):
            content[place] ^= 1 << generator.randrange(8)
        elif kind == 2:
            del content[place : place + generator.randrange(1, 9)]
        elif kind == 3:
            content[place:place] = content[place : place + generator.randrange(1, 40)]
        elif kind == 4:
            content[place : place + 4] = generator.choice((b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", bytes(4)))
        else:
            content[place:place] = generator.randbytes(generator.randrange(1, 5))
    return bytes(content)


def mutate(seconds=float("inf"), tries=float("inf"), seed=0):
    """Read changed files until the time or the number of tries is over. -> tries, how many were read"""
    generator, start, stop = random.Random(seed), list(seeds()), time.monotonic() + seconds
    done = read = 0
    while done < tries and time.monotonic() < stop:
        content = changed(generator.choice(start), generator)
        try:
            read += one(content)
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error}; from {content!r}") from error
        done += 1
    return done, read


#: What fuzzing found, and what it is now.
FINDINGS = [
    b"\1" + b"\x80\x63}q\0.",  # torch warned about pickle protocol 99 instead of refusing it
]


def main():
    if "--seconds" in sys.argv:
        parser = argparse.ArgumentParser(description=__doc__)
        parser.add_argument("--seconds", type=float, required=True)
        parser.add_argument("--seed", type=int, default=0)
        args = parser.parse_args()
        tries, read = mutate(args.seconds, seed=args.seed)
        print(f"{tries} files tried, {read} of them read, no finding")
        return
    try:
        import atheris
    except ImportError as error:
        raise ImportError('fuzzing with coverage needs atheris: pip install "noise2noise-scratch[fuzz]"; '
                          "or give --seconds") from error  # fmt: skip
    corpus = next((argument for argument in sys.argv[1:] if not argument.startswith("-")), None)
    if corpus:
        os.makedirs(corpus, exist_ok=True)
        for number, content in enumerate([*seeds(), *FINDINGS]):
            Path(corpus, f"seed {number}").write_bytes(content)
    names = ("others.checkpoint", "others.data", "others.pictures", "pickletools", "zipfile",
             "torch._weights_only_unpickler", "torch.serialization", "torch._utils")  # fmt: skip
    for name in names:
        module = sys.modules.get(name)
        for function in vars(module).values() if module else ():
            if getattr(function, "__module__", None) == name and hasattr(function, "__code__"):
                atheris.instrument_func(function)
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
