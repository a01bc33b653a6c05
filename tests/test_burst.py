"""The benchmark of bursts, in small."""

import pytest
import torch

from benchmarks import burst
from others import pictures
from others.model import CAMERA, Model
from others.storage import networks

pytest.importorskip("PIL")


def test_the_table_has_every_noise_and_number_of_shots(tmp_path, small, capsys):
    page = torch.arange(40 * 48).view(40, 48, 1).expand(-1, -1, 3).remainder(200).to(torch.uint8)
    for name in "ab":
        pictures.write(tmp_path / "photos" / f"{name}.png", pictures.Picture("PNG", [page], {}))
    networks.save(tmp_path / "small.pth", CAMERA, Model(CAMERA, "cpu").network, {})
    few = ["--shots", "1", "2", "--size", "32", "--patch", "16", "--count", "4", "--epochs", "1", "--device", "cpu"]
    places = ["--photos", tmp_path / "photos", "--weights", tmp_path / "small.pth", "--out", tmp_path / "burst.md"]
    burst.main(list(map(str, [*few, *places])))
    rows = [line for line in (tmp_path / "burst.md").read_text().splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    names = ["camera, medium", "camera, strong", "Gaussian, sigma 25"]
    assert [row[:2] for row in cells] == [[name, shots] for name in names for shots in "12"]
    for one, two in zip(cells[::2], cells[1::2]):
        assert one[2:4] == one[4:6] == two[2:4] and one[6] == "-"
        assert float(two[4]) > float(two[2]) + 2 and float(two[6]) > 0  # an average of two has half of the noise
