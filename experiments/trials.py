"""One run: its data, its network in either framework, epochs of minibatches, and what is measured after each."""

import base64
import time
from functools import lru_cache
from itertools import islice
from math import ceil, cos, inf, isfinite, pi
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.speed import four_layers, in_torch, upsampling_network
from others import data, denoiser, denoiser_bonus, inference, nn, training
from others.data import noises
from others.evaluation import metrics
from others.model import PRECISIONS, Model

from .blocks import differences

VALIDATION = 150  # synthetic images


# ------------------------------------------------------------------------------------------------------------- data


class Places(NamedTuple):
    """Where the data is: folders or None, a folder for what is made once, and how much of it there is at most."""

    course: Path | None = None
    photos: Path | None = None
    cache: Path | None = None
    most: int | None = None


class Scenes(NamedTuple):
    """Training images: `versions` noisy ones of each, pixels (N, 3, 32, 32), and the clean ones or None."""

    versions: tuple
    clean: torch.Tensor | None


def kept(make):
    """make(places, *arguments) -> tensors, kept in memory, and in a file where there is a cache."""

    def load(places, *arguments):
        if places.cache is None:
            return make(places, *arguments)
        name = "-".join(["scenes", make.__name__, *(str(argument).lower() for argument in arguments)])
        path = places.cache / f"{name}.pt"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            unique = path.with_suffix(f".{time.time_ns()}")
            torch.save(make(places, *arguments), unique)
            unique.replace(path)
        return torch.load(path, weights_only=True)

    return lru_cache(maxsize=1)(load)


@kept
def generated(places, count, versions, clean, start=0):
    """`versions` noisy ones of `count` synthetic scenes, then the clean ones."""
    return data.generated(count, versions, clean, start=start)


@kept
def photos(places, count, versions, clean):
    """`versions` noisy ones of `count` random crops of photographs, then the clean ones. More crops begin with the same
    as fewer."""
    files, size, cell = data.photo_files(places.photos), noises.SIZE, noises.CELL
    images = [torch.empty(count, 3, size, size, dtype=torch.uint8) for _ in range(versions + clean)]
    for number, file in enumerate(files[:count]):
        photo, generator = data.load_photo(file, size * cell), torch.Generator().manual_seed(number)
        for place in range(number, count, len(files)):
            crop = noises.random_crop(photo, size * cell, generator).contiguous()
            made = [*corrupted(crop, versions, generator), noises.cell_means(crop, cell).round().to(torch.uint8)]
            for target, image in zip(images, made):
                target[place] = image
    return images


def corrupted(crop, versions, generator):
    """Noisy versions (3, 32, 32) of a crop; the simulation makes them in pairs."""
    pairs = (noises.subsample_photo(crop, 1, noises.SIZE, noises.CELL, generator)
             for _ in range(ceil(versions / 2)))  # fmt: skip
    return [version[0] for pair in pairs for version in pair][:versions]


@lru_cache(maxsize=1)
def course(folder):
    return data.load_pairs(folder / "train_data.pkl", mmap=True)


def training_scenes(config, places):
    """The scenes of a run: the first `pairs` of its source."""
    count = min(config["pairs"], places.most or inf)
    if config["data"] == "course":
        return Scenes(tuple(version[:count] for version in course(places.course)), None)
    make = {"photos": photos, "generated": generated}[config["data"]]
    with_clean = config["targets"] == "clean" or "floor" in config["measure"]
    versions = config["versions"]
    images = make(places, count, versions, with_clean)
    return Scenes(tuple(images[:versions]), images[versions] if with_clean else None)


@lru_cache(maxsize=2)
def validation_pairs(places, source):
    """(noisy, clean) pixels that nothing is trained on."""
    if source == "course":
        noisy, clean = data.load_pairs(places.course / "val_data.pkl")
    else:
        noisy, clean = generated(places, min(VALIDATION, places.most or inf), 1, True, 10**9)
    return noisy[: places.most], clean[: places.most]


def noise_variance(scenes):
    """Of a noisy version, in units of [0, 1]: half the mean squared difference of two."""
    return training.noise_variance(*scenes.versions[:2], count=5000)


def minibatches(count, batch_size, generator):
    """Indices without end: all of them in a random order, then all in another."""
    while True:
        yield from torch.randperm(count, generator=generator).split(batch_size)


def minibatch(scenes, index, config, generator):
    """(input, target) pixels; with `augment` any version is the input, and both are flipped and turned alike."""
    first, second = 0, 1
    if config["augment"]:
        first, second = torch.randperm(len(scenes.versions), generator=generator)[:2].tolist()
    if config["targets"] == "clean":
        target = scenes.clean[index]
    elif config["targets"] == "average":
        target = sum(version[index].float() for i, version in enumerate(scenes.versions) if i != first)
        target = target / (len(scenes.versions) - 1)
    else:
        target = scenes.versions[second][index]
    pair = scenes.versions[first][index], target
    if not config["augment"]:
        return pair
    turns, mirror = torch.randint(4, (), generator=generator), torch.randint(2, (), generator=generator)
    return tuple(inference.transform(images, int(turns), bool(mirror)) for images in pair)


# ---------------------------------------------------------------------------------------------------------- networks


def shipped(name):
    model = Model(name, device="cpu")
    model.load_pretrained_model()
    return model.network


KINDS = {"prescribed": denoiser.Denoiser, "rednet": denoiser_bonus.Denoiser, "four layers": four_layers,
         "nearest": upsampling_network, "shipped": shipped}  # fmt: skip


def build(config):
    """The network of a configuration, with its initial weights; the seed decides them."""
    arguments = dict(config["network"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        network = KINDS[arguments.pop("kind")](**arguments)
        if config["init"] != "default":
            initialise(network, config["init"])
    return network


def initialise(network, how):
    """Weights from a distribution of `nn.init`, or nearly zero ("tiny"); biases zero."""
    for parameter in network.parameters():
        if parameter.dim() < 2:
            parameter.zero_()
        elif how == "tiny":
            parameter.normal_(0, 0.001)
        else:
            options = {"nonlinearity": "relu"} if how.startswith("kaiming") else {"gain": nn.init.gain("relu")}
            getattr(nn.init, how)(parameter, **options)


def check(network):
    """Raise ValueError unless images come back in the size they had."""
    size = (1, 3, noises.SIZE, noises.SIZE)
    try:
        shape = tuple(network.eval().forward(torch.zeros(size)).shape)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"incompatible: {error}") from error
    if shape != size:
        raise ValueError(f"incompatible: {size[2]} x {size[3]} comes back as {shape[2]} x {shape[3]}")


def optimizer(namespace, parameters, name, **options):
    return getattr(namespace, name)(parameters, **options)


class Ours:
    """A network of this project, trained and asked."""

    def __init__(self, network, config):
        self.network, self.dtype = network, PRECISIONS[config["precision"]]
        self.optimizer = optimizer(nn, network, **config["optimizer"])
        self.recipe = training.Recipe(clip=config["clip"] or inf)

    def step(self, input, target):
        self.network.train()
        return training.train_step(self.network, self.optimizer, input, target, self.recipe, self.dtype)

    def pairs(self):
        return self.network.param()

    def denoise(self, pixels, self_ensemble=False):
        return inference.denoise(self.network.eval(), pixels, self.dtype, self_ensemble)


class Torchs:
    """The same network in torch.nn, with the same weights; autograd, torch.optim, torch's clipping."""

    def __init__(self, network, config):
        self.dtype = torch.float64 if config["precision"] == "fp64" else torch.float32
        self.network = in_torch(network).to(self.dtype, memory_format=torch.channels_last)
        self.optimizer = optimizer(torch.optim, self.network.parameters(), **config["optimizer"])
        self.clip = config["clip"]

    def step(self, input, target):
        with torch.enable_grad():
            self.optimizer.zero_grad()
            input, target = (data.to_unit(pixels, dtype=self.dtype) for pixels in (input, target))
            loss = torch.nn.functional.mse_loss(self.network(input), target)
            loss.backward()
            if self.clip:
                torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
            self.optimizer.step()
        return loss.item()

    def pairs(self):
        return [(parameter.detach(), parameter.grad) for parameter in self.network.parameters()]

    def denoise(self, pixels):
        with torch.no_grad():
            return data.to_pixels(self.network(data.to_unit(pixels, dtype=self.dtype)))


FRAMEWORKS = {"ours": Ours, "torch": Torchs}


# ------------------------------------------------------------------------------------------------------------ running


def epochs(run, places):
    """Yield the fields of each line of a run that `run.py` does not know; see README.md."""
    config = run["config"]
    if config["network"]["kind"] == "block":
        found = differences(config["network"]["name"], config["network"]["dtype"])
        yield {"epoch": 0, **measured(None), "differences": found, "done": True}
        return
    try:
        network = build(config)
        check(network)
    except ValueError as error:
        yield {"epoch": 0, **measured(None), "failure": str(error), "done": True}
        return
    trainee = FRAMEWORKS[config["framework"]](network, config)
    validation = validation_pairs(places, config["validation"])
    first = {"epoch": 0, **measured(psnr(trainee, *validation))}
    if config["epochs"] == 0:
        yield {**first, **extras(config["measure"], trainee, places, validation, None), "done": True}
        return
    scenes = training_scenes(config, places)
    clean = config["targets"] == "clean"
    yield {**first, "noise_variance": None if clean else noise_variance(scenes), "done": False}
    yield from trained(trainee, scenes, config, places, validation)


def trained(trainee, scenes, config, places, validation):
    """The lines of the epochs from 1."""
    count, base = len(scenes.versions[0]), config["optimizer"]["lr"]
    generator = torch.Generator().manual_seed(config["seed"])
    stream = minibatches(count, config["batch_size"], generator)
    steps, progress = ceil(config["images"] / config["batch_size"]), Progress(config)
    epoch = images = 0
    while progress.now < 1:
        total = seen = 0
        clock, cpu = time.perf_counter(), time.process_time()
        for index in islice(stream, steps):
            for group in trainee.optimizer.param_groups:
                group["lr"] = base * factor(config["schedule"], progress.now)
            loss = trainee.step(*minibatch(scenes, index, config, generator))
            total, seen = total + loss * len(index), seen + len(index)
            progress.step()
            if not isfinite(loss):
                break
        times = time.perf_counter() - clock, time.process_time() - cpu
        epoch, images, loss = epoch + 1, images + seen, total / seen
        failed = not (isfinite(loss) and all(p.isfinite().all() for p in trainee.network.parameters()))
        line = {"epoch": epoch, "images": images, "done": failed or progress.now >= 1}
        if failed:
            yield {
                **line,
                **measured(None, *times),
                "failure": f"diverged: after {images} images the loss is not finite",
            }
            return
        line |= measured(psnr(trainee, *validation), *times, loss=loss) | norms(trainee.pairs())
        wanted = config["measure"] if line["done"] else EACH_EPOCH.intersection(config["measure"])
        yield {**line, **extras(wanted, trainee, places, validation, scenes)}


class Progress:
    """From 0 to 1 over the steps of the run, or over its minutes of processor time."""

    def __init__(self, config):
        self.minutes, self.done, self.started = config["minutes"], 0, time.process_time()
        self.steps = ceil(config["images"] / config["batch_size"]) * (config["epochs"] or 0)
        self.now = 0.0

    def step(self):
        self.done += 1
        spent = (time.process_time() - self.started) / 60
        self.now = min(1.0, spent / self.minutes if self.minutes else self.done / self.steps)


def factor(schedule, progress):
    """Of the declared rate: 1, or up from 1/25 for a tenth of the way and down along a cosine to nearly 0."""
    if schedule == "constant":
        return 1.0
    if progress < 0.1:
        return 0.04 + 0.96 * progress / 0.1
    return max(1e-4, (1 + cos(pi * (progress - 0.1) / 0.9)) / 2)


# ---------------------------------------------------------------------------------------------------------- measuring


def measured(psnrs, seconds=0.0, cpu_seconds=0.0, loss=None):
    a, b = psnrs or (None, None)
    return {"loss": loss, "psnr_a": a, "psnr_b": b, "seconds": seconds, "cpu_seconds": cpu_seconds}


def norms(pairs):
    """Of all weights and of the last step's gradient as it was applied, so clipped if there is a `clip`."""
    weight, gradient = (torch.stack([tensor.norm() for tensor in tensors]).norm().item() for tensors in zip(*pairs))
    return {"weight_norm": weight, "gradient_norm": gradient}


def psnr(trainee, noisy, clean, **options):
    """PSNR A and B of the denoised images."""
    output, clean = trainee.denoise(noisy, **options) / 255, clean.float() / 255
    return metrics.psnr_a(output, clean), metrics.psnr_b(output, clean)


def extras(names, *of):
    """What a run's `measure` asks for."""
    return {key: value for name in names for key, value in MEASURES[name](*of).items()}


def ensemble(trainee, places, validation, scenes):
    return dict(zip(("ensemble_a", "ensemble_b"), psnr(trainee, *validation, self_ensemble=True)))


def on_generated(trainee, places, validation, scenes):
    return dict(zip(("generated_a", "generated_b"), psnr(trainee, *validation_pairs(places, "generated"))))


def spectrum(trainee, places, validation, scenes):
    """Mean power of the error at 17 x 17 frequencies, 0 to 1/2 cycle per pixel, in units of [0, 1]; and what a flat
    grey image comes back with in its middle: the standard deviation, in pixel values."""
    noisy, clean = validation
    error = (trainee.denoise(noisy) - clean.float()) / 255
    power = torch.fft.rfft2(error, norm="ortho").abs().square().mean((0, 1))  # (32, 17)
    half = power.shape[0] // 2
    power[1:half] = (power[1:half] + power[half + 1 :].flip(0)) / 2
    flat = trainee.denoise(torch.full((1, 3, 64, 64), 128.0))[:, :, 16:48, 16:48]
    return {"spectrum": [[float(f"{value:.4g}") for value in row] for row in power[: half + 1].tolist()],
            "flat_deviation": float(flat.std((2, 3)).mean())}  # fmt: skip


def floor(trainee, places, validation, scenes, count=2000):
    """The mean squared error of training images against their noisy and their clean targets, and of these two: the
    first is the sum of the others as long as the network does not know the noise of the targets."""
    noisy, other = (version[:count] for version in scenes.versions[:2])
    output, other, clean = (images.float() / 255 for images in (trainee.denoise(noisy), other, scenes.clean[:count]))
    pairs = {"loss": (output, other), "error": (output, clean), "variance": (other, clean)}
    return {"floor": {name: float((one - two).square().mean()) for name, (one, two) in pairs.items()}}


def pictures(trainee, places, validation, scenes, count=4):
    """A few synthetic images: shape, and uint8 in base64."""
    noisy, clean = (images[:count] for images in validation_pairs(places, "generated"))
    denoised = trainee.denoise(noisy).round().to(torch.uint8)
    images = {"noisy": noisy, "denoised": denoised, "clean": clean}
    coded = {name: base64.b64encode(bytes(image.flatten().tolist())).decode() for name, image in images.items()}
    return {"pictures": {"shape": list(noisy.shape), **coded}}


EACH_EPOCH = {"floor"}
MEASURES = {"ensemble": ensemble, "floor": floor, "generated": on_generated, "spectrum": spectrum, "pictures": pictures}
