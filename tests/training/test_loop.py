"""The training loop against torch: autograd, torch.optim.SGD, clip_grad_norm_, OneCycleLR."""

import sys

import pytest
import torch
from comparison import mirrored_pad, prescribed_in_torch
from torch import nn

from others import denoiser, denoiser_bonus
from others.evaluation.metrics import psnr_a
from others.inference import denoise
from others.nn import SGD
from others.training import Recipe, fit, loop, train_step
from others.training.loop import augment


def tiny(module=denoiser):
    """The same small network every time."""
    with torch.random.fork_rng():
        torch.manual_seed(1)  # an initialisation in which every layer learns
        if module is denoiser:
            return denoiser.Denoiser(channels=(8, 12))
        return denoiser_bonus.Denoiser(layers=((8, 3, 1), (12, 3, 2)))


def in_torch(network):
    """The prescribed network `tiny()` in torch.nn, with the same weights."""
    twin = prescribed_in_torch()
    twin.load_state_dict(network.state_dict())
    return twin


def torch_step(twin, optimizer, noisy, other, clip):
    """The reference: one step of torch on the mean squared error. -> loss, gradient's norm before clipping"""
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(twin(noisy.float() / 255), other.float() / 255)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(twin.parameters(), clip)
    optimizer.step()
    return loss.item(), norm.item()


def bright(pixels):
    """Targets far from what an untrained network gives: gradients large enough to be clipped."""
    return 191 + pixels // 4


def weights(network):
    return {name: parameter.clone() for name, parameter in network.named_parameters()}


def assert_same(network, expected, **tolerance):
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(
            parameter.detach(), expected[name].detach(), msg=lambda m, name=name: f"{name}: {m}", **tolerance
        )


def straight(first, second, generator, swap):
    """Instead of `augment`: nothing is flipped, turned or swapped, and no random number is drawn."""
    return first, second


EXACT = {"rtol": 0, "atol": 0}

# ----------------------------------------------------------------------------------------------------- one step


@pytest.mark.parametrize("clip", [0.02, 1e9], ids=["clipped", "free"])
def test_steps_equal_torch(pixels, clip):
    """Three steps, so that the momentum counts."""
    network, lr = tiny().train(), 0.5
    twin = in_torch(network)
    optimizer = SGD(network.param(), lr, 0.9, nesterov=True)
    theirs = torch.optim.SGD(twin.parameters(), lr, 0.9, nesterov=True)
    recipe = Recipe(lr, 0.9, clip, batch_size=5, micro_batch=2)
    before = weights(network)
    for seed in range(3):
        batch = pixels(5, 3, 8, 12, seed=seed), bright(pixels(5, 3, 8, 12, seed=seed + 10))
        loss = train_step(network, optimizer, *batch, recipe)
        expected, norm = torch_step(twin, theirs, *batch, clip)
        assert float(loss) == pytest.approx(expected, abs=1e-6)
        assert (norm > 1.5 * clip) == (clip < 1)  # it does clip
    assert_same(network, dict(twin.named_parameters()), rtol=1e-6, atol=1e-6)
    assert all((parameter - before[name]).abs().max() > 1e-4 for name, parameter in network.named_parameters())


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 6, 7, 100])
@pytest.mark.parametrize("module", [denoiser, denoiser_bonus])
def test_micro_batches_of_any_size_give_the_same_gradient(pixels, module, micro_batch):
    batch = pixels(7, 3, 8, 8), pixels(7, 3, 8, 8, seed=1)
    results = []
    for size in (7, micro_batch):
        network = tiny(module).train()
        loss = train_step(network, SGD(network.param(), 0.0), *batch, Recipe(clip=1e9, micro_batch=size))
        results.append((loss, [gradient for _, gradient in network.param()]))
    (loss, gradients), (loss_in_parts, gradients_in_parts) = results
    torch.testing.assert_close(loss_in_parts, loss, rtol=1e-5, atol=1e-7)
    for whole, in_parts in zip(gradients, gradients_in_parts):
        torch.testing.assert_close(in_parts, whole, rtol=1e-4, atol=1e-7)


def test_gradients_of_the_last_step_do_not_leak_into_the_next(pixels):
    batch = pixels(2, 3, 8, 8), pixels(2, 3, 8, 8, seed=1)
    network = tiny().train()
    optimizer, seen = SGD(network.param(), 0.0), []
    for _ in range(2):
        train_step(network, optimizer, *batch, Recipe(clip=1e9))
        seen.append([gradient.clone() for _, gradient in network.param()])
    assert all(torch.equal(first, second) for first, second in zip(*seen))


def test_clip_is_over_the_whole_gradient():
    """Gradients 3 and 4 have norm 5."""
    gradients = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    optimizer = SGD([(torch.zeros_like(g), g) for g in gradients], 0.1)
    loop.clip_gradients(optimizer, 10)
    assert [g.item() for g in gradients] == [3, 4]
    loop.clip_gradients(optimizer, 1)
    assert [g.item() for g in gradients] == pytest.approx([0.6, 0.8])
    for gradient in gradients:
        gradient.zero_()
    loop.clip_gradients(optimizer, 1)
    assert [g.item() for g in gradients] == [0, 0]


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (6, 9)])
@pytest.mark.parametrize("module", [denoiser, denoiser_bonus])
def test_odd_sizes_train_on_their_own_pixels(pixels, module, size):
    """The loss counts the images' pixels only, and its gradient is that of predicting them: a difference quotient."""
    batch = pixels(3, 3, *size), pixels(3, 3, *size, seed=1)
    network = tiny(module).to(torch.float64).train()
    train_step(network, SGD(network.param(), 0.0), *batch, Recipe(clip=1e9, micro_batch=2), torch.float64)

    def loss():
        height, width = size
        margins = (0, -width % network.multiple, 0, -height % network.multiple)
        unit, other = (version.float().div(255).double() for version in batch)
        output = network.forward(mirrored_pad(unit, margins))[:, :, :height, :width]
        return (output - other).square().mean()

    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in network.parameters()]
    slope = sum((gradient * d).sum() for (_, gradient), d in zip(network.param(), directions))
    values = []
    for step in (1e-5, -2e-5):
        for parameter, direction in zip(network.parameters(), directions):
            parameter.add_(direction, alpha=step)
        values.append(loss())
    torch.testing.assert_close(slope, (values[0] - values[1]) / 2e-5, rtol=1e-3, atol=1e-6)


# ---------------------------------------------------------------------------------------------------- augmenting


def marked(height, width):
    """Every value of the first version says where it is; the second is 255 minus the first."""
    first = torch.arange(3 * height * width, dtype=torch.uint8).view(1, 3, height, width)
    return first, 255 - first


@pytest.mark.parametrize("size, ways", [((8, 8), 8), ((4, 12), 4)], ids=["square", "wide"])
def test_augment_keeps_pairs_aligned_and_reaches_every_orientation_and_order(size, ways):
    first, second = marked(*size)
    generator, seen = torch.Generator().manual_seed(0), {}
    for _ in range(400):
        a, b = augment(first, second, generator)
        assert a.shape == b.shape == first.shape
        assert (a.int() + b.int() == 255).all()  # the same pixel at the same place
        swapped = a[0, 0].min() > 3 * size[0] * size[1] - 1 or a[0, 0].max() > 255 - size[0] * size[1]
        original = b if swapped else a
        assert torch.equal(original.flatten().sort().values, first.flatten())
        assert torch.equal(original[0, 1], original[0, 0] + size[0] * size[1])  # channels stay where they are
        seen.setdefault((tuple(original[0, 0].flatten().tolist()), bool(swapped)), 0)
        seen[tuple(original[0, 0].flatten().tolist()), bool(swapped)] += 1
    assert len(seen) == 2 * ways
    share = 1 / len(seen)
    assert all(abs(n - 400 * share) < 5 * (400 * share * (1 - share)) ** 0.5 for n in seen.values())
    assert torch.equal(first, marked(*size)[0])


def test_augment_without_swap_turns_as_with_it():
    first, second = marked(8, 8)
    generators, swapped = [torch.Generator().manual_seed(0) for _ in range(2)], 0
    for _ in range(40):
        pair, kept = (augment(first, second, g, swap) for g, swap in zip(generators, (True, False)))
        swapped += not torch.equal(pair[0], kept[0])
        assert (kept[0].int() + kept[1].int() == 255).all() and kept[0].max() < 192 < 255 - 1 - kept[0].min()
        assert torch.equal(kept[0], pair[0]) or torch.equal(kept[0], pair[1])
    assert 8 < swapped < 32


def test_augment_depends_on_its_generator_alone(pixels):
    pair = pixels(2, 3, 4, 4), pixels(2, 3, 4, 4, seed=1)
    state = torch.get_rng_state()
    runs = [[augment(*pair, generator) for _ in range(9)] for generator in (torch.Generator() for _ in range(2))]
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for x, y in zip(*runs) for a, b in zip(x, y))


# ------------------------------------------------------------------------------------------------- the whole loop


def test_fit_equals_torch(pixels, monkeypatch):
    """Two epochs of 10 images in batches of 4, 4, 2, with torch's one-cycle rate."""
    monkeypatch.setattr(loop, "augment", straight)
    pairs = pixels(10, 3, 8, 8), bright(pixels(10, 3, 8, 8, seed=1))
    network, recipe = tiny(), Recipe(lr=2.0, clip=0.02, batch_size=4, micro_batch=3, seed=5)
    twin = in_torch(network)
    records = list(fit(network, pairs, 2, recipe))

    optimizer = torch.optim.SGD(twin.parameters(), 2.0, 0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2.0, 6, pct_start=0.1, cycle_momentum=False)
    generator = torch.Generator().manual_seed(5)
    for record in records:
        total = 0
        for index in torch.randperm(10, generator=generator).split(4):
            loss, norm = torch_step(twin, optimizer, pairs[0][index], pairs[1][index], 0.02)
            assert norm > 0.03  # it does clip
            total += len(index) * loss
            schedule.step()
        assert record.loss == pytest.approx(total / 10, abs=1e-6)
    assert_same(network, dict(twin.named_parameters()), rtol=1e-5, atol=2e-6)


def test_fit_with_muon_equals_torch(pixels, monkeypatch):
    """torch's takes matrices only and iterates in bf16: here it is given them as matrices, and iterates as we do."""
    monkeypatch.setattr(loop, "augment", straight)
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    pairs = pixels(10, 3, 8, 8), bright(pixels(10, 3, 8, 8, seed=1))
    recipe = Recipe(0.01, 0.95, 0.02, batch_size=4, micro_batch=3, seed=5, optimizer="Muon", swap=False)
    network = tiny()
    twin = in_torch(network)
    list(fit(network, pairs, 2, recipe))

    named = dict(twin.named_parameters())
    matrices = [torch.nn.Parameter(p.detach().reshape(len(p) if p.dim() > 1 else 1, -1)) for p in named.values()]
    options = {"weight_decay": 0, "adjust_lr_fn": "match_rms_adamw"}
    optimizer, still = torch.optim.Muon(matrices, 0.01, **options), torch.optim.SGD(twin.parameters(), 0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, 6, pct_start=0.1, cycle_momentum=False)
    generator = torch.Generator().manual_seed(5)
    for _ in range(2):
        for index in torch.randperm(10, generator=generator).split(4):
            torch_step(twin, still, pairs[0][index], pairs[1][index], 0.02)
            for matrix, parameter in zip(matrices, named.values(), strict=True):
                matrix.grad = parameter.grad.reshape(matrix.shape)
            optimizer.step(), schedule.step()
            for matrix, parameter in zip(matrices, named.values(), strict=True):
                parameter.data.copy_(matrix.detach().view(parameter.shape))
    assert_same(network, named, rtol=1e-4, atol=1e-5)


def test_every_image_once_an_epoch_in_a_new_order(pixels, monkeypatch):
    seen = []
    monkeypatch.setattr(loop, "augment", straight)
    monkeypatch.setattr(loop, "train_step", lambda n, o, first, second, *rest: seen.append((first, second)) or 0.0)
    first = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1).expand(10, 3, 4, 4)
    list(fit(tiny(), (first, 100 + first), 2, Recipe(batch_size=4)))
    assert [len(batch) for batch, _ in seen] == [4, 4, 2] * 2
    orders = [[image[0, 0, 0].item() for batch, _ in seen[part] for image in batch] for part in (slice(3), slice(3, 6))]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1] and orders[0] != list(range(10))
    assert all(torch.equal(b, 100 + a) for a, b in seen)


def test_loss_is_the_mean_over_all_images(pixels, monkeypatch):
    """At rate 0 the loss can be recomputed; the short last batch counts by its size."""
    monkeypatch.setattr(loop, "augment", straight)
    first, second = pixels(5, 3, 8, 8), pixels(5, 3, 8, 8, seed=1)
    network = tiny()
    (record,) = fit(network, (first, second), 1, Recipe(lr=0.0, batch_size=4, micro_batch=4))
    expected = (network.forward(first / 255) - second / 255).square().mean()
    assert record.loss == pytest.approx(expected.item(), abs=1e-6)


def test_same_seed_same_bits_other_seed_other_weights(pixels):
    pairs = pixels(10, 3, 8, 8), pixels(10, 3, 8, 8, seed=1)
    results = []
    for seed, noise in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(noise)
        network = tiny()
        records = list(fit(network, pairs, 2, Recipe(batch_size=4, seed=seed)))
        results.append((weights(network), [record.loss for record in records]))
    (once, losses), (again, same_losses), (other, _) = results
    assert losses == same_losses
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert all(not torch.equal(once[name], other[name]) for name in once)


def test_records(pixels):
    pairs = pixels(6, 3, 8, 8), pixels(6, 3, 8, 8, seed=1)
    records = list(fit(tiny(), pairs, 3, Recipe(batch_size=4)))
    assert [(r.epoch, r.epochs, r.psnr) for r in records] == [(1, 3, None), (2, 3, None), (3, 3, None)]
    for record in records:
        assert type(record.loss) is float and record.seconds > 0
        assert record.images_per_second == pytest.approx(6 / record.seconds)
    text = str(loop.Record(2, 3, 0.0123456, 4.4, 99.6, 25.678))
    assert text == "epoch 2/3: loss 0.01235, validation PSNR A 25.68 dB, 4 s, 100 images/s"
    assert "PSNR" not in str(records[0])


def test_records_come_while_it_trains(pixels):
    """fit is a generator: the weights have not changed before the first record is asked for."""
    network = tiny()
    before = weights(network)
    records = fit(network, (pixels(4, 3, 8, 8), pixels(4, 3, 8, 8, seed=1)), 2, Recipe(batch_size=1))
    assert_same(network, before, **EXACT)
    next(records)
    after = weights(network)
    assert not torch.equal(before["0.weight"], after["0.weight"])
    next(records)
    assert not torch.equal(after["0.weight"], weights(network)["0.weight"])
    assert not network.training


def test_validation_is_psnr_a_of_the_network_after_the_epoch(pixels):
    noisy, clean = pixels(3, 3, 9, 8), pixels(3, 3, 9, 8, seed=1)
    network = tiny()
    for record in fit(network, (pixels(4, 3, 8, 8), pixels(4, 3, 8, 8, seed=1)), 2, Recipe(), (noisy, clean)):
        error = (denoise(network, noisy).double() - clean.double()) / 255
        expected = (-10 * error.square().mean((1, 2, 3)).log10()).mean().item()
        assert record.psnr == pytest.approx(expected, abs=1e-4)
        assert record.psnr == pytest.approx(psnr_a(denoise(network, noisy) / 255, clean / 255))


def test_pairs_may_be_made_for_each_epoch(pixels, monkeypatch):
    asked, seen = [], []
    monkeypatch.setattr(loop, "train_step", lambda n, o, first, *rest: seen.append(first.max().item()) or 0.0)

    def pairs(epoch):
        asked.append(epoch)
        return (torch.full((2 + epoch, 3, 4, 4), epoch, dtype=torch.uint8),) * 2

    list(fit(tiny(), pairs, 3, Recipe(batch_size=2)))
    assert asked == [0, 1, 2]
    assert seen == [0, 1, 1, 2, 2]  # more steps than the first epoch promised


@pytest.mark.parametrize("module, lr", [(denoiser, 10.0), (denoiser_bonus, 1.0)])
def test_loss_falls_on_an_easy_problem(module, lr):
    """Flat images of random brightness with independent noise: the loss falls towards the noise's variance, not to 0,
    and the images get better than the noisy ones although no clean one was ever seen."""
    generator = torch.Generator().manual_seed(0)
    clean = (torch.rand(64, 1, 1, 1, generator=generator) * 155 + 50).expand(64, 3, 8, 8)
    pairs = [(clean + 30 * torch.randn(64, 3, 8, 8, generator=generator)).clamp(0, 255) for _ in range(2)]
    recipe = Recipe(lr=lr, clip=0.02, batch_size=8)
    first, *_, last = fit(tiny(module), pairs, 20, recipe, validation=(pairs[0], clean))
    assert last.loss < 0.7 * first.loss
    assert last.loss > (pairs[1] - clean).div(255).square().mean()
    assert last.psnr > psnr_a(pairs[0] / 255, clean / 255) + 1.5


@pytest.mark.parametrize("module", [denoiser, denoiser_bonus])
def test_bf16_trains_float32_parameters_about_as_well(pixels, module):
    pairs = pixels(8, 3, 8, 8), pixels(8, 3, 8, 8, seed=1)
    losses = {}
    for dtype in (torch.float32, torch.bfloat16):
        network = tiny(module)
        before = weights(network)
        losses[dtype] = [record.loss for record in fit(network, pairs, 3, Recipe(lr=1.0, batch_size=4), None, dtype)]
        assert all(p.dtype == g.dtype == torch.float32 for p, g in network.param())
        assert all(p.isfinite().all() and not torch.equal(p, before[n]) for n, p in network.named_parameters())
    assert losses[torch.bfloat16] == pytest.approx(losses[torch.float32], rel=0.02)
    assert losses[torch.bfloat16] != losses[torch.float32]


def test_no_images_and_no_epochs_change_nothing(pixels):
    network = tiny()
    before = weights(network)
    assert list(fit(network, (pixels(4, 3, 8, 8), pixels(4, 3, 8, 8)), 0, Recipe())) == []
    nothing = torch.empty(0, 3, 8, 8)
    records = list(fit(network, (nothing, nothing), 2, Recipe()))
    assert [record.images_per_second for record in records] == [0, 0]
    assert_same(network, before, **EXACT)


def test_pairs_are_not_written_to(pixels):
    pairs = pixels(4, 3, 8, 8).float(), pixels(4, 3, 8, 8, seed=1).float()
    copies = [version.clone() for version in pairs]
    list(fit(tiny(), pairs, 2, Recipe()))
    assert all(torch.equal(version, copy) for version, copy in zip(pairs, copies))


# ------------------------------------------------------------------------------------------------------ showing

RECORDS = [loop.Record(epoch, 2, 0.5, 1.0, 10.0, None) for epoch in (1, 2)]


def test_collect_calls_back_after_every_epoch():
    seen = []
    assert loop.collect((record for record in RECORDS), seen.append) == RECORDS == seen
    assert loop.collect((record for record in RECORDS), False) == RECORDS


def test_steps_are_counted_over_all_epochs(pixels):
    seen = []
    pairs = pixels(5, 3, 8, 8), pixels(5, 3, 8, 8, seed=1)
    list(fit(tiny(), pairs, 2, Recipe(batch_size=2), on_step=lambda *count: seen.append(count)))
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("tqdm", [True, False])
def test_show_prints_a_line_per_epoch_with_and_without_tqdm(monkeypatch, capsys, tqdm):
    if tqdm:
        pytest.importorskip("tqdm")
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    else:
        monkeypatch.setitem(sys.modules, "tqdm", None)

    def run(on_step=None):
        for step, record in enumerate(RECORDS, 1):
            if on_step:
                on_step(step, 2)
            yield record

    assert loop.show(run) == RECORDS
    out, err = capsys.readouterr()
    assert all(str(record) in out for record in RECORDS)
    assert ("2/2" in err) == tqdm


def test_expectation_names_the_variance_of_the_noise():
    torch.manual_seed(0)
    clean = torch.randint(60, 200, (50, 3, 16, 16)).float()
    first, second = (clean + 20 * torch.randn_like(clean) for _ in range(2))
    found = float(loop.expectation(first, second).split("variance of ")[1].split(":")[0])
    assert found == pytest.approx((20 / 255) ** 2, rel=0.02)
    assert loop.expectation(first[:0], second[:0]) == "There are no pairs: nothing is learnt."
    assert loop.expectation(first, first).startswith("Input and target are the same images")
