"""What is run: every experiment as a list of runs, each a name and what it changes in `USUAL`.

Where `data` is "default" it is the course's data if a folder of it is given, else the embedded synthetic images;
"photos" gives way to synthetic images in the same way. See README.md for the meaning of each field.
"""

import json
from itertools import product

RECIPE = {"name": "SGD", "lr": 10.0, "momentum": 0.9, "nesterov": True}  # as before Muon, for clipped gradients
PRESCRIBED = {"kind": "prescribed", "channels": (32, 64), "kernel_sizes": (3, 3)}
REDNET = {"kind": "rednet", "layers": ((32, 3, 1), (32, 3, 1), (64, 3, 2), (128, 3, 2))}
REDNET_OF_S0 = {"kind": "rednet", "layers": ((9, 3, 1),) * 4}
GENTLER = {"optimizer": {**RECIPE, "lr": 4.0}, "clip": 0.01}  # as the RED-Net had

USUAL = {
    "framework": "ours",
    "network": PRESCRIBED,
    "optimizer": RECIPE,
    "schedule": "onecycle",
    "clip": 0.02,
    "batch_size": 32,
    "augment": True,
    "precision": "fp32",
    "init": "default",
    "data": "default",
    "pairs": 50_000,
    "versions": 2,
    "targets": "noisy",
    "measure": (),
}


def plain(lr, **changes):
    """Gradient descent as the five reports have it: one rate, no momentum, no clipping, no flips."""
    return {"optimizer": {"name": "SGD", "lr": lr}, "schedule": "constant", "clip": None, "augment": False, **changes}


def constant(name, lr, **options):
    """An optimiser with one rate from beginning to end, gradients as they are."""
    return {"optimizer": {"name": name, "lr": lr, **options}, "schedule": "constant", "clip": None}


def muon(lr):
    """Muon as both denoisers train by it, but for the clipping, along one cycle."""
    return {**constant("Muon", lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"), "schedule": "onecycle"}


# ------------------------------------------------------------------------------------------------------ experiments


def s0_blocks():
    """Every block against its counterpart in torch: the largest differences."""
    from .blocks import BLOCKS

    for name, dtype in product(BLOCKS, ("float64", "float32")):
        yield f"{name} {dtype}", {"network": {"kind": "block", "name": name, "dtype": dtype}}


def s0_minutes():
    """What is reached in ten minutes of one core: the prescribed network, S0's RED-Net of 9 channels, and a larger."""
    measure = {"measure": ("ensemble",)}
    yield "prescribed", {"network": {**PRESCRIBED, "channels": (48, 96)}, **measure}
    yield "rednet", {"network": REDNET, **GENTLER, **measure}
    yield "rednet of 9 channels", {"network": REDNET_OF_S0, **GENTLER, **measure}


def s1_channels():
    """PSNR against the number of channels, with nearest upsampling + convolution, as S1 has it."""
    for channels in (8, 16, 32, 64, 128, 256):
        yield f"channels={channels}", {"network": {"kind": "nearest", "channels": channels}}


def s2_rates():
    """Learning rates of plain SGD on the mean squared error."""
    for lr in (0.01, 0.03, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0):
        yield f"lr={lr:g}", plain(lr, network={"kind": "nearest", "channels": 32})


def s3_shapes():
    """Kernel x stride x padding x dilation of all four layers; shapes that do not come back to 32 x 32 are marked."""
    for kernel_size, stride, padding, dilation in product((2, 3, 4), (1, 2), (0, 1), (1, 2)):
        shape = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        name = f"kernel={kernel_size} stride={stride} padding={padding} dilation={dilation}"
        yield name, {"network": {"kind": "four layers", "channels": (32, 64), **shape}}


def s3_curves():
    """Ours against torch.nn: the same network, initial weights and batches; and torch.nn in 64 bits, to tell how far
    rounding alone drives a training apart."""
    stride_one = {"kind": "four layers", "channels": (32, 64), "kernel_size": 2, "stride": 1, "padding": 1}
    networks = {
        "prescribed": {"network": PRESCRIBED},
        "stride one": {"network": {**stride_one, "dilation": 1}},
        "rednet of 9 channels": {"network": REDNET_OF_S0, **GENTLER},
    }
    for name, changes in networks.items():
        for framework in ("ours", "torch"):
            yield f"{name}, {framework}", {**changes, "framework": framework}
        yield f"{name}, torch in 64 bits", {**changes, "framework": "torch", "precision": "fp64"}


def s4_grid():
    """Batch size or channels, and rate of plain SGD, as in S4's search, but with rates ten times as large: a short
    training learns nothing at S4's."""
    for (batch_size, channels), lr in product(((32, 24), (32, 48), (128, 24), (512, 24)), (0.01, 0.1, 1.0)):
        network = {**PRESCRIBED, "channels": (channels, channels)}
        yield f"batch={batch_size} channels={channels} lr={lr:g}", plain(lr, batch_size=batch_size, network=network)


def s4_long():
    """A hundred epochs with S4's best choice, and the same network with momentum, clipping and one cycle."""
    network = {**PRESCRIBED, "channels": (144, 144)}
    yield "plain SGD, lr=0.1", plain(0.1, batch_size=16, network=network)
    yield "one cycle, momentum, clipped", {"batch_size": 16, "network": network}


def targets():
    """Noise2Noise against clean targets, and the number of pairs: the same noisy inputs, network and steps."""
    for pairs, target in product((500, 2_000, 10_000, 50_000), ("noisy", "clean")):
        changes = {"data": "photos", "pairs": pairs, "targets": target, "measure": ("floor",)}
        yield f"pairs={pairs} {target}", changes


def budget():
    """2,000 noisy images, spent in three ways (Lehtinen et al. 2018, "finite data and capture budget"): the mean of 19
    as the target of one; any two of the same 20; a new scene for every two."""
    usual = {"data": "photos", "batch_size": 20}  # which divides the numbers of scenes: all see as many images
    yield "100 scenes x 20, target their mean", {**usual, "pairs": 100, "versions": 20, "targets": "average"}
    yield "100 scenes x 20, target another", {**usual, "pairs": 100, "versions": 20}
    yield "1000 scenes x 2, target the other", {**usual, "pairs": 1_000}


def upsampling():
    """Transposed convolution against nearest + convolution, with the error's spectrum and the output for flat grey."""
    measure = {"measure": ("spectrum",)}
    for kernel_size in (2, 3, 4):
        sizes = {"channels": (48, 48), "kernel_sizes": (kernel_size, kernel_size)}
        yield f"transposed, kernel {kernel_size}", {"network": {"kind": "prescribed", **sizes}, **measure}
    yield "nearest + convolution", {"network": {"kind": "nearest", "channels": 48}, **measure}


def optimizers():
    """SGD, momentum and Adam, each at two rates throughout; then, and Muon, with the rate along one cycle."""
    for lr in (2.0, 8.0):
        yield f"SGD lr={lr:g}", constant("SGD", lr)
    for lr in (0.5, 2.0):
        yield f"momentum lr={lr:g}", constant("SGD", lr, momentum=0.9)
    for lr in (0.001, 0.004):
        yield f"Adam lr={lr:g}", constant("Adam", lr)
    yield "Adam lr=0.004, one cycle", {**constant("Adam", 0.004), "schedule": "onecycle"}
    for lr in (0.003, 0.01):
        yield f"Muon lr={lr:g}, one cycle", muon(lr)
    yield "Nesterov lr=10, clipped, one cycle", {}


def levels():
    """A RED-Net's layers: how many and how wide at each resolution, from the image's own down to an eighth of it."""
    inner = [(256,), (256,)]
    for widths in (
        [(64, 64), (128,), *inner],
        [(64,), (128,), *inner],
        [(64, 64, 64), (128,), *inner],
        [(32, 32), (128,), *inner],
        [(96, 96), (128,), *inner],
        [(128, 128), (128,), *inner],
        [(64, 64), (128, 128), *inner],
        [(64, 64), (192,), (384,), (256,)],
        [(64,), (192,), (384,), (256,)],
    ):
        layers = [
            (width, 3, 2 if level and not i else 1) for level, same in enumerate(widths) for i, width in enumerate(same)
        ]
        name = " / ".join(" ".join(map(str, same)) for same in widths)
        yield name, {"network": {"kind": "rednet", "layers": layers}, **muon(0.003)}


def initialisations():
    """Initial distributions of the weights."""
    for init in ("default", "kaiming_normal_", "kaiming_uniform_", "xavier_normal_", "xavier_uniform_", "tiny"):
        yield init.strip("_"), {"init": init}


def precision():
    """bf16 activations against fp32."""
    for name in ("fp32", "bf16"):
        yield name, {"precision": name}


def images():
    """Embedded synthetic images against photographs as training data, measured on both."""
    for data in ("generated", "course"):
        yield data, {"data": data, "pairs": 5_000, "measure": ("generated",)}


def shipped():
    """The shipped weights, once through and with self-ensemble, and a few synthetic images denoised by them."""
    for name in ("prescribed", "rednet"):
        yield name, {"network": {"kind": "shipped", "name": name}, "measure": ("ensemble", "pictures")}


#: experiment: its runs, {scale: (images an epoch, epochs, seeds)}; the most instructive for their time first
EXPERIMENTS = {
    "s0-blocks": (s0_blocks, {"full": (0, 0, 1)}),
    "shipped": (shipped, {"full": (0, 0, 1)}),
    "s2-rates": (s2_rates, {"full": (50_000, 10, 3), "medium": (10_000, 5, 1), "small": (2_000, 5, 1)}),
    "optimizers": (optimizers, {"full": (50_000, 10, 3), "medium": (10_000, 5, 1), "small": (2_000, 5, 1)}),
    "upsampling": (upsampling, {"full": (50_000, 20, 3), "medium": (10_000, 5, 1), "small": (2_000, 5, 1)}),
    "s3-curves": (s3_curves, {"full": (50_000, 10, 3), "medium": (5_000, 8, 1), "small": (1_000, 8, 1)}),
    "targets": (targets, {"full": (50_000, 20, 3), "medium": (10_000, 10, 1), "small": (4_000, 5, 1)}),
    "initialisations": (initialisations, {"full": (50_000, 10, 3), "medium": (10_000, 5, 1), "small": (2_000, 5, 1)}),
    "precision": (precision, {"full": (50_000, 10, 3), "medium": (10_000, 5, 3), "small": (2_000, 5, 3)}),
    "images": (images, {"full": (50_000, 20, 3), "medium": (10_000, 5, 1), "small": (4_000, 5, 1)}),
    "budget": (budget, {"full": (50_000, 10, 3), "medium": (10_000, 5, 3), "small": (4_000, 5, 1)}),
    "s4-grid": (s4_grid, {"full": (50_000, 20, 1), "medium": (10_000, 4, 1), "small": (1_000, 4, 1)}),
    "s1-channels": (s1_channels, {"full": (50_000, 30, 3), "medium": (5_000, 4, 1), "small": (1_000, 4, 1)}),
    "s0-minutes": (s0_minutes, {"full": (5_000, 10.0, 1), "medium": (5_000, 3.0, 1), "small": (1_000, 1.0, 1)}),
    "levels": (levels, {"full": (50_000, 10, 3), "medium": (10_000, 1, 1), "small": (2_000, 1, 1)}),
    "s3-shapes": (s3_shapes, {"full": (50_000, 5, 10), "medium": (2_500, 1, 10), "small": (1_000, 1, 10)}),
    "s4-long": (s4_long, {"full": (50_000, 100, 1), "medium": (2_000, 100, 1), "small": (96, 100, 1)}),
}
QUICK = (16, 1, 1)
BY_TIME = {"s0-minutes"}  # whose epochs are minutes
SCALES = ("quick", "small", "medium", "full")


def declared(experiment, scale):
    """Every run of an experiment at a scale, seed by seed: [{experiment, run, scale, config}], as JSON has them. What
    trains nothing has one scale, "full"."""
    runs, sizes = EXPERIMENTS[experiment]
    if len(sizes) == 1:
        scale = "full"
    images, epochs, seeds = QUICK if scale == "quick" else sizes[scale]
    length = {"images": images, "epochs": epochs, "minutes": None}
    if experiment in BY_TIME:
        length |= {"epochs": None, "minutes": 0.01 if scale == "quick" else epochs}
    found = [
        {"experiment": experiment, "run": f"{name}, seed {seed}", "scale": scale,
         "config": {**USUAL, **changes, **length, "seed": seed}}
        for seed in range(seeds) for name, changes in runs()
    ]  # fmt: skip
    return json.loads(json.dumps(found))
