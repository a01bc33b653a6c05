"""Files that someone else sends: one clear error, nothing executed, memory bounded, the Model usable as it was."""

import io
import os
import pickle
import random
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from payload import Payload

from Miniproject_2.model import Model
from others import data
from others.check_denoiser import memory_of
from others.storage import checkpoint, networks, tensors
from others.storage.checkpoint import CheckpointError

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "Miniproject_2" / "bestmodel.pth"
CLEAR = FileNotFoundError, CheckpointError


@pytest.fixture(scope="module")
def model():
    model = Model()
    model.load_pretrained_model()
    return model


@pytest.fixture(scope="module")
def probe(model):
    images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return images, model.predict(images)


def weights(model):
    return [parameter.clone() for parameter in model.network.parameters()]


def refused(model, path):
    """Whether it is refused with one clear error; if not, it loads."""
    before = weights(model)
    try:
        model.load_pretrained_model(path)
    except CLEAR as error:
        assert str(path) in str(error) and len(str(error)) < 2000 and "\n" not in str(error)
        assert all(map(torch.equal, weights(model), before))
        return True
    assert all(map(torch.equal, weights(model), before))  # of the same file: the bit was in no weight
    return False


def test_the_shipped_file_loads_and_saves_again(tmp_path):
    """It is of a released format."""
    assert checkpoint.load(SHIPPED)["format"] in checkpoint.READABLE
    for name in ("prescribed", "rednet"):
        model = Model(name)
        model.load_pretrained_model()
        networks.save(tmp_path / "again.pth", name, model.network, {})
        assert Model(name).load_pretrained_model(tmp_path / "again.pth") is None


def test_flipped_bits(model, probe, tmp_path, count):
    """Random bits of bestmodel.pth: refused, or (outside the weights) the same weights come back."""
    flips = count("bits of bestmodel.pth flipped, one at a time", 40, 2000)
    generator, path, found = random.Random(0), tmp_path / "flipped.pth", 0
    path.write_bytes(SHIPPED.read_bytes())
    with open(path, "r+b") as file:
        for _ in range(flips):
            place, bit = generator.randrange(SHIPPED.stat().st_size), 1 << generator.randrange(8)
            for _ in range(2):
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ bit]))
                file.flush()
                if _ == 0:
                    found += refused(model, path)
    assert found > 0.95 * flips
    assert torch.equal(model.predict(probe[0]), probe[1])


def test_truncated(model, probe, tmp_path, count):
    cuts = count("places where bestmodel.pth was cut off", 20, 200)
    generator, path = random.Random(1), tmp_path / "cut.pth"
    path.write_bytes(SHIPPED.read_bytes())
    places = sorted((generator.randrange(SHIPPED.stat().st_size) for _ in range(cuts - 2)), reverse=True)
    for place in [SHIPPED.stat().st_size - 1, *places, 0]:
        os.truncate(path, place)
        assert refused(model, path)
    assert torch.equal(model.predict(probe[0]), probe[1])


def test_random_bits_where_it_hurts(model, tmp_path, count):
    """Of a small file: its directory, its pickle and its headers are most of it. Several bytes at a time."""
    tries = count("small checkpoints with several random bytes", 150, 5000)
    small = tmp_path / "small.pth"
    checkpoint.save(small, {"denoisers": {"prescribed": {"arguments": {}, "info": {}, "state": {"a": torch.ones(3)}}}})
    whole, generator, path, found = small.read_bytes(), random.Random(2), tmp_path / "changed.pth", 0
    for _ in range(tries):
        changed = bytearray(whole)
        for _ in range(generator.choice((1, 1, 2, 5, 20))):
            changed[generator.randrange(len(changed))] = generator.randrange(256)
        path.write_bytes(changed)
        try:
            assert checkpoint.load(path)["denoisers"]["prescribed"]["state"]["a"].equal(torch.ones(3))
        except CheckpointError as error:
            found += str(path) in str(error)
    assert found > 0.3 * tries


# ---------------------------------------------------------------------------------------------------- made to harm


def zipped(path, entries, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)


def saved(content):
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def edited(path, change, content=None):
    """A checkpoint whose pickle was changed, with right sums."""
    state = {"a": torch.arange(10.0)}
    content = content or {"format": 1, "denoisers": {"prescribed": {"arguments": {}, "state": state, "info": {}}}}
    with zipfile.ZipFile(io.BytesIO(saved(content))) as archive:
        entries = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    changed = [(name, change(data) if name.endswith("data.pkl") else data) for name, data in entries]
    assert changed != entries
    zipped(path, changed)


def pickled(path, data, folder="archive"):
    zipped(path, [(f"{folder}/data.pkl", data), (f"{folder}/version", b"3\n"), (f"{folder}/byteorder", b"little")])


def bomb(path):
    """200 kB that unpack to 200 MB."""
    zipped(path, [("a/data.pkl", bytes(2 * 10**8)), ("a/version", b"3\n")], zipfile.ZIP_DEFLATED)


def claims(path):
    """A zip directory that claims four gigabytes for an entry that is not compressed."""
    zipped(path, [("a/data.pkl", b"x" * 100), ("a/data/0", b"y" * 64)])
    data, size = bytearray(path.read_bytes()), (2**32 - 2).to_bytes(4, "little")
    at = data.rindex(b"PK\x01\x02")
    data[at + 20 : at + 28] = size + size
    path.write_bytes(data)


def overlapping(path):
    """The same entry a thousand times in the directory."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zipped(path, [("a/data.pkl", pickle.dumps(1, 2))] * 1000)


def laughs(path):
    """Ten lists of ten references to the one before."""
    value = [1]
    for _ in range(30):
        value = [value] * 10
    path.write_bytes(saved({"format": 1, "denoisers": {"prescribed": {"arguments": value, "state": {}, "info": 1}}}))


def arguments(**given):
    def write(path):
        entry = {"arguments": given, "state": {"0.weight": torch.ones(2)}, "info": {}}
        checkpoint.save(path, {"denoisers": {"prescribed": entry}})

    return write


def expanded(path):
    """4 bytes, seen as a terabyte."""
    state = {"0.weight": torch.ones(1).expand(2**38)}
    path.write_bytes(saved({"format": 1, "denoisers": {"prescribed": {"arguments": {}, "state": state, "info": 1}}}))


def fifo_or_missing(path):
    os.mkfifo(path)


BUILTIN = b"cbuiltins\nbytearray\n"
HARMFUL = {
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(b"P"),
    "text": lambda path: path.write_text("weights"),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nowhere": lambda path: path.symlink_to(path.parent / "nowhere"),
    "a pipe": fifo_or_missing,
    "random bytes": lambda path: path.write_bytes(random.Random(0).randbytes(5000)),
    "zeros, 2 GiB, sparse": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2**31),
    "an empty zip": lambda path: zipped(path, []),
    "a zip of something else": lambda path: zipped(path, [("word/document.xml", b"<xml/>")]),
    "two pickles": lambda path: zipped(path, [("a/data.pkl", b"N."), ("b/data.pkl", b"N.")]),
    "a zip bomb": bomb,
    "claimed gigabytes": claims,
    "overlapping entries": overlapping,
    "billion laughs": laughs,
    "a terabyte from 4 bytes": expanded,
    "a pickle without an end": lambda path: pickled(path, b"\x80\x02(((("),
    "a pickle of one number": lambda path: pickled(path, pickle.dumps(1, 2)),
    "a long that claims 2 GB": lambda path: pickled(path, b"\x80\x02\x8b\xff\xff\xff\x7f1."),
    "a bytes object that claims 4 GB": lambda path: pickled(path, b"\x80\x02B\xff\xff\xff\xff1."),
    "a memo of 4 billion": lambda path: pickled(path, b"\x80\x02Nr\xff\xff\xff\xff."),
    "bytearray(10**12)": lambda path: pickled(path, b"\x80\x02" + BUILTIN + b"\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85R."),
    "torch.Tensor(10**11)": lambda path: pickled(path, b"\x80\x02ctorch\nTensor\n\x8a\x05\x00\xe8vH\x17\x85R."),
    "an old pickle": lambda path: torch.save({"format": 1}, path, _use_new_zipfile_serialization=False),
    "storage that claims more": lambda path: edited(path, lambda data: data.replace(b"K\x0at", b"M\xff\xfft")),
    "a tensor that claims more": lambda path: edited(
        path, lambda data: data.replace(b"K\x0a\x85", b"J\xff\xff\xff\x7f\x85")
    ),
    "channels of 10**9": arguments(channels=(10**9, 10**9)),
    "channels of 10**5": arguments(channels=(10**5, 10**5)),
    "kernels of 10**9": arguments(kernel_sizes=(10**9, 3)),
    "other names": arguments(__class__=1),
    "formats": lambda path: path.write_bytes(saved({"format": "1" * 100_000})),
    "a format that is a list": lambda path: path.write_bytes(saved({"format": [1]})),
    "true for 1": lambda path: path.write_bytes(saved({"format": 99})),
}


@pytest.mark.parametrize("write", HARMFUL.values(), ids=HARMFUL)
def test_harmful_files(model, probe, tmp_path, write):
    path = tmp_path / "sent.pth"
    write(path)
    result = []
    assert memory_of(lambda: result.append(refused(model, path))) < 100 * 2**20
    assert result == [True]
    assert torch.equal(model.predict(probe[0]), probe[1])


@pytest.mark.parametrize("read", [
    lambda path: Model().load_pretrained_model(path),
    lambda path: data.load_pairs(path),
    lambda path: data.load_pairs(path, mmap=True),
    lambda path: Model().train(*[torch.zeros(2, 3, 8, 8)] * 2, 1, checkpoint=path, progress=False),
], ids=["weights", "pairs", "mapped pairs", "training"])  # fmt: skip
@pytest.mark.parametrize("kind", ["zip", "old", "raw", "in a zip's pickle", "protocol 4"])
def test_a_payload_is_never_run(small, tmp_path, read, kind):
    made, path = tmp_path / "made", tmp_path / "sent.pth"
    content = {"format": 1, "training": Payload(made), "denoisers": Payload(made)}
    if kind in ("zip", "old"):
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    elif kind == "raw":
        path.write_bytes(pickle.dumps(content))
    else:
        pickled(path, pickle.dumps(content, 4 if kind == "protocol 4" else 2))
    with pytest.raises((CheckpointError, ValueError), match=r"sent\.pth"):
        read(path)
    assert not made.exists()


def test_all_problems_in_one_message(small, tmp_path):
    model = Model()
    state = model.network.state_dict()
    state["0.weight"] = torch.ones(8, 3, 3, 2)
    state["0.bias"] = torch.full((8,), torch.nan)
    state["2.bias"] = torch.ones(12).long()
    state["9.weight"] = torch.ones(1)
    del state["4.weight"]
    entry = {"arguments": model.network.arguments, "state": state, "info": {}}
    checkpoint.save(tmp_path / "w.pth", {"denoisers": {"prescribed": entry}})
    with pytest.raises(CheckpointError) as raised:
        model.load_pretrained_model(tmp_path / "w.pth")
    for problem in ("0.weight has shape (8, 3, 3, 2), expected (8, 3, 3, 3)", "0.bias is not finite",
                    "2.bias has dtype torch.int64", "9.weight is unexpected", "4.weight is missing"):  # fmt: skip
        assert problem in str(raised.value)


@pytest.mark.skipif(sys.platform == "darwin", reason="RLIMIT_AS")
def test_a_bomb_in_little_memory(tmp_path):
    """In a process with half a gigabyte of address space left, every harmful file still gives its clear error."""
    script = f"""
import resource, sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
from test_hostile import CLEAR, HARMFUL, Model
model = Model()
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + 2**29,) * 2)
for number, (name, write) in enumerate(HARMFUL.items()):
    if name == "a zip bomb": continue  # writing it takes the memory
    path = Path(sys.argv[1]) / str(number)
    write(path)
    try:
        model.load_pretrained_model(path)
    except CLEAR as error:
        assert "MemoryError" not in str(error), error
        continue
    raise SystemExit(f"{{name}} was loaded")
print("all refused")
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "all refused\n", done.stderr[-2000:]


def test_weights_saved_on_cuda_load_on_a_cpu(tmp_path):
    """The file says cuda:0 of every tensor, as one saved from a GPU does."""
    path = tmp_path / "w.pth"
    edited(path, lambda data: data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"))
    value = networks.load(path, "prescribed")["state"]["a"]
    assert value.device.type == "cpu" and torch.equal(value, torch.arange(10.0))


# ----------------------------------------------------------------------------------------------------------- pairs


def test_pairs_stay_on_the_disk(tmp_path, pixels):
    """Mapped: training touches the pages of its minibatches only."""
    pair = [pixels(50, 3, 8, 8), pixels(50, 3, 8, 8, seed=1)]
    torch.save(pair, tmp_path / "train_data.pkl")
    mapped = data.load_pairs(tmp_path / "train_data.pkl", mmap=True)
    assert all(map(torch.equal, mapped, pair))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts resident pages in /proc")
def test_mapped_pairs_take_no_memory(tmp_path):
    """180 MB of pairs: a training process that reads a little of them grows by a little."""
    torch.save([torch.zeros(30_000, 3, 32, 32, dtype=torch.uint8) for _ in range(2)], tmp_path / "big.pkl")
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from others import data, denoiser
from others.training import Recipe, fit
def anonymous():
    return int(next(l for l in open("/proc/self/status") if l.startswith("RssAnon")).split()[1]) / 1024
first, second = data.load_pairs(sys.argv[1], mmap=True)
network = denoiser.Denoiser(channels=(4, 4))
before = anonymous()
class Enough(Exception): pass
def on_step(done, total):
    if done == 20: raise Enough
try:
    list(fit(network, (first, second), 1, Recipe(batch_size=16), on_step=on_step))
except Enough:
    print(anonymous() - before)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "big.pkl")], capture_output=True, text=True,
                          check=True)  # fmt: skip
    assert float(done.stdout) < 60


def test_mapped_pairs_may_be_larger_than_what_is_read(tmp_path, pixels, monkeypatch):
    """The limit of what is read into memory, here of a byte less than the file."""
    path = tmp_path / "train_data.pkl"
    torch.save([pixels(50, 3, 8, 8)] * 2, path)
    monkeypatch.setattr(tensors, "LARGEST", path.stat().st_size - 1)
    assert torch.equal(data.load_pairs(path, mmap=True)[1], pixels(50, 3, 8, 8))
    with pytest.raises(ValueError, match=f"expected at most {tensors.LARGEST} bytes, got {tensors.LARGEST + 1}"):
        data.load_pairs(path)


def zip_end(count, length, offset, record):
    """The end of a zip of which the directory has so many entries and bytes, at an offset; the record of this, which
    is here, is said to be at another. (APPNOTE 6.3.10, 4.3.14 to 4.3.16)"""
    here = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, length, offset)
    there = struct.pack("<4sIQI", b"PK\6\7", 0, record, 1)
    return here + there + struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0)


def two_directories(path):
    """zipfile sees a pair of tensors; torch, which maps the file by itself, would inflate a pickle of 100 MB."""
    torch.save([torch.zeros(2, 3, 8, 8, dtype=torch.uint8)] * 2, path)
    good, bomb = path.read_bytes(), io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as other:
        for entry in archive.infolist():
            content = archive.read(entry)
            bomb_inside = content[:-1] + b"N0" * 50_000_000 + b"."
            other.writestr(entry.filename, bomb_inside if entry.filename.endswith("data.pkl") else content)
    count, length, offset = struct.unpack("<HII", bomb.getvalue()[-12:-2])
    first = bomb.getvalue()[:-22] + zip_end(count, length, offset, 0)[:56]
    path.write_bytes(first + good[:-98] + zip_end(*struct.unpack("<QQQ", good[-66:-42]), len(first) - 56))


def sparse(path, before, size, after):
    """A file of zeros, which take no space, between what is there before and after."""
    with open(path, "wb") as file:
        file.write(before)
        file.truncate(size - len(after))
        file.seek(0, os.SEEK_END)
        file.write(after)


def large_directory(path):
    sparse(path, b"", 3 * 2**30, zip_end(9, 3 * 2**30 - 98, 0, 3 * 2**30 - 98))


def large_pickle(path):
    """Stored, and all of it is there."""
    size, name, offset = 3 * 2**30, b"x/data.pkl", 0
    common = struct.pack("<HHHHHIIIHH", 20, 0, 0, 0, 0, 0, size, size, len(name), 0)
    local = b"PK\3\4" + common + name
    central = b"PK\1\2" + struct.pack("<H", 20) + common + struct.pack("<HHHII", 0, 0, 0, 0, offset) + name
    length, place = len(central), len(local) + size
    sparse(path, local, place + length + 98, central + zip_end(1, length, place, place + length))


@pytest.mark.parametrize("write, problem", [
    (two_directories, "expected a zip that ends as those of torch"),
    (large_directory, "expected a zip that ends as those of torch"),
    (large_pickle, "expected at most 67108864 bytes besides tensors"),
])  # fmt: skip
def test_mapped_files_cannot_fill_the_memory(tmp_path, write, problem):
    write(tmp_path / "sent.pkl")

    def read():
        with pytest.raises(ValueError, match=problem):
            data.load_pairs(tmp_path / "sent.pkl", mmap=True)

    assert memory_of(read) < 100 * 2**20


def test_old_pairs_cannot_be_mapped(tmp_path, pixels):
    torch.save([pixels(2, 3, 8, 8)] * 2, tmp_path / "old.pkl", _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"old\.pkl"):
        data.load_pairs(tmp_path / "old.pkl", mmap=True)
