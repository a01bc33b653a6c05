"""Every public path with the network on one device and the images on another, both ways, without a GPU: the second
device is `second_device`. What comes out is what the CPU alone gives."""

import itertools
from functools import partial

import pytest
import torch
from second_device import FAR, SecondDevice

from Miniproject_2.model import Model
from others import cli, data, inference, nn, pictures, training
from others.diagnose import noise
from others.evaluation import metrics
from others.storage import checkpoint, networks
from others.training import run

CPU = torch.device("cpu")
NAMES = ("prescribed", "rednet")
each = pytest.mark.parametrize("name", NAMES)
PLACES = list(itertools.product((CPU, FAR), repeat=2))
both_ways = pytest.mark.parametrize("network, images", PLACES, ids=lambda place: place.type)
OPTIMIZERS = {
    "SGD": partial(nn.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": partial(nn.Adam, lr=0.01, amsgrad=True, weight_decay=0.01),
    "Muon": partial(nn.Muon, lr=0.01),
}


@pytest.fixture
def second():
    yield SecondDevice()
    nn.windows.free_workspaces()


@pytest.fixture
def twins(small):
    """twins(name, device): a Model on the CPU and one with its weights on the device."""

    def make(name, device, precision="fp32"):
        models = [Model(name, place, precision) for place in (CPU, device)]
        models[1].network.load_state_dict(models[0].network.state_dict())
        return models

    return make


@pytest.fixture
def there(second, pixels):
    """there(N, 3, H, W, seed, device): the same images on the CPU and on the device."""

    def make(*shape, seed=0, device=FAR, dtype=torch.uint8):
        images = pixels(*shape, seed=seed).to(dtype)
        return images, images.to(device)

    return make


def place_of(model):
    return {parameter.device.type for parameter in model.network.parameters()}


def close(first, second):
    """Pixels that differ by rounding: another device may sum in another order."""
    return torch.allclose(first, second, rtol=1e-5, atol=1e-3)


def same_weights(first, second):
    pairs = zip(first.network.parameters(), second.network.parameters())
    return all(torch.allclose(*(each.cpu() for each in pair), rtol=1e-3, atol=1e-5) for pair in pairs)


# ----------------------------------------------------------------------------------------- the second device itself

REFUSED = {
    "+": lambda near, far: near + far,
    "add_": lambda near, far: near.add_(far),
    "add_ to the other": lambda near, far: far.add_(near),
    "a number of the other": lambda near, far: near * far.sum(),
    "matrix product": lambda near, far: near @ far.t(),
    "addmm_": lambda near, far: near.new_zeros(4, 4).addmm_(far, near.t()),
    "cat": lambda near, far: torch.cat((near, far)),
    "where": lambda near, far: near.where(near > 0, far),
    "lerp_": lambda near, far: far.lerp_(near, 0.5),
    "indices of the other": lambda near, far: near[torch.arange(2).to(FAR)],
    "index_select": lambda near, far: far.index_select(0, torch.arange(2)),
    "index_add_": lambda near, far: far.index_add_(0, torch.arange(4).to(FAR), near),
    "new on the CPU": lambda near, far: far.new_zeros(4, 3, device="cpu") + far,
    "equal": torch.equal,
    "numpy": lambda near, far: far.numpy(),
}
ALLOWED = {
    "its own": (lambda near, far: far * far.sum() + far.new_ones(3), FAR),
    "a number of the CPU": (lambda near, far: far * near.sum(), FAR),
    "indices of the CPU": (lambda near, far: far[torch.arange(2)], FAR),
    "to": (lambda near, far: near.to(FAR) + far, FAR),
    "to another's": (lambda near, far: near.to(far) + far, FAR),
    "back": (lambda near, far: far.cpu() + near, CPU),
    "copy_": (lambda near, far: near.copy_(far), CPU),
    "copy_ to the other": (lambda near, far: far.copy_(near), FAR),
    "assignment": (lambda near, far: far.__setitem__(0, near[0]) or far, FAR),
    "another dtype": (lambda near, far: far.double(), FAR),
    "made there": (lambda near, far: torch.empty(3, device=far.device), FAR),
    "made like it": (lambda near, far: torch.zeros_like(far[:, 1:]), FAR),
    "data": (lambda near, far: setattr(near, "data", far) or near, FAR),
    "a column": (lambda near, far: torch.nn.functional.unfold(far.view(1, 1, 4, 3), 2), FAR),
}  # fmt: skip


@pytest.mark.parametrize("operation", REFUSED.values(), ids=REFUSED)
def test_the_second_device_refuses_what_cuda_refuses(second, operation):
    with second:
        near = torch.rand(4, 3)
        with pytest.raises((RuntimeError, TypeError), match=r"same device|numpy"):
            operation(near, near.to(FAR))


@pytest.mark.parametrize("operation, place", ALLOWED.values(), ids=ALLOWED)
def test_the_second_device_allows_what_cuda_allows(second, operation, place):
    with second:
        near = torch.rand(4, 3)
        assert operation(near, near.to(FAR)).device == place


# -------------------------------------------------------------------------------------------------------- predict


@each
@both_ways
@pytest.mark.parametrize("options", [{}, {"self_ensemble": True}], ids=["once", "self-ensemble"])
def test_predict(second, twins, there, name, network, images, options):
    with second:
        model, other = twins(name, network)
        assert place_of(other) == {network.type}
        for dtype in (torch.uint8, torch.float32, torch.float64):
            near, given = there(3, 3, 9, 14, device=images, dtype=dtype)
            output = other.predict(given, **options)
            assert output.device == images
            assert close(output.cpu(), model.predict(near, **options))


@each
@both_ways
def test_predict_in_tiles(second, twins, there, monkeypatch, name, network, images):
    monkeypatch.setattr(inference.denoise, "__defaults__", (*inference.denoise.__defaults__[:2], 900, None))
    with second:
        (model, other), (near, given), seen = twins(name, network), there(2, 3, 50, 61, device=images), []
        output = other.predict(given, on_tile=lambda *counts: seen.append(counts))
        assert output.device == images and len(seen) > 4
        assert close(output.cpu(), model.predict(near))


@each
@both_ways
def test_predict_in_bf16(second, twins, there, name, network, images):
    with second:
        (model, other), (near, given) = twins(name, network, "bf16"), there(2, 3, 8, 8, device=images)
        output = other.predict(given)
        assert output.device == images
        torch.testing.assert_close(output.cpu(), model.predict(near), rtol=0, atol=4)


@both_ways
def test_wrong_images_are_named_on_any_device(second, twins, there, network, images):
    with second:
        _, other = twins("prescribed", network)
        _, given = there(2, 3, 8, 8, device=images, dtype=torch.float32)
        for wrong in (given * torch.nan, given * 1e6, given[:, :1], given > 3):
            with pytest.raises((TypeError, ValueError), match=r"Model\.predict: expected"):
                other.predict(wrong)


def test_a_model_takes_the_gpu_when_there_is_one(second, small, pixels, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    with second:
        model = Model()
        assert place_of(model) == {"cuda"} and {gradient.device for _, gradient in model.network.param()} == {FAR}
        model.load_pretrained_model()
        assert place_of(model) == {"cuda"}
        assert model.predict(pixels(1, 3, 8, 8)).device == CPU


# ---------------------------------------------------------------------------------------------------------- train


@each
@both_ways
@pytest.mark.parametrize("optimizer", run.OPTIMIZERS)
def test_train_and_validation(second, twins, there, capsys, name, network, images, optimizer):
    """Two epochs with a short last batch, and what is shown meanwhile."""
    with second:
        model, other = twins(name, network)
        recipe = model.recipe()._replace(optimizer=optimizer, batch_size=4)
        pairs, given = zip(there(6, 3, 8, 8, device=images), there(6, 3, 8, 8, seed=1, device=images))
        validation, measured = zip(there(3, 3, 9, 7, seed=2, device=images), there(3, 3, 9, 7, seed=3, device=images))
        (expected, text), (found, told) = (
            (trained.train(*of, 2, recipe=recipe, validation=against), capsys.readouterr().out)
            for trained, of, against in ((model, pairs, validation), (other, given, measured))
        )
        for one, same in zip(found, expected, strict=True):
            assert (one.loss, one.psnr) == pytest.approx((same.loss, same.psnr), rel=1e-4)
        assert same_weights(model, other) and place_of(other) == {network.type}
        assert told.splitlines()[0] == text.splitlines()[0]  # what to expect of the loss


@pytest.mark.parametrize("network, first, second_version", list(itertools.product((CPU, FAR), repeat=3)))
def test_pairs_may_lie_apart(second, twins, there, network, first, second_version):
    """The two versions, and noisy and clean pixels of the validation, on different devices."""
    with second:
        model, other = twins("prescribed", network)
        versions = there(6, 3, 8, 8, device=first), there(6, 3, 8, 8, seed=1, device=second_version)
        records = []
        for trained, place in ((model, 0), (other, 1)):
            pair = [version[place] for version in versions]
            records.append(trained.train(*pair, 2, validation=pair, progress=None)[-1])
        assert same_weights(model, other)
        assert records[1][2::3] == pytest.approx(records[0][2::3], rel=1e-4)  # loss, PSNR


@pytest.mark.parametrize("first, then", PLACES, ids=lambda place: place.type)
@pytest.mark.parametrize("optimizer", run.OPTIMIZERS)
def test_a_training_goes_on_on_another_device(second, twins, there, tmp_path, first, then, optimizer):
    class Stopped(Exception):
        pass

    def stop(_):
        raise Stopped

    with second:
        (model, started), (_, resumed) = twins("prescribed", first), twins("prescribed", then)
        resumed.network.load_state_dict(model.network.state_dict())
        recipe = model.recipe()._replace(optimizer=optimizer, batch_size=4)
        pairs, given = zip(there(6, 3, 8, 8), there(6, 3, 8, 8, seed=1))
        expected = model.train(*pairs, 3, recipe=recipe, progress=False)
        with pytest.raises(Stopped):
            started.train(*pairs, 3, recipe=recipe, checkpoint=tmp_path / "state", progress=stop)
        found = resumed.train(*given, 3, recipe=recipe, checkpoint=tmp_path / "state", progress=False)
        losses = [record.loss for record in expected[1:]]
        assert [record.loss for record in found] == pytest.approx(losses, rel=1e-4)
        assert same_weights(model, resumed) and place_of(resumed) == {then.type}


@both_ways
def test_a_diverged_training_says_so_on_any_device(second, twins, there, network, images):
    with second:
        _, other = twins("prescribed", network)
        pair = there(8, 3, 8, 8, device=images)[1], there(8, 3, 8, 8, seed=1, device=images)[1]
        before = {name: value.clone() for name, value in other.network.state_dict().items()}
        with pytest.raises(run.Diverged):
            other.train(*pair, 2, recipe=other.recipe()._replace(lr=1e30, batch_size=2), progress=False)
        assert all(torch.equal(before[name], value) for name, value in other.network.state_dict().items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("saved_on, loaded_on", PLACES, ids=lambda place: place.type)
def test_optimisers(second, small, tmp_path, optimizer, saved_on, loaded_on):
    """Steps, state saved on one device and loaded on another, and steps again: those of the CPU."""
    with second:
        networks = [Model("prescribed", CPU).network]
        networks += [Model("prescribed", place).network for place in (saved_on, loaded_on)]
        for network in networks[1:]:
            network.load_state_dict(networks[0].state_dict())
        expected, first, then = (OPTIMIZERS[optimizer](network) for network in networks)

        def step(network, optimizer, seed):
            generator = torch.Generator().manual_seed(seed)
            for _, gradient in network.param():
                gradient.copy_(torch.randn(gradient.shape, generator=generator))
            optimizer.step()

        for seed in range(3):
            step(networks[0], expected, seed)
        step(networks[1], first, 0)
        checkpoint.save(tmp_path / "state", {"optimizer": first.state_dict(), "weights": networks[1].state_dict()})
        state = checkpoint.load(tmp_path / "state")
        then.load_state_dict(state["optimizer"])
        networks[2].load_state_dict(state["weights"])
        for seed in (1, 2):
            step(networks[2], then, seed)
        for parameter, other in zip(networks[0].parameters(), networks[2].parameters()):
            assert torch.equal(parameter, other.cpu()) and other.device.type == loaded_on.type


# --------------------------------------------------------------------------------------- weights, metrics, commands


@each
@pytest.mark.parametrize("saved_on, loaded_on", PLACES, ids=lambda place: place.type)
def test_weights_saved_on_either_device_load_on_either(second, small, there, tmp_path, name, saved_on, loaded_on):
    with second:
        model, other = Model(name, saved_on), Model(name, loaded_on)
        networks.save(tmp_path / "w.pth", name, model.network, {})
        other.load_pretrained_model(tmp_path / "w.pth")
        assert same_weights(model, other) and place_of(other) == {loaded_on.type}
    content = checkpoint.load(tmp_path / "w.pth")["denoisers"][name]["state"]
    assert {value.device for value in content.values()} == {CPU}


@pytest.mark.parametrize("output, clean", PLACES, ids=lambda place: place.type)
def test_metrics(second, there, output, clean):
    with second:
        a, given = there(2, 3, 8, 8, device=output, dtype=torch.float32)
        b, other = there(2, 3, 8, 8, seed=1, device=clean, dtype=torch.float32)
        for metric in (metrics.psnr_a, metrics.psnr_b):
            assert metric(given / 255, other / 255) == metric(a / 255, b / 255)
        assert metrics.psnr_per_image(given / 255, other / 255).device == output
        assert training.noise_variance(given, other, 2) == training.noise_variance(a, b, 2)


@pytest.mark.parametrize("place", [CPU, FAR], ids=["cpu", "cuda"])
def test_the_noise_is_looked_at_on_any_device(second, there, place):
    with second:
        a, given = there(1, 3, 40, 40, device=place)
        assert [*noise.look(given)] == pytest.approx([*noise.look(a)], rel=1e-5)


@pytest.fixture
def command(second, tmp_path, monkeypatch, small):
    """command(*arguments) on the second device, in tmp_path; it holds data/ with pairs, and pictures noisy, clean."""
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    (tmp_path / "data").mkdir()
    torch.save(data.generated_pairs(8), tmp_path / "data" / "train_data.pkl")
    torch.save(data.generated_validation(4), tmp_path / "data" / "val_data.pkl")
    for kind, images in zip(("noisy", "clean"), data.generated_validation(3)):
        (tmp_path / kind).mkdir()
        for number, image in enumerate(images):
            pictures.write(tmp_path / kind / f"{number}.png", pictures.Picture("PNG", [image.permute(1, 2, 0)], {}))
    model = Model("prescribed", CPU)
    networks.save(tmp_path / "w.pth", "prescribed", model.network, {})

    def run_command(*arguments):
        with second:
            return cli.main(list(arguments))

    return run_command


def decoded(path):
    return next(iter(pictures.read(path).pages))


COMMANDS = {
    "denoise": ["denoise", "noisy", "-o", "out", "--weights", "w.pth", "--self-ensemble", "--compare"],
    "evaluate": ["evaluate", "noisy", "clean", "--weights", "w.pth", "--csv", "scores.csv", "--json", "scores.json"],
    "evaluate a data file": ["evaluate", "data/val_data.pkl", "--weights", "w.pth"],
    "train": ["train", "--data", "data", "-o", "own.pth", "--epochs", "2", "--resume", "--csv", "log.csv"],
    "train on": ["train", "--data", "data", "-o", "own.pth", "--epochs", "1", "--weights", "w.pth"],
    "info": ["info", "--weights", "w.pth"],
    "export": ["export", "--onnx", "w.onnx", "--weights", "w.pth"],
}  # fmt: skip


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_commands(command, second, monkeypatch, tmp_path, arguments):
    """By default on the second device; what is written is what --device cpu writes."""
    if arguments[0] == "export":
        pytest.importorskip("onnx")
    places, predicted = set(), Model.predict
    monkeypatch.setattr(Model, "predict", lambda self, *rest: places.update(place_of(self)) or predicted(self, *rest))
    assert command(*arguments) == 0
    assert places == ({"cuda"} if arguments[0] in ("denoise", "evaluate") else set())
    if arguments[0] == "denoise":
        images = {path: decoded(path) for path in (tmp_path / "out").rglob("*.png")}
        assert len(images) == 6 and command(*arguments, "--device", "cpu", "--force") == 0
        assert all((decoded(path).int() - image).abs().max() <= 1 for path, image in images.items())
