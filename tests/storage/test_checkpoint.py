"""Files of weights: whole or not at all, verified, and never run as code."""

import os
import pickle
import re
import zipfile
from math import prod

import pytest
import torch
from payload import Payload

from Miniproject_2.model import Model
from others import denoiser, denoiser_bonus
from others.storage import checkpoint, networks, tensors
from others.storage.checkpoint import CheckpointError


@pytest.fixture
def saved_networks():
    return {
        denoiser.NAME: denoiser.Denoiser(channels=(4, 6)),
        denoiser_bonus.NAME: denoiser_bonus.Denoiser(layers=((4, 3, 1), (5, 3, 2))),
    }


@pytest.fixture
def path(tmp_path, saved_networks):
    """A file with both networks."""
    for name, network in saved_networks.items():
        networks.save(tmp_path / "weights.pth", name, network, {"made for": "a test"})
    return tmp_path / "weights.pth"


def test_both_networks_come_back(path, saved_networks):
    for name, network in saved_networks.items():
        saved = networks.load(path, name)
        assert saved["arguments"] == network.arguments
        assert saved["info"] == {"made for": "a test"}
        assert saved["state"].keys() == network.state_dict().keys()
        for key, value in network.state_dict().items():
            assert torch.equal(saved["state"][key], value)


def test_saving_one_network_keeps_the_other(path, saved_networks):
    changed = denoiser.Denoiser(channels=(5, 7))
    networks.save(path, denoiser.NAME, changed, {})
    assert networks.load(path, denoiser.NAME)["arguments"]["channels"] == (5, 7)
    kept = networks.load(path, denoiser_bonus.NAME)["state"]
    assert all(torch.equal(kept[key], value) for key, value in saved_networks[denoiser_bonus.NAME].state_dict().items())


def test_weights_are_saved_as_float32_copies(tmp_path, saved_networks):
    network = saved_networks[denoiser.NAME].to(torch.bfloat16)
    networks.save(tmp_path / "weights.pth", "a", network, {})
    for key, value in networks.load(tmp_path / "weights.pth", "a")["state"].items():
        assert value.dtype == torch.float32 and value.device.type == "cpu"
        assert torch.equal(value, network.state_dict()[key].float())


@pytest.mark.filterwarnings("error")
def test_tensors_that_want_gradients_no_longer_do(path, saved_networks):
    content = torch.load(path, weights_only=True)
    for saved in content["denoisers"].values():
        saved["state"] = {key: value.requires_grad_() for key, value in saved["state"].items()}
    torch.save(content, path)
    for name, network in saved_networks.items():
        for key, value in networks.load(path, name)["state"].items():
            assert not value.requires_grad and torch.equal(value, network.state_dict()[key])
    pair = torch.rand(2, 3, 3, 5, 7).unbind()
    torch.save(tuple(image.requires_grad_() for image in map(torch.clone, pair)), path)
    for found, image in zip(tensors.read(path), pair, strict=True):
        assert not found.requires_grad and torch.equal(found, image)


def test_plain_torch_reads_it_without_running_code(path):
    content = torch.load(path, weights_only=True)
    assert content["format"] == checkpoint.FORMAT
    assert content["denoisers"].keys() == {denoiser.NAME, denoiser_bonus.NAME}


# ------------------------------------------------------------------------------------------------ atomic saving


def truncated(content, file):
    file.write(b"half of it")
    raise OSError("no space left on device")


def interrupted(content, file):
    file.write(b"half of it")
    raise KeyboardInterrupt


def wrong(content, file):
    file.write(b"something torch cannot read back")


@pytest.mark.parametrize("write, error", [
    (truncated, OSError), (interrupted, KeyboardInterrupt), (wrong, CheckpointError),
])  # fmt: skip
@pytest.mark.parametrize("exists", [True, False])
def test_failed_save_leaves_what_was_there(tmp_path, monkeypatch, write, error, exists):
    path = tmp_path / "weights.pth"
    if exists:
        checkpoint.save(path, {"old": 1})
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    monkeypatch.setattr(torch, "save", write)
    with pytest.raises(error):
        checkpoint.save(path, {"new": 2})
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_failed_replacement_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    checkpoint.save(path, {"old": 1})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError("in use")))
    with pytest.raises(PermissionError):
        checkpoint.save(path, {"new": 2})
    assert list(tmp_path.iterdir()) == [path]
    assert checkpoint.load(path)["old"] == 1


def test_content_that_does_not_load_safely_is_not_saved(tmp_path):
    path = tmp_path / "weights.pth"
    checkpoint.save(path, {"old": 1})
    with pytest.raises(CheckpointError):
        checkpoint.save(path, {"new": re.compile("code")})
    assert list(tmp_path.iterdir()) == [path]
    assert checkpoint.load(path) == {"format": checkpoint.FORMAT, "old": 1}


def test_the_bytes_reach_the_disk_before_the_file_appears(tmp_path, monkeypatch):
    events, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b))[1])
    checkpoint.save(tmp_path / "weights.pth", {"a": 1})
    assert events == ["fsync", "replace"]


def test_a_new_file_is_readable_by_others(path):
    assert path.stat().st_mode & 0o777 == 0o644


# ------------------------------------------------------------------------------------------------ refused files


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(str(tmp_path / "none.pth"))):
        checkpoint.load(tmp_path / "none.pth")


def test_a_flipped_bit_never_changes_the_weights(path, tmp_path):
    """Wherever it is: the file is refused, or (in the zip's unused fields) the same content comes back."""
    content, whole = checkpoint.load(path)["denoisers"], path.read_bytes()
    damaged, refused, places = tmp_path / "damaged.pth", 0, range(5, len(whole), len(whole) // 150)
    for place in places:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        damaged.write_bytes(flipped)
        try:
            loaded = checkpoint.load(damaged)["denoisers"]
        except CheckpointError as error:
            refused += str(damaged) in str(error)
            continue
        for name, entry in content.items():
            assert all(torch.equal(value, loaded[name]["state"][key]) for key, value in entry["state"].items())
    assert refused > 0.3 * len(places)  # the rest is padding


def test_a_flipped_bit_in_a_weight_is_refused(tmp_path):
    """torch itself loads such a file without a word."""
    path = tmp_path / "weights.pth"
    checkpoint.save(path, {"a": torch.full((1000,), 1.5)})
    whole = bytearray(path.read_bytes())
    whole[whole.index(torch.full((1000,), 1.5).numpy().tobytes()) + 1001] ^= 1
    path.write_bytes(whole)
    assert not torch.equal(torch.load(path)["a"], torch.full((1000,), 1.5))
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("kept", [0, 0.01, 0.5, 0.9, 0.999])
def test_truncated_file_is_refused(path, kept):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(CheckpointError, match=re.escape(str(path))):
        checkpoint.load(path)


FOREIGN = {
    "state dict": (
        {"0.weight": torch.zeros(3)},
        "expected weights as `train` writes them, got a plain state dict; load it into",
    ),
    "list": ([torch.zeros(3)], "expected checkpoint format 1, got a list without a number"),
    "other version": ({"format": 99, "denoisers": {}}, "expected checkpoint format 1, got 99"),
}


@pytest.mark.parametrize("content, message", FOREIGN.values(), ids=FOREIGN)
def test_foreign_file_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "foreign.pth")
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(tmp_path / "foreign.pth")


@pytest.mark.parametrize("dump", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_code_in_a_file_is_not_run(tmp_path, dump):
    written, path = tmp_path / "written", tmp_path / "weights.pth"
    dump({"format": checkpoint.FORMAT, "denoisers": Payload(written)}, path)
    with pytest.raises(CheckpointError):
        checkpoint.load(path)
    assert not written.exists()
    torch.load(path, weights_only=False) if dump is torch.save else pickle.loads(path.read_bytes())
    assert written.exists()  # the payload does work


def test_missing_network_is_named_with_those_there(path):
    with pytest.raises(CheckpointError, match=r"expected weights of 'other', found prescribed, rednet"):
        networks.load(path, "other")


STATE = {"0.weight": torch.ones(2)}
ENTRY = {"arguments": {}, "state": STATE, "info": {}}
WRONG = {
    "no networks": ({}, "found nothing"),
    "networks are a list": ({"denoisers": [1]}, "found nothing"),
    "no network": ({"denoisers": {}}, "found nothing"),
    "a tensor": ({"denoisers": {"a": torch.ones(2)}}, "'a' is incomplete"),
    "no arguments": ({"denoisers": {"a": {"state": STATE, "info": {}}}}, "'a' is incomplete"),
    "no info": ({"denoisers": {"a": {"state": STATE, "arguments": {}}}}, "'a' is incomplete"),
    "info is a text": ({"denoisers": {"a": {**ENTRY, "info": "from a friend"}}}, "'a' is incomplete"),
    "state is a list": ({"denoisers": {"a": {**ENTRY, "state": [1]}}}, "'a' is incomplete"),
    "integers": (
        {"denoisers": {"a": {**ENTRY, "state": {"k": torch.ones(2).long()}}}},
        "'a' do not fit: k has dtype torch.int64, expected floating point",
    ),
    "a number": (
        {"denoisers": {"a": {**ENTRY, "state": {**STATE, "k": 3.0}}}},
        "do not fit: k is a float, expected a tensor$",
    ),
    "NaN": (
        {"denoisers": {"a": {**ENTRY, "state": {"k": torch.tensor([1, torch.nan])}}}},
        "do not fit: k is not finite$",
    ),
    "infinity": (
        {"denoisers": {"a": {**ENTRY, "state": {"k": torch.tensor(torch.inf)}}}},
        "do not fit: k is not finite$",
    ),
}


@pytest.mark.parametrize("content, message", WRONG.values(), ids=WRONG)
def test_incomplete_or_broken_weights_are_refused(tmp_path, content, message):
    path = tmp_path / "weights.pth"
    checkpoint.save(path, content)
    with pytest.raises(CheckpointError, match=message):
        networks.load(path, "a")


@pytest.mark.parametrize("content", [{"training": {"epoch": 1}}, {"denoisers": 3}, {"denoisers": {}}], ids=str)
def test_a_file_without_weights_is_named_by_all_that_read_them(tmp_path, saved_networks, content):
    """The first is what --resume keeps of a training; its file stays as it is."""
    path, network = tmp_path / "own.pth.state", saved_networks[denoiser.NAME]
    checkpoint.save(path, content)
    whole = path.read_bytes()
    message = re.escape(f"{path}: expected weights of a denoiser, found nothing")
    with pytest.raises(CheckpointError, match=message):
        networks.held(path)
    with pytest.raises(CheckpointError, match=message):
        networks.load(path, denoiser.NAME)
    with pytest.raises(CheckpointError, match=message):
        networks.save(path, denoiser.NAME, network, {})
    assert path.read_bytes() == whole


def test_size_is_that_of_the_weights(path, saved_networks):
    """Nothing else hides in the file: 4 bytes a parameter and a little for names."""
    numbers = sum(prod(p.shape) for network in saved_networks.values() for p in network.parameters())
    assert path.stat().st_size < 4 * numbers + 1000 * sum(len(n.parameters()) for n in saved_networks.values())


def foreign_files():
    """{what it is: (a function that writes it to a path, what the message says)}"""
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
    state, old = network.state_dict(), {"_use_new_zipfile_serialization": False}

    def safetensors(path):
        head = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        path.write_bytes(len(head).to_bytes(8, "little") + head + bytes(4))

    def numpy_zip(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", b"\x93NUMPY")

    def torchscript(path):
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("x/data.pkl", "x/constants.pkl", "x/code/__torch__.py"):
                archive.writestr(name, b"")

    return {
        "state dict": (lambda path: torch.save(state, path), "a state dict, or .*load_state_dict"),
        "state dict, old": (lambda path: torch.save(state, path, **old), "a state dict, or .*load_state_dict"),
        "dict": (lambda path: torch.save(dict(state), path), "a plain state dict; load it into"),
        "parameters": (lambda path: torch.save(dict(network.named_parameters()), path), "a state dict, or "),
        "within": (lambda path: torch.save({"epoch": 1, "model": dict(state)}, path), "whose 'model' is a plain"),
        "lightning": (lambda path: torch.save({"epoch": 1, "state_dict": state}, path), "or a checkpoint of another"),
        "module": (lambda path: torch.save(network, path), "a whole module, which would run code"),
        "module, old": (lambda path: torch.save(network, path, **old), "a whole module, which would run code"),
        "TorchScript": (torchscript, "a module of TorchScript"),
        "safetensors": (safetensors, "safetensors.torch.load_file gives a state dict"),
        "NumPy": (lambda path: path.write_bytes(b"\x93NUMPY\1\0"), "an array of NumPy"),
        "a picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60)), "a picture"),
        "NumPy's zip": (numpy_zip, "arrays of NumPy"),
        "Keras": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "HDF5"),
        "course's data": (lambda path: torch.save((torch.zeros(2, 3, 4, 4),) * 2, path), "a pair of images, .*--data"),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("write, said", foreign_files().values(), ids=foreign_files())
def test_other_files_are_said_to_be_what_they_are(tmp_path, write, said):
    path = tmp_path / "weights.pth"
    write(path)
    with pytest.raises(CheckpointError, match=f"weights.pth: expected weights as `train` writes them, got .*{said}"):
        checkpoint.load(path)


def test_what_is_said_of_a_state_dict_works(tmp_path, small):
    source = Model("prescribed", device="cpu")
    torch.save(source.network.state_dict(), tmp_path / "plain.pth")
    with pytest.raises(CheckpointError, match=r"load_state_dict, and write that with others\.storage\.networks\.save"):
        source.load_pretrained_model(tmp_path / "plain.pth")
    other = Model("prescribed", device="cpu")
    other.network.load_state_dict(torch.load(tmp_path / "plain.pth", weights_only=True))
    networks.save(tmp_path / "own.pth", "prescribed", other.network, {})
    third = Model("prescribed", device="cpu")
    third.load_pretrained_model(tmp_path / "own.pth")
    for key, value in third.network.state_dict().items():
        assert torch.equal(value, source.network.state_dict()[key])
