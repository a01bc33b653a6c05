"""Fuzz the readers of files that others send: checkpoints, pickles of pairs, pictures.

    python tests/fuzz/readers.py [--reader pictures] [CORPUS] [-max_total_time=600] ...     guided by coverage: atheris
    python tests/fuzz/readers.py [--reader pictures] --seconds 60       without it: random changes of right files

A reader may refuse a file with its error, or read it. Any other exception, a warning, a file written, a process
started by what it reads, and memory without bounds are findings; `FINDINGS` keeps those of the past.
"""

import argparse
import io
import os
import pickle
import random
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from importlib.util import find_spec
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from others import data, pictures
from others.storage import checkpoint, networks

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
    networks.load(FILE, "prescribed")


def read_pairs():
    data.load_pairs(FILE)


def read_mapped():
    data.load_pairs(FILE, mmap=True)


def read_picture():
    """All pages to the last pixel."""
    for page in pictures.read(FILE).pages:
        pictures.to_pixels(page).float().mean()


#: A TIFF of 2 x 2 grey pixels whose only page is its own successor.
TAGS = {256: 2, 257: 2, 258: 8, 259: 1, 262: 1, 273: 110, 278: 2, 279: 4}
ENTRIES = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in TAGS.items())
CIRCLE = b"II*\0\x08\0\0\0" + struct.pack("<H", len(TAGS)) + ENTRIES + struct.pack("<I", 8) + b"1234"

#: {reader: [(function, what wraps the bytes into a file)]}
READERS = {
    "weights": [(read_weights, bytes), (read_weights, file_of)],
    "pairs": [(read_pairs, bytes), (read_pairs, file_of), (read_mapped, file_of)],
}
if find_spec("PIL"):
    from PIL import Image

    READERS["pictures"] = [(read_picture, bytes)]
TARGETS = [target for targets in READERS.values() for target in targets]


def one(content, targets=None):
    """The first byte chooses the reader; the rest is the file, or the pickle in it. -> whether it was read"""
    global watching
    targets = targets or TARGETS
    read, wrap = targets[content[0] % len(targets)] if content else targets[0]
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


def seeds(targets=None):
    """Right files of every kind, for a start."""
    targets = targets or TARGETS
    numbers = torch.arange(10.0)
    entry = {"arguments": {"channels": (1, 2)}, "state": {"0.weight": numbers}, "info": {"loss": 0.5}}
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for number, (read, wrap) in enumerate(targets):
        content = {"format": 1, "denoisers": {"prescribed": entry}} if read is read_weights else (images, images)
        if read is read_picture:
            yield from (bytes([number]) + picture for picture in small_pictures())
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


def small_pictures():
    """One of every kind that is read here: formats, depths, channels, palettes, pages, compressions."""
    for mode, format in (("RGB", "PNG"), ("P", "PNG"), ("I;16", "PNG"), ("LA", "PNG"), ("L", "JPEG"), ("RGB", "JPEG"),
                         ("RGB", "TIFF"), ("P", "GIF"), ("RGB", "BMP"), ("P", "BMP"), ("RGB", "WEBP"),
                         ("RGBA", "WEBP")):  # fmt: skip
        buffer = io.BytesIO()
        Image.new(mode, (5, 4)).save(buffer, format)
        yield buffer.getvalue()
    pages = [torch.full((4, 5, channels), 40_000, dtype=torch.uint16) for channels in (3, 4, 1)]
    for format in ("PNG", "TIFF"):
        buffer = io.BytesIO()
        kept = pages if format == "TIFF" else pages[:1]
        getattr(pictures, format.lower()).write(buffer, pictures.Picture(format, kept, {"dpi": (72, 72)}), FILE)
        yield buffer.getvalue()
    buffer = io.BytesIO()
    Image.new("RGB", (16, 8)).save(buffer, "TIFF", compression="tiff_lzw")
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


def mutate(seconds=float("inf"), tries=float("inf"), seed=0, targets=None):
    """Read changed files until the time or the number of tries is over. -> tries, how many were read"""
    generator, start, stop = random.Random(seed), list(seeds(targets)), time.monotonic() + seconds
    done = read = 0
    while done < tries and time.monotonic() < stop:
        content = changed(generator.choice(start), generator)
        try:
            read += one(content, targets)
        except BaseException as error:
            raise AssertionError(f"{type(error).__name__}: {error}; from {content!r}") from error
        done += 1
    return done, read


#: A TIFF as above whose orientation is three numbers.
TURNED = b"II*\0\x08\0\0\0" + struct.pack("<H", len(TAGS) + 1) + ENTRIES + (
    struct.pack("<HHIIII", pictures.ORIENTATION, 3, 3, 8, 0, 0) + b"1234")  # fmt: skip

#: What fuzzing found, and what it is now.
FINDINGS = [
    b"\1" + b"\x80\x63}q\0.",  # torch warned about pickle protocol 99 instead of refusing it
    bytes([len(TARGETS) - 1]) + CIRCLE,  # a TIFF whose page is its own successor kept the reader busy for ever
    bytes([len(TARGETS) - 1]) + b"II\0*\0\x08\0\0",  # Pillow warned of metadata instead of refusing it
    bytes([len(TARGETS) - 1]) + TURNED,  # Pillow warned of the orientation that it was given
    next(seed for seed in seeds() if seed[0] == 1).replace(b"\x89", b"\x88"),  # torch warned of weights with gradients
]


def lower_limits():
    """Pictures may hold little, so that memory without bounds shows."""
    if "pictures" in READERS:
        pictures.picture.LARGEST = Image.MAX_IMAGE_PIXELS = 2**20


def main():
    lower_limits()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", choices=READERS, help="this one alone")
    parser.add_argument("--seconds", type=float, help="without atheris")
    parser.add_argument("--seed", type=int, default=0)
    args, rest = parser.parse_known_args()
    targets = READERS.get(args.reader, TARGETS)
    if args.seconds is None:
        return guided([sys.argv[0], *rest], targets)
    tries, read = mutate(args.seconds, seed=args.seed, targets=targets)
    print(f"{tries} files tried, {read} of them read, no finding")


def guided(arguments, targets):
    """libFuzzer's loop, with its arguments."""
    try:
        import atheris
    except ImportError as error:
        raise ImportError('fuzzing with coverage needs atheris: pip install ".[fuzz]" in the folder of the project; '
                          "or give --seconds") from error  # fmt: skip
    corpus = next((argument for argument in arguments[1:] if not argument.startswith("-")), None)
    if corpus:
        os.makedirs(corpus, exist_ok=True)
        for number, content in enumerate([*seeds(targets), *FINDINGS]):
            Path(corpus, f"seed {number}").write_bytes(content)
    names = ("others.storage.tensors", "others.storage.checkpoint", "others.data", "others.pictures", "pickletools",
             "zipfile", "torch._weights_only_unpickler", "torch.serialization", "torch._utils")  # fmt: skip
    within = tuple(f"{name}." for name in names)
    for name, module in [each for each in sys.modules.items() if f"{each[0]}.".startswith(within)]:
        for function in vars(module).values():
            if getattr(function, "__module__", None) == name and hasattr(function, "__code__"):
                atheris.instrument_func(function)
    atheris.Setup(arguments, lambda content: one(content, targets))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
