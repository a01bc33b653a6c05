"""The noise: one pixel of each cell, drawn uniformly, all channels alike, independent between cells and versions.

Statistical bounds are five standard deviations or more, and the seeds are fixed.
"""

from itertools import pairwise

import pytest
import torch

from others.data import noises, scenes
from others.data.scenes import CELL, SIZE, Scene


def every_pixel(scene):
    """The scene at full resolution, as cells: (3, 32, 32, 81)."""
    steps = (torch.arange(SIZE * CELL) + 0.5) / (SIZE * CELL)
    rows = []
    for row in steps.split(CELL):
        points = torch.stack(torch.meshgrid(row, steps, indexing="ij"), 2).view(-1, 2)
        rows.append(scene.colour_at(points).view(3, CELL, SIZE, CELL).transpose(1, 2).flatten(2))
    return torch.stack(rows, 1)


@pytest.fixture(scope="module", params=[(0, 0), (3, 10**9)], ids=str)
def scene(request):
    scene = Scene(*request.param)
    return scene, every_pixel(scene)


def test_scene_is_an_image_with_detail(scene):
    cells = scene[1]
    assert cells.min() >= 0 and cells.max() <= 1
    assert cells.mean(3).flatten(1).std(1).min() > 0.02  # between cells
    assert cells.var(3).mean() > 1e-4  # inside them: the noise


def test_clean_is_the_mean_of_each_cell(scene):
    scene, cells = scene
    torch.testing.assert_close(scene.clean(), cells.mean(3), rtol=0, atol=1e-5)


def test_noisy_is_one_pixel_of_each_cell_for_all_channels(scene):
    scene, cells = scene
    distance = (scene.noisy().unsqueeze(3) - cells).abs().amax(0)  # of the three channels together
    assert distance.amin(2).max() < 1e-5


def test_mean_of_noisy_is_clean_and_its_variance_the_cells(scene):
    """z = (mean of K versions - clean) / sqrt(cell variance / K) has mean 0 and mean square 1 over 1,024 cells."""
    scene, cells = scene
    versions = 400
    mean = sum(scene.noisy()[0] for _ in range(versions)) / versions
    deviation = cells[0].std(2, correction=0)
    z = ((mean - cells[0].mean(2)) / deviation * versions**0.5)[deviation > 0.02]
    assert len(z) > 200
    assert abs(z.mean()) < 5 / len(z) ** 0.5
    assert abs(z.square().mean() - 1) < 5 * (2 / len(z)) ** 0.5


@pytest.fixture(scope="module")
def noise(scene):
    """(40, 32, 32): the noise of 40 versions, standardised by cell, zero in cells that hardly have any."""
    scene, cells = scene
    clean, deviation = cells[0].mean(2), cells[0].std(2, correction=0)
    noise = torch.stack([scene.noisy()[0] - clean for _ in range(40)]) / deviation
    return noise.where(deviation > 0.02, 0)


@pytest.mark.parametrize("pair", ["versions", "rows", "columns", "diagonals"])
def test_noise_is_independent_between_versions_and_cells(noise, pair):
    """The product of two independent standardised variables has mean 0 and mean square 1."""
    first, second = {
        "versions": (noise[1:], noise[:-1]),
        "rows": (noise[:, 1:], noise[:, :-1]),
        "columns": (noise[..., 1:], noise[..., :-1]),
        "diagonals": (noise[:, 1:, 1:], noise[:, :-1, :-1]),
    }[pair]
    products = (first * second)[(first != 0) & (second != 0)]
    assert len(products) > 2000
    assert abs(products.mean()) < 5 / len(products) ** 0.5
    assert not any(torch.equal(a, b) for a, b in pairwise(noise))


def test_flat_scene_has_no_noise():
    scene = Scene(0, 1)
    for part in (scene.amplitude, scene.shade):
        part.zero_()
    scene.colour[:] = torch.tensor([0.2, 0.4, 0.6])
    expected = torch.tensor([0.2, 0.4, 0.6]).view(3, 1, 1).expand(3, SIZE, SIZE)
    assert torch.equal(scene.noisy(), expected)
    torch.testing.assert_close(scene.clean(), expected)


def test_scene_depends_on_seed_and_index_alone():
    torch.manual_seed(1)
    first = Scene(5, 7).noisy()
    torch.manual_seed(2)
    assert torch.equal(first, Scene(5, 7).noisy())
    assert not torch.equal(first, Scene(5, 8).noisy())
    assert not torch.equal(first, Scene(6, 7).noisy())


def test_scene_does_not_depend_on_the_default_dtype():
    noisy, clean = Scene(0, 3).noisy(), Scene(0, 3).clean()
    torch.set_default_dtype(torch.float64)
    try:
        again = Scene(0, 3)
        assert torch.equal(again.noisy(), noisy) and torch.equal(Scene(0, 3).clean(), clean)
    finally:
        torch.set_default_dtype(torch.float32)


# ------------------------------------------------------------------------------------------------- photographs

CROPS, GRID, WIDE = 500, 8, 4  # crops of 8 x 8 cells of 4 x 4 pixels


@pytest.fixture(scope="module")
def where():
    """Two versions, cut from a photograph that holds its own coordinates: (2, crops, 8, 8) rows and columns."""
    rows, columns = torch.meshgrid(torch.arange(40), torch.arange(50), indexing="ij")
    photo = torch.stack((rows, columns, (3 * rows + 5 * columns) % 251)).to(torch.uint8)
    versions = noises.subsample_photo(photo, CROPS, GRID, WIDE, torch.Generator().manual_seed(0))
    for version in versions:
        assert version.shape == (CROPS, 3, GRID, GRID) and version.dtype == torch.uint8
    found = torch.stack(list(versions)).long()
    row, column, check = found.unbind(2)
    assert torch.equal(check, (3 * row + 5 * column) % 251)  # the three channels come from one pixel
    return row, column


def within_cells(where):
    """Position inside its cell of every pick, and the corner of every crop; both versions have the same crop."""
    steps = WIDE * torch.arange(GRID)
    row, column = where[0] - steps.view(GRID, 1), where[1] - steps
    top, left = (offset.amin((0, 2, 3), keepdim=True) for offset in (row, column))
    return row - top, column - left, top.flatten(), left.flatten()


def test_photo_picks_stay_in_their_cell(where):
    down, across, _, _ = within_cells(where)
    assert down.max() == across.max() == WIDE - 1


def test_photo_picks_are_uniform(where):
    down, across, _, _ = within_cells(where)
    counts = (down * WIDE + across).flatten().bincount(minlength=WIDE**2).double()
    expected, share = counts.sum() / WIDE**2, 1 / WIDE**2
    assert ((counts - expected).abs() < 5 * (expected * (1 - share)).sqrt()).all()


@pytest.mark.parametrize("pair", ["versions", "neighbours", "crops"])
def test_photo_picks_are_independent(where, pair):
    """Two picks coincide once in 16 times."""
    down, across, _, _ = within_cells(where)
    pick = down * WIDE + across
    first, second = {
        "versions": (pick[0], pick[1]),
        "neighbours": (pick[..., 1:], pick[..., :-1]),
        "crops": (pick[:, 1:], pick[:, :-1]),
    }[pair]
    share, same = 1 / WIDE**2, (first == second).double()
    assert abs(same.mean() - share) < 5 * (share * (1 - share) / same.numel()) ** 0.5


def test_photo_crops_reach_everywhere(where):
    _, _, top, left = within_cells(where)
    assert set(top.tolist()) == set(range(40 - GRID * WIDE + 1))
    assert set(left.tolist()) == set(range(50 - GRID * WIDE + 1))


def test_stack_rounds_and_clamps():
    image = torch.full((3, SIZE, SIZE), 0.5)
    image[0, 0, :4] = torch.tensor([-0.2, 1.2, 100.4 / 255, 100.6 / 255])
    pixels = scenes.stack([image, image.flip(2)])
    assert pixels.dtype == torch.uint8 and pixels.shape == (2, 3, SIZE, SIZE)
    assert pixels[0, 0, 0, :4].tolist() == [0, 255, 100, 101]
    assert pixels[1, 0, 0, -1] == 0
    assert scenes.stack([]).shape == (0, 3, SIZE, SIZE)


def test_an_average_of_versions_is_the_average_photo():
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(40), indexing="ij")
    photo = torch.stack((5 * rows, 3 * columns, rows + columns)).to(torch.uint8)
    clean = noises.average_photo(photo, 50, GRID, WIDE, torch.Generator().manual_seed(0))
    assert clean.shape == (50, 3, GRID, GRID) and clean.dtype == torch.float32
    top = clean[:, 0, 0, 0] / 5 - (WIDE - 1) / 2  # of this linear picture
    assert torch.equal(top, top.round()) and top.min() == 0 and top.max() == 0  # 32 rows leave no choice
    left = clean[:, 1, 0, 0] / 3 - (WIDE - 1) / 2
    assert torch.equal(left, left.round()) and left.min() == 0 and left.max() == 8
    steps = WIDE * torch.arange(GRID).float()
    assert torch.allclose(clean[:, 2], clean[:, 2, :1, :1] + steps.view(GRID, 1) + steps)
    noisy, centre = noises.centre_pair(photo, GRID, WIDE, torch.Generator().manual_seed(0))
    assert noisy.shape == centre.shape == (3, GRID, GRID) and noisy.dtype == torch.uint8
    assert torch.equal(
        centre[0].float(), (5 * (WIDE * torch.arange(GRID) + 1.5)).round().view(GRID, 1).expand(-1, GRID)
    )
    assert noises.centre_pair(photo, GRID + 1, WIDE, torch.Generator()) is None
