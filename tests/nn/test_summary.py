"""Receptive field, alignment and table against what the networks do."""

from fractions import Fraction

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from others import nn
from others.nn.summary import along


def positive(module):
    """The module with positive weights, so that no influence cancels or is cut off."""
    module.to(torch.float64)
    for parameter in module.parameters():
        parameter.uniform_(0.5, 1.0)
    return module.eval()


def influences(module, axis, size=36):
    """(input position, output position) along one axis of all pairs where the one changes the other."""
    x = torch.rand(1, 2, size, size, dtype=torch.float64)
    reference = module(x)
    pairs = []
    for position in range(size):
        changed = x.clone()
        changed.select(2 + axis, position).add_(100)
        difference = (module(changed) - reference).abs().amax((0, 1, 3 - axis))
        pairs += [(position, output) for output in (difference > 1e-3).nonzero().flatten().tolist()]
    return pairs


def measured_field(module, scale):
    """What `receptive_field` claims, found by changing pixels."""
    fields = []
    for axis in (0, 1):
        offsets = [position - output // scale for position, output in influences(module, axis)]
        fields.append((max(0, -min(offsets)), max(0, max(offsets))))
    return tuple(fields)


def conv(*arguments, **options):
    return nn.Conv2d(2, 2, *arguments, **options)


def transposed(*arguments, **options):
    return nn.TransposeConv2d(2, 2, *arguments, **options)


def chain(*modules):
    return nn.Sequential(*modules)


NETWORKS = {  # (module, output pixels per input pixel, alignment)
    "identity": (lambda: nn.Identity(), 1, (1, 1)),
    "relu": (lambda: nn.ReLU(), 1, (1, 1)),
    "conv": (lambda: conv((3, 4), padding=(1, 0)), 1, (1, 1)),
    "dilated": (lambda: conv((3, 2), dilation=(2, 3), padding=(2, 1)), 1, (1, 1)),
    "same": (lambda: conv((4, 3), padding="same", dilation=(1, 2)), 1, (1, 1)),
    "valid": (lambda: conv((2, 5), padding="valid"), 1, (1, 1)),
    "one pixel aside": (lambda: conv(1, padding=(1, 0)), 1, (1, 1)),
    "strided": (lambda: conv((3, 2), stride=2, padding=(1, 0)), Fraction(1, 2), (2, 2)),
    "pool": (lambda: nn.MaxPool2d((3, 2), 2, (1, 0)), Fraction(1, 2), (2, 2)),
    "dilated pool": (lambda: nn.MaxPool2d((2, 3), 1, (0, 1), (3, 2)), 1, (1, 1)),
    "transposed": (lambda: transposed((4, 3), stride=2, padding=(1, 0)), 2, (1, 1)),
    "transposed, a gap": (lambda: transposed((2, 1), stride=3), 3, (1, 1)),
    "transposed, dilated": (lambda: transposed((3, 2), stride=2, dilation=(3, 2), padding=(2, 1)), 2, (1, 1)),
    "transposed, stride 1": (lambda: transposed((3, 4), padding=(1, 2)), 1, (1, 1)),
    "nearest": (lambda: nn.NearestUpsampling(3), 3, (1, 1)),
    "nearest and conv": (lambda: chain(nn.NearestUpsampling(2), conv((3, 5), padding=(1, 2))), 2, (1, 1)),
    "upsampling conv": (lambda: nn.UpsamplingConv2d(2, 2, (3, 4)), 2, (1, 1)),
    "upsampling conv, dilated": (lambda: nn.UpsamplingConv2d(2, 2, (3, 2), 3, dilation=(2, 3)), 3, (1, 1)),
    "hourglass": (
        lambda: chain(
            conv(3, 2, 1), nn.ReLU(), conv(3, 2, 1), transposed(4, 2, 1), nn.ReLU(), transposed((4, 2), 2, (1, 0))
        ),
        1,
        (4, 4),
    ),
    "hourglass, nearest": (
        lambda: chain(conv(2, 2), conv(2, 2), nn.UpsamplingConv2d(2, 2), nn.NearestUpsampling(2), conv(3, padding=1)),
        1,
        (4, 4),
    ),
    "strides that do not divide": (lambda: chain(conv(3, (3, 2), 1), transposed(2, 2), conv(2, (1, 2))), None, None),
    "up and down": (lambda: chain(transposed(4, 2, 1), conv(3, 2, 1)), 1, (1, 1)),
    "skip": (lambda: nn.Skip(conv((3, 5), padding=(1, 2))), 1, (1, 1)),
    "skip beside": (lambda: nn.Skip(chain(conv((3, 1), padding=(3, 0)), conv((5, 1)))), 1, (1, 1)),
    "skip around even pixels": (
        lambda: chain(nn.Skip(chain(conv(1, 2), nn.NearestUpsampling(2))), conv(2, 2)),
        Fraction(1, 2),
        (2, 2),
    ),
    "concatenate": (lambda: nn.Concatenate(chain(nn.MaxPool2d(2), conv(3, padding=1), transposed(2, 2))), 1, (2, 2)),
    "red-net": (
        lambda: chain(
            conv(3, padding=1),
            nn.Skip(
                chain(
                    conv(3, 2, 1),
                    nn.Skip(chain(conv((3, 1), 2, (1, 0)), transposed(2, 2))),
                    nn.ReLU(),
                    transposed(4, 2, 1),
                )
            ),
        ),
        1,
        (4, 4),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_receptive_field_is_what_changes_the_output(name):
    make, scale, _ = NETWORKS[name]
    torch.manual_seed(0)
    module = positive(make())
    if scale is None:  # scales 2/3 and 1/2
        for axis, ratio in enumerate((Fraction(2, 3), Fraction(1, 2))):
            offsets = [position - output // ratio for position, output in influences(module, axis)]
            assert nn.receptive_field(module)[axis] == (max(0, -min(offsets)), max(0, max(offsets)))
    else:
        assert nn.receptive_field(module) == measured_field(module, Fraction(scale))


@pytest.mark.parametrize("name", [name for name, (_, scale, _) in NETWORKS.items() if scale is not None])
def test_alignment_is_the_smallest_shift_that_only_shifts(name):
    make, scale, expected = NETWORKS[name]
    torch.manual_seed(0)
    module = positive(make())
    assert nn.alignment(module) == expected
    for axis in (0, 1):
        pairs = set(influences(module, axis, size=60))
        middle = [(position, output) for position, output in pairs if 20 <= output / scale < 32]
        for shift in range(1, 9):
            moved = [(position + shift, output + shift * scale) for position, output in middle]
            assert pairs.issuperset(moved) == (shift % expected[axis] == 0)


def test_a_tile_with_margins_gives_what_the_image_gives():
    module = positive(NETWORKS["red-net"][0]())
    (top, bottom), (left, right) = nn.receptive_field(module)
    assert nn.alignment(module) == (4, 4)
    x = torch.rand(2, 2, 64, 72, dtype=torch.float64)
    up, down, before, after = (-(-margin // 4) * 4 for margin in (top, bottom, left, right))
    tile = module(x[:, :, 28 - up : 36 + down, 32 - before : 44 + after])[:, :, up : up + 8, before : before + 12]
    torch.testing.assert_close(tile, module(x)[:, :, 28:36, 32:44], rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    "module", [nn.Linear(4, 4), nn.Flatten(), nn.Upsample(size=5), nn.Upsample(scale_factor=1.5), nn.Module()]
)
def test_modules_without_a_receptive_field_are_refused(module):
    with pytest.raises(NotImplementedError, match="receptive_field"):
        nn.receptive_field(nn.Sequential(nn.ReLU(), module))


def test_a_class_of_ones_own_counts_as_its_base():
    class Net(nn.Sequential):
        pass

    assert nn.receptive_field(Net(conv((3, 1)), conv((4, 3)))) == ((0, 5), (0, 2))


# ------------------------------------------------------------------------------------------------------- summary


def network():
    return nn.Sequential(
        nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 0), groups=2), nn.ReLU(), nn.TransposeConv2d(6, 4, 4, 2, 1, groups=2),
        nn.UpsamplingConv2d(4, 3), nn.Flatten(2), nn.Linear(192, 7, bias=False),
    )  # fmt: skip


def test_a_window_of_ones_own_needs_no_dilation_and_whole_numbers_do():
    class Mean(nn.Module):
        def __init__(self, *sizes):
            self.kernel_size, self.stride, self.padding = sizes

    along.register(Mean, along.dispatch(nn.MaxPool2d))
    assert nn.receptive_field(nn.Sequential(Mean((3, 2), (2, 2), (1, 0)))) == ((1, 1), (0, 1))
    assert nn.receptive_field(nn.Sequential(Mean(3, 2, 1))) == ((1, 1), (1, 1))
    with pytest.raises(TypeError, match="Mean: padding: expected an int or a pair of ints, got 'same'"):
        nn.receptive_field(nn.Sequential(Mean(3, 1, "same")))


def test_the_table_of_a_network():
    head, *lines, total, field = network().summary((2, 4, 8, 4)).splitlines()
    assert head.split() == ["layer", "output", "parameters", "multiplications"]
    expected = [  # parameters and multiplications counted by hand
        ("Conv2d(", (2, 6, 4, 3), 6 * 2 * 6 + 6, 2 * 6 * 4 * 3 * (2 * 6)),
        ("ReLU(", (2, 6, 4, 3), 0, 0),
        ("TransposeConv2d(", (2, 4, 8, 6), 6 * 2 * 16 + 4, 2 * 6 * 4 * 3 * (2 * 16)),
        ("UpsamplingConv2d(", (2, 3, 16, 12), 3 * 4 * 9 + 3, 2 * 3 * 16 * 12 * (4 * 4)),
        ("Flatten(", (2, 3, 192), 0, 0),
        ("Linear(", (2, 3, 7), 192 * 7, 2 * 3 * 7 * 192),
    ]
    for i, (line, (layer, shape, parameters, multiplications)) in enumerate(zip(lines, expected, strict=True)):
        assert line.startswith(f"{i}  {layer}")
        assert str(shape) in line
        assert line.split()[-2:] == [f"{parameters:,}", f"{multiplications:,}"]
    assert total.split() == ["total", *(f"{sum(column):,}" for column in list(zip(*expected))[2:])]
    assert "whole image" in field


def test_multiplications_are_those_torch_counts():
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, (3, 2), (2, 1)), torch.nn.ReLU(), torch.nn.ConvTranspose2d(8, 4, (4, 3), (2, 1))
    )
    ours = nn.Sequential(nn.Conv2d(3, 8, (3, 2), (2, 1)), nn.ReLU(), nn.TransposeConv2d(8, 4, (4, 3), (2, 1)))
    with FlopCounterMode(display=False) as counter:
        theirs(torch.randn(2, 3, 9, 7))
    total = ours.summary((2, 3, 9, 7)).splitlines()[-2].split()
    assert total == ["total", f"{sum(p.numel() for p in theirs.parameters()):,}", f"{counter.get_total_flops() // 2:,}"]


def test_the_receptive_field_is_shown():
    net = chain(conv((3, 5), 2, (1, 0)), nn.Skip(conv(3, padding=1)))
    assert net.summary((1, 2, 9, 9)).endswith(
        "receptive field: 7 x 9 pixels (3 above, 3 below, 2 left, 6 right), aligned to (2, 2)"
    )


def test_shared_layers_are_shown_with_every_call_and_counted_once():
    layer = conv(3, padding=1)
    lines = chain(layer, nn.Skip(layer), nn.Tanh()).summary((1, 2, 5, 6)).splitlines()
    assert sum("Conv2d" in line for line in lines) == 2
    assert lines[-2].split()[1:] == ["38", f"{2 * 2 * 30 * 18:,}"]


def test_any_module_with_a_forward_has_a_summary():
    class Net(nn.Module):
        def __init__(self):
            self.first, self.second, self.add = conv(3, padding=1), conv(1), nn.Add()

        def forward(self, input):
            return self.add(self.first(input), self.second.forward(input))

    lines = nn.summary(Net(), (2, 5, 6)).splitlines()
    assert [line.split()[0] for line in lines[1:-2]] == ["first", "second", "add"]
    assert lines[-2].split()[1] == "44"


@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_changed(training):
    net, x = network(), torch.randn(2, 4, 8, 4)
    net.backward(torch.randn_like(net(x)))
    net.train(training)
    parts, tensors = net.modules(), [tensor for pair in net.param() for tensor in pair]
    saved, copies, state = [part.saved for part in parts], [t.clone() for t in tensors], torch.get_rng_state()
    with nn.Tape() as tape:
        net.summary((3, 4, 8, 4))
    assert not tape.calls
    assert [part.training for part in parts] == [training] * len(parts)
    assert all(part.saved is before for part, before in zip(parts, saved, strict=True))
    assert all(map(torch.equal, tensors, copies))
    assert not any("forward" in vars(part) for part in parts)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_shape_that_does_not_fit_is_refused():
    with pytest.raises(RuntimeError, match="expected input"):
        network().summary((2, 3, 8, 4))
