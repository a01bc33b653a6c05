"""Write the measured figures into the documents: python docs/facts.py

A document holds `<!-- NAME -->` and `<!-- end -->` around each passage that this script writes, from the tables in
docs/results/. The exit status is 1 where a passage differed from them.
"""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results"
DOCUMENTS = (DOCS.parent / "README.md", DOCS / "model-card.md")
BEST = {  # of others, on the same 150 pairs: docs/peers.md
    "own blocks, prescribed network": 24.34,
    "own blocks, any network": 24.82,
    "torch.nn": 25.76,
    "torch.nn, self-ensemble": 25.82,
}


def tables(name):
    """The tables in a file of results, each a list of rows, {column: cell}."""
    found, header = [], None
    for line in (RESULTS / name).read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else None
        if cells is None:
            header = None
        elif header is None:
            header = cells
            found.append([])
        elif set(cells[0]) - set(":- "):
            found[-1].append(dict(zip(header, cells)))
    return found


def row(table, key):
    """The row whose first cell is `key`."""
    return next(each for each in table if next(iter(each.values())) == key)


def psnr(name):
    """PSNR A on the course's validation pairs."""
    return row(tables("quality.md")[0], name)["PSNR A"]


def results():
    lines = [
        ("noisy input", psnr("noisy input"), "", ""),
        ("prescribed network", f"**{psnr('prescribed')}**", f"{BEST['own blocks, prescribed network']:.2f}", ""),
        ("any network: RED-Net", f"**{psnr('rednet')}**", f"{BEST['own blocks, any network']:.2f}",
         f"{BEST['torch.nn']:.2f}"),
        ("the same, self-ensemble", f"**{psnr('rednet, self-ensemble')}**", "",
         f"{BEST['torch.nn, self-ensemble']:.2f}"),
    ]  # fmt: skip
    header = "| PSNR A, dB | here | best published, own blocks | best published, `torch.nn` |"
    return "\n".join([header, "|---|---|---|---|", *(f"| {' | '.join(r)} |" for r in lines)])


def camera():
    table = tables("camera.md")[0]
    noises = {"Gaussian noise, sigma 25": "Gaussian, sigma 25", "a simulated camera": "camera, medium"}
    lines = []
    for label, name in noises.items():
        cells = row(table, name)
        lines.append(
            f"| {label} | {cells['noisy']} | {cells['camera']} | {cells['BM3D']} | {cells['non-local means']} |"
        )
    kinds = [each for each in table if each["BM3D"]]
    better = sum(float(each["BM3D"]) > float(each["camera"]) for each in kinds)
    return "\n".join([
        "| PSNR A, dB | noisy | camera weights | BM3D | non-local means |", "|---|---|---|---|---|", *lines, "",
        "BM3D is told sigma or the best of three, the networks nothing. It is better on "
        f"{better} of {len(kinds)} [kinds](docs/results/camera.md).",
    ])  # fmt: skip


def speed():
    fp32, bf16 = (span(each) for each in tables("speed.md")[:2])
    return (
        f"A training step of the shipped networks takes {bf16} times as long as with `torch.nn` in bf16, as "
        f"`Model.train`\ncomputes where it can, and {fp32} times in fp32, limited by the matrix product "
        "([how measured](docs/results/speed.md))."
    )


def span(table):
    """The least and the greatest ratio of the shipped networks' steps."""
    steps = [each for each in table if each[""] == "step" and each["network"].startswith("shipped")]
    ratios = sorted(float(each["ours / torch"]) for each in steps)
    return f"{ratios[0]:.2f} to {ratios[-1]:.2f}"


def card():
    lines = [
        ("prescribed", "the course's images, one pass", psnr("prescribed")),
        ("rednet", "the course's images, one pass", psnr("rednet")),
        *(("camera", f"{name}, by `denoise`", row(tables("camera.md")[0], name)["camera"])
          for name in ("Gaussian, sigma 5", "Gaussian, sigma 25", "Poisson, 30 photons at white", "camera, medium")),
    ]  # fmt: skip
    return "\n".join(["| weights | noise | PSNR A, dB |", "|---|---|---|", *(f"| {' | '.join(r)} |" for r in lines)])


PASSAGES = {"results": results, "camera": camera, "speed": speed, "card": card}


def written(text):
    """The document with its passages as they should be."""
    for name, make in PASSAGES.items():
        start, end = f"<!-- {name} -->\n", "<!-- end -->"
        if start in text:
            before, rest = text.split(start, 1)
            text = f"{before}{start}{make()}\n{end}" + rest.split(end, 1)[1]
    return text


def main():
    wrong = [path for path in DOCUMENTS if written(path.read_text()) != path.read_text()]
    for path in wrong:
        path.write_text(written(path.read_text()))
        print(f"{path.name}: differed from docs/results, written anew")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
