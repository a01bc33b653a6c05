"""The benchmark of bursts, in small."""

import pytest
import torch

from benchmarks import burst
from docs import facts
from others import pictures
from others.cli import train
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


def test_the_help_and_the_docs_say_from_how_many_shots_on_the_average_alone_is_better():
    rows = [row for row in facts.tables("burst.md")[0] if row["noise"] == "camera, medium"]
    better = [int(row["shots"]) for row in rows if float(row["average"]) > float(row["average denoised"])]
    said = f"From {better[0]} shots with the noise of a camera in good light on, the average alone is better"
    for text in (train.__doc__, (facts.DOCS / "command-line.md").read_text()):
        assert said in " ".join(text.split())
