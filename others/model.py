"""Model: the interface that the assignment fixes, with any of the networks."""

from __future__ import annotations

import operator
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from . import data, inference, nn, training
from .progress import Advance, tiles
from .storage import networks

HERE = Path(__file__).resolve().parent
PLACES = HERE / "bestmodel.pth", HERE.parent / "Miniproject_2" / "bestmodel.pth"  # installed; in the repository
SHIPPED = next(filter(Path.is_file, PLACES), PLACES[-1])
FINE_TUNING = 0.05  # of the rate from scratch: adapts to new noise within an epoch, keeps what was learnt
LARGEST_MULTIPLE = 256  # of pixels: images are extended to multiples of what the strides divide
CAMERA = "camera"  # the one for photographs
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Model:
    """A Noise2Noise denoiser: `load_pretrained_model`, `train`, `predict`.

    denoiser: "prescribed", "rednet", or "camera", for the noise of cameras; None takes the one in
    others/denoiser.py. device: where it computes, as torch.device; None takes CUDA when there is one. precision: of
    activations, "fp32" or "bf16", while parameters have 32 bits; None predicts in fp32, and trains in bf16 where the
    device has bf16 products, elsewhere in fp32. Raises ValueError for another denoiser, device or precision.

    Building and using a Model leaves torch's global state (random numbers, gradient mode, default dtype) as it was: a
    second Model begins with the weights of the first, unless `torch.manual_seed` comes between. autocast has no effect.
    Where other programs compute too, start Python with GOMP_SPINCOUNT=1000 in the environment, as the command line
    does: torch's threads spin while they wait for each other, and on a busy machine take minutes instead of seconds.
    """

    def __init__(
        self, denoiser: str | None = None, device: str | torch.device | None = None, precision: str | None = None
    ) -> None:
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"Model: expected precision to be one of {', '.join(PRECISIONS)}, got {precision!r}")
        self.device = usable(device)
        self.precision = precision
        self.denoiser = find_denoiser(denoiser)
        self.pretrained = False
        self._build()

    @property
    def module(self) -> ModuleType:
        """The module that defines the network: its Denoiser, NAME and RECIPE."""
        return denoisers()[self.denoiser]

    @property
    def dtype(self) -> torch.dtype:
        """Of the activations in `predict`."""
        return PRECISIONS[self.precision or "fp32"]

    @property
    def training_dtype(self) -> torch.dtype:
        """Of the activations in `train`."""
        return PRECISIONS[self.training_precision]

    @property
    def training_precision(self) -> str:
        """That of the activations in `train`: "fp32" or "bf16"."""
        return self.precision or ("bf16" if has_bf16_products(self.device) else "fp32")

    def _make(self, **arguments: Any) -> nn.Module:
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            return self.module.Denoiser(**arguments)

    def _build(self, **arguments: Any) -> None:
        self.network = self._make(**arguments).to(device=self.device, dtype=torch.float32).eval()

    def _expected(self, **arguments: Any) -> dict[str, torch.Tensor]:
        """The state of a network without memory for it: names and shapes."""
        with torch.device("meta"):
            network = self._make(**arguments)
        if not 1 <= network.multiple <= LARGEST_MULTIPLE:
            raise ValueError(f"expected strides of at most {LARGEST_MULTIPLE} in all, got {network.multiple}")
        return network.state_dict()

    def load_pretrained_model(self, path: Path | str = SHIPPED) -> None:
        """Load the weights for this denoiser from `path`: by default the shipped ones, Miniproject_2/bestmodel.pth.

        Raises FileNotFoundError without the file and CheckpointError if it is damaged or holds no matching weights;
        the Model then keeps the weights it had.
        """
        self.load_held(path, networks.held(path))

    def load_held(self, path: Path | str, every: dict[str, Any]) -> dict[str, Any]:
        """As `load_pretrained_model`, from what `networks.held` has read of the file. -> where the weights come from"""
        saved = networks.chosen(path, every, self.denoiser, self._expected)
        if saved["arguments"] != self.network.arguments:
            self._build(**saved["arguments"])
        self.network.load_state_dict(saved["state"])
        self.pretrained = True
        return saved["info"]

    def train(
        self,
        train_input: torch.Tensor,
        train_target: torch.Tensor,
        num_epochs: int = 1,
        *,
        validation: data.Pair | None = None,
        recipe: training.Recipe | None = None,
        progress: Callable[[training.Record], object] | bool | None = None,
        checkpoint: Path | str | None = None,
        workers: training.Workers = training.ALONE,
    ) -> list[training.Record]:
        """Train on pairs of noisy versions of the same images, pixels (N, 3, H, W), uint8 or float in 0-255.

        After `load_pretrained_model` the rate is low: the weights adapt to the given pairs and forget little.
        validation: (noisy, clean) pixels to measure PSNR A on after each epoch. recipe: a `training.Recipe`.
        progress: a function called with each epoch's `training.Record`; None or True prints what to expect of the loss
        and a line per epoch, and shows tqdm's bar on a terminal or in a notebook; False shows nothing. checkpoint: a
        file for the state of the training; if it is there, the training goes on from it, as if never interrupted.
        workers: the processes that train together (`training.joined`).

        Returns the list of records. Raises TypeError or ValueError for anything but two equal image tensors,
        num_epochs >= 0 and a recipe of numbers, CheckpointError for a file of another training, OSError for one that
        cannot be written or that another process is writing (BlockingIOError), and `training.Diverged` when the loss
        explodes: the weights are then the best so far. Note: the loss against noisy targets goes to the clean error
        plus the variance of the target's noise, not to zero.
        """
        data.check_pairs(train_input, train_target, "Model.train")
        if validation is not None:
            if not (isinstance(validation, (tuple, list)) and len(validation) == 2):
                given = f"{len(validation)} of them" if isinstance(validation, (tuple, list)) else repr(validation)
                raise TypeError(f"Model.train: expected validation to be a pair (noisy, clean), got {given}")
            noisy, clean = validation
            data.check_pairs(noisy, clean, "Model.train, validation")
            validation = data.computable(noisy), data.computable(clean)
        num_epochs, recipe = whole_epochs(num_epochs), in_plain_numbers(recipe or self.recipe())
        progress = None if progress is True else progress
        if progress and not callable(progress):
            raise TypeError(f"Model.train: expected progress to be a function, True, False or None, got {progress!r}")
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            pairs = data.computable(train_input.detach()), data.computable(train_target.detach())
            run = partial(training.fit, self.network, pairs, num_epochs, recipe, validation,
                          self.training_dtype, checkpoint=checkpoint, workers=workers)  # fmt: skip
            try:
                if progress is None:
                    return training.show(run, self.expectation(*pairs) if num_epochs else "")
                return training.collect(run(), progress)
            finally:
                self.network.eval()  # also when interrupted

    def expectation(self, first: torch.Tensor, second: torch.Tensor) -> str:
        """What to expect of training on these pairs, in words."""
        return f"{training.expectation(first, second)} Activations are in {self.training_precision}."

    def recipe(self) -> training.Recipe:
        """How `train` trains: the denoiser's recipe. For pretrained weights at a small part of its rate, and in batches
        twice as large: half of the optimiser's steps, whose time an epoch has to spare."""
        recipe = training.Recipe(**self.module.RECIPE)
        if not self.pretrained:
            return recipe
        return recipe._replace(lr=recipe.lr * FINE_TUNING, batch_size=2 * recipe.batch_size)

    def predict(
        self,
        test_input: torch.Tensor,
        self_ensemble: bool = False,
        on_tile: Advance | bool | None = None,
    ) -> torch.Tensor:
        """Denoise pixels (N, 3, H, W), uint8 or float in 0-255, of any height and width; large ones in tiles.

        Returns float32 pixels in [0, 255] of the same shape, on the device of the input. The input is not changed.
        self_ensemble averages over the 8 flips and quarter turns: a little better, eight times slower.
        on_tile(done, total) is called after every piece that was denoised; None or True shows progress on stderr when
        it takes longer than 2 seconds, False shows nothing.
        Raises TypeError or ValueError for anything but image tensors in 0-255 (floats may be beyond by what noise
        adds), and RuntimeError when the weights are so large that the result is not finite. Warns of floats that seem
        to be in 0-1 or normalised.
        """
        data.check_images(test_input, "Model.predict")
        on_tile = None if on_tile is True else on_tile
        shown = tiles("denoising") if on_tile is None else nullcontext(on_tile or None)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False), shown as advance:
            images = data.computable(test_input)
            return inference.denoise(self.network, images, self.dtype, self_ensemble, on_tile=advance)


def usable(device: str | torch.device | None) -> torch.device:
    """The device to compute on; None takes CUDA when there is one. Raises ValueError where torch cannot compute."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was compiled with CUDA
        why = str(error).splitlines()[0]
        raise ValueError(f"Model: expected a device that torch can compute on here, got {device!r} ({why}); choose "
                         "another, or None for what there is") from error  # fmt: skip
    return found


def has_bf16_products(device: torch.device) -> bool:
    """Whether a device multiplies bf16 by itself: a GPU, or a processor with AVX-512 BF16 or AMX. Elsewhere torch goes
    by way of 32 bits, which is slower than to begin with these."""
    if device.type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    able: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch does not tell
    return device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def whole_epochs(number: Any) -> int:
    """The number of epochs as Python's int; numpy's, for one, go into no checkpoint. Raises ValueError."""
    with suppress(TypeError):
        if not isinstance(number, bool) and operator.index(number) >= 0:
            return operator.index(number)
    raise ValueError(f"Model.train: expected num_epochs to be an integer >= 0, got {number!r}")


def in_plain_numbers(recipe: training.Recipe) -> training.Recipe:
    """The recipe with Python's float, int and str, as those of `training.Recipe`. Raises TypeError, and ValueError for
    numbers that are too small."""
    to_plain: dict[type, Callable[[Any], Any]] = {float: float, int: operator.index, bool: bool, str: str}
    kinds = {name: to_plain[type(default)] for name, default in training.Recipe._field_defaults.items()}
    try:
        recipe = recipe._replace(**{name: kind(getattr(recipe, name)) for name, kind in kinds.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise TypeError(f"Model.train: expected a training.Recipe of numbers, got {recipe!r} ({error})") from error
    if not (recipe.clip > 0 and recipe.batch_size >= 1 and recipe.micro_batch >= 1):
        raise ValueError(f"Model.train: expected a recipe's clip > 0, batch_size and micro_batch >= 1, got {recipe!r}")
    return recipe


def find_denoiser(name: str | None = None) -> str:
    """`name`, or for None that of the one in denoiser.py. Raises ValueError if there is no such one."""
    known = denoisers()
    if name is not None and name not in known:
        raise ValueError(f"Model: expected denoiser to be one of {', '.join(map(repr, known))}, got {name!r}")
    return next(iter(known)) if name is None else name


def suited(drawn: bool) -> str | None:
    """The denoiser for pictures whose pixels seem `drawn` from finer ones, or not (`diagnose.noise.look`): None for the
    one in denoiser.py, which there is always."""
    return CAMERA if not drawn and CAMERA in denoisers() else None


@cache
def denoisers() -> dict[str, ModuleType]:
    """{name: module} of those in denoiser.py, denoiser_bonus.py and denoiser_camera.py, as far as they are there."""
    known: dict[str, ModuleType] = {}
    for file in ("denoiser", "denoiser_bonus", "denoiser_camera"):
        if find_spec(f".{file}", __package__):
            module = import_module(f".{file}", __package__)
            known.setdefault(module.NAME, module)
    return known


denoisers()  # now: later another submission's others may have the name
