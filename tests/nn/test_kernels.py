"""The three maps of a convolution: one identity over all geometries, and each against torch in float64."""

import itertools
import platform
import subprocess
import sys
from threading import Thread

import pytest
import torch
from comparison import close
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from others.nn import choice, kernels, windows, winograd
from others.nn.choice import Way, way_to_read
from others.nn.geometry import Geometry, correlation_size, span
from others.nn.kernels import correlate, correlate_and_gradient, scatter, weight_gradient


def operands(geometry, size, batch, channels, behind=(0, 0)):
    """x (N, H, W, C_in), w, y (N, H', W', C_out) for `channels` (in, out) per group; `behind`: zeros after x."""
    c_in, c_out = (c * geometry.groups for c in channels)
    axes = zip(size, geometry.kernel_size, geometry.stride, map(sum, zip(geometry.padding, behind)), geometry.dilation)
    x = torch.randn(batch, *size, c_in, dtype=torch.float64)
    w = torch.randn(c_out, channels[0], *geometry.kernel_size, dtype=torch.float64)
    y = torch.randn(batch, *(correlation_size(*axis) for axis in axes), c_out, dtype=torch.float64)
    return x, w, y


def torchs(x, w, geometry, behind):
    """torch's correlation, NHWC, with `behind` zeros after the image."""
    (top, left), (bottom, right) = geometry.padding, behind
    padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, right, top, bottom))
    y = torch.nn.functional.conv2d(padded, w, None, geometry.stride, 0, geometry.dilation, geometry.groups)
    return y.permute(0, 2, 3, 1)


def check(geometry, size, batch, channels, behind=None):
    """The identity, and every map against torch."""
    behind = geometry.padding if behind is None else behind
    x, w, y = operands(geometry, size, batch, channels, behind)
    found = correlate(x, w, y.shape[1:3], geometry)
    adjoint, gradient = scatter(y, w, x.shape[1:3], geometry), weight_gradient(x, y, geometry)
    assert found.shape == y.shape and adjoint.shape == x.shape and gradient.shape == w.shape
    product = (found * y).sum()
    close((x * adjoint).sum(), product)
    close((w * gradient).sum(), product)
    x.requires_grad_(), w.requires_grad_()
    expected = torchs(x, w, geometry, behind)
    close(found, expected.detach())
    expected_adjoint, expected_gradient = torch.autograd.grad(expected, [x, w], y)
    close(adjoint, expected_adjoint)
    close(gradient, expected_gradient)
    for both, one in zip(correlate_and_gradient(x.detach(), w.detach(), y, geometry), (found, gradient), strict=True):
        close(both, one)


PATHS = {  # ADDITIONS_BELOW and TILES_BELOW of choice: every way of computing, and what the shipped thresholds choose
    "columns": (0, 0),
    "few channels": (float("inf"), 0),
    "winograd": (0, float("inf")),
    "as shipped": (choice.ADDITIONS_BELOW, choice.TILES_BELOW),
}


def take(path, monkeypatch):
    monkeypatch.setattr(choice, "ADDITIONS_BELOW", PATHS[path][0])
    monkeypatch.setattr(choice, "TILES_BELOW", PATHS[path][1])


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    take(request.param, monkeypatch)
    return request.param


GRID = [
    Geometry(*geometry)
    for geometry in itertools.product(
        [(1, 1), (2, 3), (3, 2)], [(1, 1), (2, 3), (3, 1)], [(0, 0), (1, 2)], [(1, 1), (2, 1), (1, 3)], [1, 2]
    )
]


@pytest.mark.parametrize("channels", [(3, 2), (9, 11)])
def test_grid(path, channels):
    for geometry in GRID:
        check(geometry, (7, 9), 2, channels)


@pytest.mark.parametrize(
    "kernel_size, size",
    [((3, 3), (8, 8)), ((3, 3), (13, 6)), ((2, 2), (7, 10)), ((5, 5), (9, 9)), ((4, 4), (8, 6)), ((3, 3), (1, 1))],
)
@pytest.mark.parametrize("stride", [1, 2])
def test_usual_layers_with_many_channels(path, kernel_size, size, stride):
    check(Geometry(kernel_size, (stride, stride), tuple(k // 2 for k in kernel_size)), size, 3, (24, 17))


@pytest.mark.parametrize("channels", [(9, 5), (16, 24)])
@pytest.mark.parametrize(
    "kernel_size, padding, size", [(2, 0, (8, 6)), (3, 1, (7, 10)), (4, 1, (8, 6)), (5, 2, (9, 9))]
)
def test_phases_of_a_stride(path, kernel_size, padding, size, channels, monkeypatch):
    monkeypatch.setattr(windows, "BLOCK_BYTES", 10_000)  # some images at a time
    check(Geometry((kernel_size,) * 2, (2, 2), (padding,) * 2), size, 5, channels)


@st.composite
def cases(draw):
    def two(low, high):
        return draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    geometry = Geometry(two(1, 5), two(1, 4), two(0, 4), two(1, 3), draw(st.integers(1, 3)))
    behind, extra = two(0, 4), two(0, 9)
    reach = [span(k, d) for k, d in zip(geometry.kernel_size, geometry.dilation)]
    size = tuple(max(1, r - p - b) + e for r, p, b, e in zip(reach, geometry.padding, behind, extra))
    return geometry, size, draw(st.integers(1, 3)), two(1, 10), behind


@given(cases(), st.sampled_from(list(PATHS)))
def test_random_geometry(case, path):
    with pytest.MonkeyPatch.context() as patch:
        take(path, patch)
        check(*case)


@given(cases())
def test_a_strided_correlation_is_the_sum_over_phases_of_the_image(case):
    geometry, size, batch, channels, behind = case
    x, w, y = operands(geometry, size, batch, channels, behind)
    total = torch.zeros_like(y)
    for phase, taps, around in kernels.phases_read(x, geometry):
        assert around.stride == (1, 1)
        total += correlate(phase, w[taps], y.shape[1:3], around)
    close(total, correlate(x, w, y.shape[1:3], geometry))


@pytest.mark.parametrize("geometry", [Geometry((1, 3), (2, 1), (1, 1)), Geometry((2, 3), (3, 1), (2, 1))])
def test_an_image_of_which_no_tap_reads_a_pixel(path, geometry, monkeypatch):
    """Padding alone is read. Fresh memory holds NaN here, which nothing else would overwrite."""
    monkeypatch.setattr(kernels, "empty", lambda *size, **options: torch.empty(*size, **options).fill_(torch.nan))
    check(geometry, (1, 9), 2, (9, 10))


def test_adding_a_bias_to_what_is_there(path):
    geometry = Geometry((3, 3), padding=(1, 1))
    x, w, y = operands(geometry, (6, 9), 2, (9, 12), behind=(1, 1))
    bias, found = torch.randn(12, dtype=torch.float64), y.clone()
    kernels.sweep(way_to_read(x, y.shape[1:], geometry), x, geometry, w, found, bias, add=True)
    close(found, y + bias + correlate(x, w, (6, 9), geometry))


@pytest.mark.parametrize(
    "geometry, dtype, expected",
    [
        (Geometry((3, 3), (2, 2), (1, 1)), torch.float32, True),
        (Geometry((5, 3), (2, 2), (1, 1)), torch.float32, True),
        (Geometry((4, 4), (2, 2), (1, 1)), torch.float32, False),  # all phases alike: together, as channels
        (Geometry((3, 3), (1, 1), (1, 1)), torch.float32, False),
        (Geometry((1, 1), (2, 2)), torch.float32, False),
        (Geometry((3, 3), (2, 2), (1, 1), (2, 2)), torch.float32, False),
        (Geometry((3, 3), (2, 2), (1, 1), groups=2), torch.float32, False),
        (Geometry((3, 3), (2, 2), (1, 1)), torch.bfloat16, False),
    ],
)
def test_which_wide_layers_are_taken_phase_by_phase(geometry, dtype, expected):
    x = torch.empty(32, 16, 16, 192, dtype=dtype)
    assert (way_to_read(x, (8, 8, 384), geometry) is Way.PHASES) is expected
    assert way_to_read(x[..., :16], (8, 8, 16), geometry) is not Way.PHASES  # narrow ones never


@pytest.mark.parametrize("channels, dtype, expected", [
    (3, torch.float32, True), (3, torch.bfloat16, True), (32, torch.float32, True), (32, torch.bfloat16, False),
    (64, torch.float32, False), (64, torch.bfloat16, False),
])  # fmt: skip
def test_how_few_channels_are_made_by_additions(channels, dtype, expected):
    """To 16-bit numbers they were measured to take twice as long as the same ones in 32 bits."""
    y, geometry = torch.empty(32, 16, 16, 128, dtype=dtype), Geometry((3, 3), (2, 2), (1, 1))
    assert (choice.way("scatter", y, (32, 32, channels), y.shape[1:], geometry) is Way.ADDITIONS) is expected


class Work(TorchDispatchMode):
    """Counts what is done: multiplications of products, numbers written by anything else, and calls."""

    def __init__(self):
        super().__init__()
        self.cost = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view and "empty" not in function.__name__:
            a = [value for value in args if isinstance(value, torch.Tensor)]
            product = any(name in function.__name__ for name in ("mm", "bmm"))
            self.cost += choice.CALL + result.numel() * (a[-2].shape[-1] if product else choice.MOVE)
        return result


def work(way, monkeypatch, call):
    """The work of a call without Winograd's way."""
    take(way, monkeypatch)
    monkeypatch.setattr(choice, "TILES_BELOW", 0)
    with Work() as counted:
        call()
    return counted.cost


@pytest.mark.parametrize("size, kernel_size", [(8, 1), (8, 2), (8, 5), (40, 1), (40, 3), (40, 9), (24, 31)])
def test_the_way_taken_is_never_half_as_much_work_again_as_the_better_one(kernel_size, size, monkeypatch):
    geometry = Geometry((kernel_size,) * 2, padding=(kernel_size // 2,) * 2)
    out = 2 * (kernel_size // 2) + size - kernel_size + 1
    for inputs, outputs in itertools.product([1, 3, 16, 64], repeat=2):
        x = torch.empty(2, size, size, inputs, device="meta")
        y, w = torch.empty(2, out, out, outputs, device="meta"), torch.empty(outputs, inputs, *geometry.kernel_size)
        w = w.to("meta")
        for channels, call in (
            (outputs, lambda x=x, w=w: correlate(x, w, (out, out), geometry)),
            (inputs, lambda y=y, w=w: scatter(y, w, (size, size), geometry)),
        ):
            planes = 2 * out**2 * kernel_size**2 * channels * 4
            ways = ["columns"] + ["few channels"] * (planes < 8 * windows.BLOCK_BYTES and kernel_size < 20)
            best = min(work(way, monkeypatch, call) for way in ways)
            assert work("as shipped", monkeypatch, call) <= 1.5 * best, (inputs, outputs, channels)


@pytest.mark.parametrize("images, sizes", [(32, [16, 16]), (35, [12, 12, 11]), (17, [17]), (0, [])])
def test_blocks_have_no_more_images_than_so_many_blocks_need(images, sizes):
    x, y = torch.empty(images, 4, 4, 3), torch.empty(images, 4, 4, 5)
    found = windows.blocks(x, (y,), Geometry((1, 1)), row_bytes=10, block_bytes=17 * 40)
    assert [len(block) for block, _, _ in found] == sizes


@given(cases(), st.floats(-3, 3), st.floats(-3, 3))
def test_each_map_is_linear_in_both_arguments(case, a, b):
    geometry, size, batch, channels, behind = case
    (x, w, y), (x2, w2, y2) = (operands(geometry, size, batch, channels, behind) for _ in range(2))
    shape = y.shape[1:3]
    for f, one, two, fixed in (
        (lambda x, w: correlate(x, w, shape, geometry), x, x2, w),
        (lambda w, x: correlate(x, w, shape, geometry), w, w2, x),
        (lambda y, w: scatter(y, w, size, geometry), y, y2, w),
        (lambda x, y: weight_gradient(x, y, geometry), x, x2, y),
        (lambda y, x: weight_gradient(x, y, geometry), y, y2, x),
    ):
        close(f(a * one + b * two, fixed), a * f(one, fixed) + b * f(two, fixed))


@pytest.mark.parametrize("block_bytes", [1, 15_000])
def test_columns_made_block_by_block(monkeypatch, block_bytes):
    monkeypatch.setattr(windows, "BLOCK_BYTES", block_bytes)
    for geometry in GRID[::5]:
        check(geometry, (7, 9), 5, (3, 10))


@pytest.mark.parametrize("block_bytes, block_tiles", [(1, 1), (20_000, 2)])
def test_winograd_block_by_block(monkeypatch, block_bytes, block_tiles):
    take("winograd", monkeypatch)
    monkeypatch.setattr(winograd, "TILES_BYTES", block_bytes)
    monkeypatch.setattr(winograd, "BLOCK_TILES", block_tiles)
    for geometry in (Geometry((3, 3), padding=(1, 1)), Geometry((5, 4), (2, 2), (2, 1)), Geometry((1, 3))):
        check(geometry, (13, 18), 5, (9, 11))


@pytest.mark.parametrize("block_bytes", [1, 4_000])
def test_few_channels_by_rows_of_an_image(monkeypatch, block_bytes):
    take("few channels", monkeypatch)
    monkeypatch.setattr(windows, "BLOCK_BYTES", block_bytes)
    for geometry in GRID[::5]:
        check(geometry, (7, 9), 5, (3, 10))


def test_negative_padding_crops(path):
    check(Geometry((2, 3), (1, 1), (-1, -2)), (8, 9), 2, (3, 4), behind=(-2, -1))
    check(Geometry((3, 2), (2, 1), (-2, 1)), (9, 8), 2, (9, 10), behind=(1, -1))


@pytest.mark.parametrize(
    "geometry",
    [
        Geometry((2, 3), (3, 2), (1, 0)),  # stride 3 > kernel 2: positions no tap reaches
        Geometry((2, 3), (3, 2), (1, 0), (1, 1), 2),
        Geometry((3, 3), (1, 1), (1, 1)),
        Geometry((3, 1), (1, 1), (1, 0)),
        Geometry((1, 2), (1, 1), (0, 1)),
        Geometry((4, 4), (2, 2), (1, 1)),
    ],
)
def test_bias_is_added_to_every_position(path, geometry):
    x, w, y = operands(geometry, (7, 9), 2, (3, 5))
    for bias_of, f in ((y, correlate), (x, scatter)):
        argument, size = (x, y.shape[1:3]) if f is correlate else (y, x.shape[1:3])
        bias = torch.randn(bias_of.shape[3], dtype=torch.float64)
        close(f(argument, w, size, geometry, bias), f(argument, w, size, geometry) + bias)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_sixteen_bits_are_rounded_once(path, kernel_size, stride):
    geometry = Geometry((kernel_size,) * 2, (stride,) * 2, (kernel_size // 2,) * 2)
    for channels in ((3, 64), (64, 3), (20, 24)):
        operands16 = [tensor.bfloat16() for tensor in operands(geometry, (16, 17), 2, channels)]
        exact = maps(geometry, *(tensor.double() for tensor in operands16))
        for found, wanted in zip(maps(geometry, *operands16), exact, strict=True):
            error = (found.double() - wanted).pow(2).mean().sqrt() / wanted.pow(2).mean().sqrt()
            assert error < 2.5e-3  # bfloat16's own rounding: 1.7e-3


def test_views_of_any_strides(path):
    geometry = Geometry((3, 2), (2, 1), (1, 1), (1, 2))
    x, w, y = operands(geometry, (7, 9), 2, (3, 10))
    x_view = torch.randn(2, 3, 9, 7, 2, dtype=torch.float64)[..., 0].permute(0, 3, 2, 1).copy_(x)
    y_view = y.flip(0, 1, 2, 3).contiguous().flip(0, 1, 2, 3).permute(3, 0, 2, 1).contiguous().permute(1, 3, 2, 0)
    w_view = w.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0)
    close(correlate(x_view, w_view, y.shape[1:3], geometry), correlate(x, w, y.shape[1:3], geometry))
    close(scatter(y_view, w_view, x.shape[1:3], geometry), scatter(y, w, x.shape[1:3], geometry))
    close(weight_gradient(x_view, y_view, geometry), weight_gradient(x, y, geometry))


def test_empty_batch(path):
    geometry = Geometry((3, 2), (2, 1), (1, 1))
    x, w, y = operands(geometry, (7, 9), 0, (3, 10))
    assert correlate(x, w, y.shape[1:3], geometry).shape == y.shape
    assert scatter(y, w, x.shape[1:3], geometry).shape == x.shape
    assert torch.equal(weight_gradient(x, y, geometry), torch.zeros_like(w))


def maps(geometry, x, w, y):
    return (
        correlate(x, w, y.shape[1:3], geometry),
        scatter(y, w, x.shape[1:3], geometry),
        weight_gradient(x, y, geometry),
        *correlate_and_gradient(x, w, y, geometry),
    )


@pytest.mark.parametrize("kernel_size, stride", [((1, 1), (1, 1)), ((3, 3), (1, 1)), ((3, 3), (2, 2))])
def test_results_do_not_share_memory_with_later_calls_or_arguments(path, kernel_size, stride):
    geometry = Geometry(kernel_size, stride, (kernel_size[0] // 2,) * 2)
    first, second = (operands(geometry, (6, 5), 2, (9, 9)) for _ in range(2))
    results = maps(geometry, *first)
    kept = [result.clone() for result in results]
    maps(geometry, *second)
    for argument in first:
        argument.zero_()
    assert all(torch.equal(result, copy) for result, copy in zip(results, kept, strict=True))


def test_arguments_are_only_read(path):
    geometry = Geometry((3, 2), (1, 2), (1, 1))
    arguments = operands(geometry, (6, 5), 2, (9, 10))
    copies = [argument.clone() for argument in arguments]
    maps(geometry, *arguments)
    assert all(torch.equal(argument, copy) for argument, copy in zip(arguments, copies, strict=True))


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_threads_do_not_disturb_each_other(path, stride):
    geometry = Geometry((3, 3), stride, (1, 1))
    jobs = [operands(geometry, (16, 16), 2, (9, 10)) for _ in range(4)]
    expected = [maps(geometry, *job) for job in jobs]
    wrong = []

    def work(job, results):
        for _ in range(20):
            wrong.extend(not torch.equal(a, b) for a, b in zip(maps(geometry, *job), results, strict=True))

    threads = [Thread(target=work, args=job) for job in zip(jobs, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wrong) == 4 * 20 * len(expected[0]) and not any(wrong)


@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
def test_inference_mode_and_ordinary_calls_can_follow_each_other(path, stride):
    geometry = Geometry((3, 3), stride, (1, 1))
    arguments = operands(geometry, (6, 5), 2, (9, 10))
    windows.free_workspaces()
    winograd.transforms_of.cache_clear()
    with torch.inference_mode():
        inside = maps(geometry, *arguments)
    expected = maps(geometry, *arguments)
    with torch.inference_mode():
        again = maps(geometry, *arguments)
    for results in (inside, again):
        assert all(torch.equal(a, b) for a, b in zip(results, expected, strict=True))


FAULTS = """
import resource, torch
from torch import empty
from others.nn.windows import workspace
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        empty(4 * 2**20).zero_()  # 16 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.set_default_dtype(torch.{})
workspace("any", (1,), empty(0))
torch.set_default_dtype(torch.float32)
faults()
assert faults() < 4096, faults()  # once mapped, 10 times are no 10 * 4096 page faults
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is known to keep freed memory when asked")
@pytest.mark.parametrize("default", ["float32", "float64", "bfloat16"])
def test_freed_memory_is_used_again(default):
    script = FAULTS.format(default)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("channels", [1, 64])
def test_winograds_error_is_bounded_by_the_largest_input_of_its_tile(channels, monkeypatch):
    """A number of 1e6 costs the outputs of the tiles that read it digits, and no other output a bit."""
    take("winograd", monkeypatch)
    geometry = Geometry((3, 3), padding=(1, 1))
    x, w = torch.randn(2, 24, 24, channels), torch.randn(16, channels, 3, 3)
    ordinary = correlate(x, w, (24, 24), geometry)
    x[0, 9, 9, 0] = 1e6
    found, exact = (correlate(x.to(t), w.to(t), (24, 24), geometry) for t in (torch.float32, torch.float64))
    reading = torch.zeros(2, 24, 24, dtype=torch.bool)
    reading[0, 8:12, 8:12] = True  # the tile of 4 x 4 outputs whose 6 x 6 inputs hold it
    assert torch.equal(found[~reading], ordinary[~reading])
    assert (found - exact)[reading].abs().max() < 1e6 * 3e-6 * w.abs().max()
    assert (found - exact)[~reading].abs().max() < 1e-3
