"""The three linear maps of a convolution. Everything that convolves in this framework is one of them.

A convolution is bilinear in its input x and its weight w, so there are exactly three maps:

    correlate(x, w)         y[o] = sum over taps i of x[o * stride - padding + i * dilation] w[i]
    scatter(y, w)           its adjoint in x: the input gradient, and what a transposed convolution computes
    weight_gradient(x, y)   its adjoint in w

and one identity that tests all of them: <correlate(x, w), y> = <x, scatter(y, w)> = <w, weight_gradient(x, y)>.

Images are NHWC here, (N, H, W, C) with any strides; weights keep torch's layout (C_out, C_in / groups, kh, kw).
`correlate` and `weight_gradient` are one copy of the image into columns and one matrix product, block by block
("im2col", Chellapilla et al. 2006), or `winograd` where that is estimated to be faster, under a stride perhaps phase by
phase of the image (`image_phases`); `scatter` is correlations, one for each of its phases. To a few channels both maps
of images are a product first and then shifted additions (`multiply_first`). The size of what a map makes is always
passed in: with a stride, several inputs have outputs of the same size. Operands do not require grad: the layers detach
them.
"""

from functools import lru_cache
from math import prod

from torch import empty

from . import reference, winograd
from .geometry import Geometry, overlap, phases, span, window
from .windows import blocks, crop_or_pad, workspace


def correlate(x, weight, size, geometry, bias=None):
    """(N, H, W, C_in), (C_out, C_in / groups, kh, kw) -> (N, *size, C_out), plus bias (C_out,) if there is one."""
    if reference.is_plain(x, x.shape[1:], (*size, len(weight)), geometry):
        return reference.correlate(x, weight, size, geometry, bias)
    if geometry.stride == (1, 1) and first_pays(x, len(weight), size, geometry):  # a stride would waste most of it
        axes = zip(geometry.kernel_size, geometry.dilation, geometry.padding)
        padding = tuple(span(taps, dilation) - 1 - before for taps, dilation, before in axes)
        flipped = weight.transpose(0, 1).flip(2, 3)  # without a stride a correlation is the adjoint of the flipped one
        return multiply_first(x, flipped, size, geometry._replace(padding=padding), bias)
    y = empty(x.shape[0], *size, weight.shape[0], dtype=x.dtype, device=x.device)
    return correlate_into(y, x, weight, geometry, bias)


def scatter(y, weight, size, geometry, bias=None):
    """(N, H', W', C_out), (C_out, C_in / groups, kh, kw) -> (N, *size, C_in), plus bias (C_in,) if there is one.

    To a few channels `multiply_first`, if it pays. Otherwise each sub-pixel phase of the result is an ordinary stride-1
    correlation of y with the phase's taps, one by one or all as the channels of one (`scatter_jointly`): every output
    is written once, nothing is folded.
    """
    channels = weight.shape[1] * geometry.groups
    if reference.is_plain(y, (*size, channels), y.shape[1:], geometry):
        return reference.scatter(y, weight, size, geometry, bias)
    if first_pays(y, channels, size, geometry):
        return multiply_first(y, weight, size, geometry, bias)
    weight = transpose(weight, geometry.groups).flip(2, 3)
    axes = zip(size, geometry.kernel_size, geometry.stride, geometry.padding, geometry.dilation)
    vertical, horizontal = (phases(*axis) for axis in axes)
    if geometry.stride != (1, 1) and phases_join(channels, vertical, horizontal, geometry):
        return scatter_jointly(y, weight, vertical, horizontal, bias)[:, : size[0], : size[1]].contiguous()
    x = empty(y.shape[0], *size, channels, dtype=y.dtype, device=y.device)
    if geometry.stride == (1, 1):  # the only phase is x
        return correlate_phase(x, y, weight, vertical[0], horizontal[0], geometry.groups, bias)
    step_y, step_x = geometry.stride
    for rows in vertical:
        for cols in horizontal:
            phase = 0 if bias is None else bias  # for no tap: a large stride, or one with a factor of the dilation
            if rows.kernel_size and cols.kernel_size:
                phase = workspace("phase", (len(y), rows.count, cols.count, channels), y)
                correlate_phase(phase, y, weight, rows, cols, geometry.groups, bias)
            x[:, rows.first :: step_y, cols.first :: step_x] = phase
    return x


def weight_gradient(x, y, geometry):
    """(N, H, W, C_in), (N, H', W', C_out) -> (C_out, C_in / groups, kh, kw), summed over the batch."""
    if reference.is_plain(x, x.shape[1:], y.shape[1:], geometry):
        return reference.weight_gradient(x, y, geometry)
    if winograd.pays_in_phases(x, y.shape[1:], geometry):
        whole = as_weight(new_gradient(x, y, geometry), geometry)
        for phase, taps, around in image_phases(x, geometry):
            whole[(..., *taps)] = weight_gradient(phase, y, around)
        return whole
    if winograd.pays(x, y.shape[1:], geometry):
        return winograd.weight_gradient(x, y, geometry)
    gradient = new_gradient(x, y, geometry)
    for x_block, (y_block,), shifted in column_blocks(x, (y,), geometry):
        add_product(gradient, y_block, unfold_windows(x_block, y_block.shape[1:3], shifted))
    return as_weight(gradient, geometry)


def correlate_and_gradient(x, weight, y, geometry):
    """(N, H, W, C_in), weight, (N, H', W', C_out) -> correlate(x, weight), of y's shape, and weight_gradient(x, y), of
    the weight's, from the same columns or tiles: what going backward through a transposed convolution takes."""
    if reference.is_plain(x, x.shape[1:], y.shape[1:], geometry):
        result = reference.correlate(x, weight, y.shape[1:3], geometry)
        return result, reference.weight_gradient(x, y, geometry)
    result = empty(y.shape, dtype=x.dtype, device=x.device)
    return result, correlate_into_and_gradient(result, x, weight, y, geometry)


# -------------------------------------------------------------------------------------------------------- helpers

# Where one way overtakes another, measured with the networks of benchmarks/speed.py on one and two AVX-512 cores
FIRST = 0.9  # `multiply_first` is taken where its estimated cost is below this part of the other ways'
COPY_CALLS = 5  # for columns: borders, the image between them, windows
WIDEN_CALLS = 5  # for a product of a width that is no multiple of NARROW
TILE_CALLS = 12
CALL = 400_000  # multiplications in the time that a call takes, whatever its size
FEW_INPUTS = 8  # fewer input channels than this: copies along the image are faster than along the channels
NARROW = 16  # columns of a product's result: a multiple of this many is fastest
WASTE = 2.5  # so many times the multiplications, at most, for one narrow product instead of one for each phase
BLOCK_BYTES = 2**22  # of columns at a time, or one row of one image: they stay in the cache


def correlate_into(y, x, weight, geometry, bias=None, add=False):
    """y = `correlate` of x, or y += it, where y is contiguous: columns and product, block by block; `winograd` if it
    pays, for a stride phase by phase of the image."""
    if winograd.pays_in_phases(x, y.shape[1:], geometry):
        for phase, taps, around in image_phases(x, geometry):
            correlate_into(y, phase, weight[(..., *taps)], around, bias, add)
            bias, add = None, True
        return y
    if winograd.pays(x, y.shape[1:], geometry):
        return winograd.correlate_into(y, x, weight, geometry, bias, add)
    matrix = as_matrix(weight, geometry.groups)
    if bias is not None:
        y.add_(bias) if add else y.copy_(bias)
    for x_block, (out,), shifted in column_blocks(x, (y,), geometry):
        columns = unfold_windows(x_block, out.shape[1:3], shifted)
        write_product(out, columns, matrix, beta=int(add or bias is not None))
    return y


def correlate_into_and_gradient(result, x, weight, y, geometry, add=False):
    """result = `correlate` of x, or result += it, without a bias; returns `weight_gradient` of x and y, from the same
    columns or tiles."""
    if winograd.pays_in_phases(x, y.shape[1:], geometry):
        whole = as_weight(new_gradient(x, y, geometry), geometry)
        for phase, taps, around in image_phases(x, geometry):
            part = weight[(..., *taps)]
            whole[(..., *taps)] = correlate_into_and_gradient(result, phase, part, y, around, add)
            add = True
        return whole
    if winograd.pays(x, y.shape[1:], geometry):
        return winograd.correlate_into_and_gradient(result, x, weight, y, geometry, add)
    gradient, matrix = new_gradient(x, y, geometry), as_matrix(weight, geometry.groups)
    for x_block, (y_block, out), shifted in column_blocks(x, (y, result), geometry):
        columns = unfold_windows(x_block, out.shape[1:3], shifted)
        write_product(out, columns, matrix, beta=int(add))
        add_product(gradient, y_block, columns)
    return as_weight(gradient, geometry)


def image_phases(x, geometry):
    """The phases of an image under a stride, those that are read: (every stride-th pixel of x, the slices of the taps
    that read them, the geometry of that stride-1 correlation). `correlate` is the sum of theirs, as `scatter` puts its
    phases side by side; each phase of `weight_gradient` is the gradient of its own taps."""
    axes = zip(x.shape[1:3], geometry.kernel_size, geometry.stride, geometry.padding, geometry.dilation)
    vertical, horizontal = ([phase.adjoint() for phase in phases(*axis) if phase.kernel_size] for axis in axes)
    for rows in vertical:
        for cols in horizontal:
            phase = x[:, rows.first :: geometry.stride[0], cols.first :: geometry.stride[1]]
            yield phase, (rows.taps, cols.taps), phase_geometry(rows, cols, geometry.groups)


def phase_geometry(rows, cols, groups):
    """The geometry of the stride-1 correlation of a vertical and a horizontal phase."""
    kernel_size, padding, dilation = zip(*((p.kernel_size, p.padding, p.dilation) for p in (rows, cols)))
    return Geometry(kernel_size, (1, 1), padding, dilation, groups)


def write_product(out, columns, matrix, beta):
    """out (N, H', W', C_out) = beta * out + columns matrix, where beta is 0 or 1 and the matrix `as_matrix` makes."""
    groups, _, width = matrix.shape
    if width * groups == out.shape[3]:
        return multiply(columns, matrix, by_group(out, groups), beta)
    wide = workspace("wide", (1, columns.shape[1], width), out)
    multiply(columns, matrix, wide, beta=0)
    wide = wide.view(*out.shape[:3], width)[..., : out.shape[3]]
    out.add_(wide) if beta else out.copy_(wide)


def by_group(y, groups):
    """(N, H, W, C) -> (groups, N * H * W, C / groups), a view."""
    return y.view(-1, groups, y.shape[3] // groups).transpose(0, 1)


def multiply(a, b, out, beta):
    """out = beta * out + a b, one product a group: (groups, M, K), (groups, K, N), (groups, M, N)."""
    if len(out) == 1:
        for rows in row_blocks(a[0]):
            out[0, rows].addmm_(a[0, rows], b[0], beta=beta)
    else:
        out.baddbmm_(a, b, beta=beta)


def multiply_across(matrix, pixels):
    """matrix pixels^T: (K, C), (M, C) -> (K, M), a workspace."""
    planes = workspace("planes", (len(matrix), len(pixels)), pixels)
    if not keeps_sizes(pixels):
        return planes.addmm_(matrix, pixels.t(), beta=0)
    for rows in row_blocks(pixels):
        planes[:, rows] = matrix.mm(pixels[rows].contiguous().t())  # rows far apart would be another size
    return planes


def keeps_sizes(operand):
    """Whether torch keeps what it prepared for products of such an operand: 0.3 MiB for each of the last 1,024 sizes,
    strides included, which images of many sizes would fill."""
    return operand.element_size() == 2 and not operand.is_cuda


def row_blocks(matrix):
    """Slices of a product's rows: all, or powers of two where torch `keeps_sizes`."""
    count, first = len(matrix), 0
    while first < count:
        rows = 1 << ((count - first).bit_length() - 1) if keeps_sizes(matrix) else count
        yield slice(first, first + rows)
        first += rows


def new_gradient(x, y, geometry):
    """Zeros (groups, C_out / groups, kh * kw * C_in / groups) to sum a weight's gradient in, 32 bits for 16-bit y."""
    groups, (kh, kw) = geometry.groups, geometry.kernel_size
    rows, columns = y.shape[3] // groups, kh * kw * x.shape[3] // groups
    # stored transposed where that makes the product's width a multiple of NARROW, or its longer side
    turned = groups == 1 and columns % NARROW and (rows % NARROW == 0 or rows > columns)
    zeros = y.new_zeros(groups, columns, rows).transpose(1, 2) if turned else y.new_zeros(groups, rows, columns)
    return zeros.float() if zeros.element_size() == 2 else zeros


def add_product(gradient, y, columns):
    """gradient += y^T columns, for some images' y and their columns."""
    rows = by_group(y.contiguous(), len(gradient)).transpose(1, 2)
    if gradient.dtype == columns.dtype:
        multiply(rows, columns, gradient, beta=1)
    else:
        gradient += rows.bmm(columns)


def as_weight(gradient, geometry):
    """(groups, C_out / groups, kh * kw * C_in / groups) -> (C_out, C_in / groups, kh, kw), a view."""
    return gradient.view(gradient.shape[0] * gradient.shape[1], *geometry.kernel_size, -1).permute(0, 3, 1, 2)


def column_blocks(x, outputs, geometry):
    """`blocks` by the size of their columns."""
    row_bytes = outputs[0].shape[2] * prod(geometry.kernel_size) * x.shape[3] * x.element_size()
    return blocks(x, outputs, geometry, row_bytes, BLOCK_BYTES)


def unfold_windows(x, size, geometry):
    """(N, H, W, C) -> columns (groups, N * H' * W', kh * kw * C / groups): row by row what the kernel sees.

    A workspace, valid until the next call; for a contiguous image, a 1x1 kernel, stride 1 and no
    groups, a view of the image.
    """
    groups, channels = geometry.groups, x.shape[3] // geometry.groups
    (kh, kw), (sy, sx), (dy, dx) = geometry.kernel_size, geometry.stride, geometry.dilation
    extent = [(n - 1) * s + span(k, d) for n, k, s, d in zip(size, (kh, kw), (sy, sx), (dy, dx))]
    x = crop_or_pad(x, [-p for p in geometry.padding], extent)
    n, h, w, c = x.stride()
    windows = x.as_strided(
        (groups, x.shape[0], *size, kh, kw, channels),
        (channels * c, n, sy * h, sx * w, dy * h, dx * w, c),
    )
    rows = x.shape[0] * size[0] * size[1]
    if kh == kw == sy == sx == groups == 1 and x.is_contiguous():  # 1x1: the image is its own columns
        return windows.view(1, rows, channels)
    columns = workspace("columns", windows.shape, x)
    if channels < FEW_INPUTS:
        for to, source in zip(columns.unbind(4), windows.unbind(4)):
            to.copy_(source)
    else:
        columns.copy_(windows)
    return columns.view(groups, rows, kh * kw * channels)


def as_matrix(weight, groups):
    """(C_out, C_in / groups, kh, kw) -> (groups, kh * kw * C_in / groups, C_out / groups), rows in columns' order.

    Without groups, columns of zeros are added up to a multiple of `NARROW`, or of 8 above it: the product of an odd
    width, or of 8, takes up to four times as long.
    """
    width = weight.shape[0] // groups
    matrix = split(weight, groups).permute(0, 3, 4, 2, 1).reshape(groups, -1, width)
    if groups > 1 or (width % 8 == 0 and width >= NARROW):
        return matrix
    wide = matrix.new_zeros(1, matrix.shape[1], width + -width % NARROW)
    wide[..., :width] = matrix
    return wide


def transpose(weight, groups):
    """Swap the channels within each group: (C_out, C_in / groups, kh, kw) -> (C_in, C_out / groups, kh, kw)."""
    c_out, c_in, kh, kw = weight.shape
    return split(weight, groups).transpose(1, 2).reshape(groups * c_in, c_out // groups, kh, kw)


def split(weight, groups):
    """(C_out, C_in / groups, kh, kw) -> (groups, C_out / groups, C_in / groups, kh, kw)."""
    return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])


def correlate_phase(out, y, weight, rows, cols, groups, bias):
    """out = one sub-pixel phase of `scatter`: `weight` is transposed and flipped, `rows` and `cols` are of `phases`."""
    taps = weight[:, :, rows.taps, cols.taps]
    return correlate_into(out, y, taps, phase_geometry(rows, cols, groups), bias)


def phases_join(channels, vertical, horizontal, geometry):
    """Whether one product for all phases of a scatter is faster than one for each: if every phase uses every tap of
    their common window, or for channels so few that the calls and the narrow products take longer than the zeros."""
    taps = prod(window(axis)[0] * len(axis) for axis in (vertical, horizontal))
    waste = taps / prod(geometry.kernel_size)
    return geometry.groups == 1 and (waste == 1 or (channels < NARROW and waste < WASTE))


def scatter_jointly(y, weight, vertical, horizontal, bias):
    """`scatter` as one correlation whose channels are the phases, zero for the taps that a phase lacks, and are then
    interleaved ("pixel shuffle", Shi et al. 2016, arXiv:1609.05158). `weight` is transposed and flipped.

    The result's sizes are rounded up to multiples of the stride. A number that is not finite spreads over the window.
    """
    channels, strides = weight.shape[0], (len(vertical), len(horizontal))
    (high, top), (wide, left) = window(vertical), window(horizontal)
    kernel = weight.new_zeros(*strides, channels, weight.shape[1], high, wide)
    for rows in vertical:
        for cols in horizontal:
            place = kernel[rows.first, cols.first, :, :, rows.place(top), cols.place(left)]
            place.copy_(weight[:, :, rows.taps, cols.taps])
    kernel, bias = kernel.flatten(0, 2), bias if bias is None else bias.repeat(prod(strides))
    around = Geometry((high, wide), padding=(top, left))
    h, w = vertical[0].count, horizontal[0].count
    x = empty(y.shape[0], h * strides[0], w * strides[1], channels, dtype=y.dtype, device=y.device)
    images = max(1, BLOCK_BYTES // (prod(x.shape[1:]) * x.element_size()))
    for block, out in zip(y.split(images), x.split(images)):
        found = workspace("phases", (block.shape[0], h, w, len(kernel)), y)
        found = correlate_into(found, block, kernel, around, bias).view(-1, h, w, *strides, channels).transpose(2, 3)
        out.view(found.shape).copy_(found)
    return x


def first_pays(x, channels, size, geometry):
    """Whether `multiply_first` from images x to so many channels of this size is estimated to be faster."""
    return geometry.groups == 1 and first_cost(*x.shape, channels, tuple(size), geometry, x.element_size()) < FIRST


@lru_cache(1024)
def first_cost(images, height, width, inputs, channels, size, geometry, number_bytes):
    """The cost of `multiply_first` as a part of the cheaper other way's. It moves every tap's result, in one addition a
    tap and block; columns move every tap's operand, and their product is as wide as NARROW at least."""
    taps, move = prod(geometry.kernel_size), winograd.MOVE
    numbers = images * height * width * taps * channels
    calls = (3 + taps) * -(-numbers * number_bytes // BLOCK_BYTES)
    copied = images * prod(size) * taps * inputs // prod(geometry.stride)
    columns = copied * max(channels, NARROW) + CALL * (1 if channels % NARROW == 0 else WIDEN_CALLS)
    if geometry.kernel_size != (1, 1) or geometry.stride != (1, 1):  # else the image is its own columns
        columns += copied * move * (1 if inputs >= FEW_INPUTS else 2) + CALL * COPY_CALLS
    tiles = images * winograd.cost(images, inputs, (*size, channels), geometry) + CALL * TILE_CALLS
    columns = min(columns, tiles) if number_bytes > 2 else columns
    return (numbers * (inputs + move) + calls * CALL) / columns


def multiply_first(y, weight, size, geometry, bias):
    """`scatter` to a few channels: product first, then one shifted addition for each tap, block by block ("kn2row",
    Vasudevan et al. 2017, arXiv:1704.04428).

    Copying kh * kw * C columns to make three channels would cost more than the product; kh * kw additions of three
    planes do not. The result is planar in memory.
    """
    _, few, kh, kw = weight.shape
    matrix = weight.permute(2, 3, 1, 0).flatten(0, 2)
    x = empty(y.shape[0], few, *size, dtype=y.dtype, device=y.device)
    x = x.float() if x.element_size() == 2 else x  # rounded once, not with every tap
    x.zero_() if bias is None else x.copy_(bias.view(few, 1, 1))
    row_bytes = len(matrix) * y.shape[2] * y.element_size()
    for x_block, (y_block,), shifted in blocks(x, (y,), geometry, row_bytes, BLOCK_BYTES):
        pixels = y_block.reshape(-1, y.shape[3])
        planes = multiply_across(matrix, pixels).view(kh, kw, few, *y_block.shape[:3])
        axes = zip((kh, kw), size, y_block.shape[1:3], shifted.stride, shifted.padding, shifted.dilation)
        vertical, horizontal = ([overlap(tap, *axis, adjoint=True) for tap in range(taps)] for taps, *axis in axes)
        for row, (to_y, from_y) in zip(planes, vertical):
            for plane, (to_x, from_x) in zip(row, horizontal):
                x_block.transpose(0, 1)[..., to_y, to_x].add_(plane[..., from_y, from_x])
    return x.to(y.dtype).permute(0, 2, 3, 1)
