"""Put trained weights into the file that ships, with the model card's text.

    python benchmarks/pack_weights.py [out/prescribed.pth out/rednet.pth out/camera.pth] [--out FILE]

Networks that no FILE holds stay as they are. Weights are kept in 16 bits, those of camera with 8 significant bits: so
the course's zip stays below 12 MB, and PSNR moves by 0.003 dB. The figure of camera is that of docs/results/camera.md:
pack, `make camera`, pack again. Without files only the text and that figure are renewed.
"""

import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from docs import facts
from others.model import CAMERA, SHIPPED, denoisers
from others.storage import checkpoint, networks

CUT = 3  # of the 11 significant bits of float16
PAIRS = "150 pairs like the course's, from photographs that nothing was trained on"
MEASURED = "photographs with Gaussian noise of sigma 25, as denoise has it"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="weights that train_weights.py made")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    args = parser.parse_args()
    entries = {name: networks.load(SHIPPED, name) for name in denoisers()}
    for file in args.files:
        entries |= {name: networks.load(file, name) for name in networks.held(file)}
    text = card()
    for name, entry in entries.items():
        entry["state"] = {key: rounded(value, CUT if name == CAMERA else 0) for key, value in entry["state"].items()}
        entry["info"] = {**without_card(entry["info"]), "card": text}
    figure = facts.row(facts.tables("camera.md")[0], "Gaussian, sigma 25")["camera"]
    for name, entry in entries.items():
        entry["info"]["measured"] = MEASURED if name == CAMERA else PAIRS
    entries[CAMERA]["info"]["psnr_a"] = float(figure)
    checkpoint.save(args.out, {"denoisers": entries})


def without_card(info):
    """The record of a training, and of those that it started from, without the text of a file that was shipped."""
    kept = {key: value for key, value in info.items() if key != "card"}
    return kept | {"start": without_card(kept["start"])} if "start" in kept else kept


def rounded(weights, cut):
    """In float16, to the nearest value whose last `cut` bits are zero."""
    bits = weights.half().view(torch.int16).int()
    magnitude = (bits & 0x7FFF) + (1 << cut >> 1) >> cut << cut
    return (magnitude | bits & ~0x7FFF).to(torch.int16).view(torch.float16)


def card():
    """docs/model-card.md without its head and its figures."""
    text = (facts.DOCS / "model-card.md").read_text()
    (before, rest), end = text.split("<!-- card -->"), "<!-- end -->"
    return f"{before[before.index('# Model card') :].rstrip()}\n\n{rest.split(end, 1)[1].lstrip()}"


if __name__ == "__main__":
    main()
