"""Every number of the report, read from the files that programs wrote: `numbers(root)` -> nested dicts of text.

Text, because the template prints what it gets: rounding happens here, once. A figure that is not there raises
`Missing`, which names the file and the command that makes it; a finding that its runs do not bear out, `Unsupported`.
"""

import json
import re
from pathlib import Path

from experiments.declarations import declared
from experiments.findings import FINDINGS, LEVEL
from experiments.measures import average, plural, spread
from experiments.show import SECTIONS, choose
from others import denoiser, denoiser_bonus, nn
from others.data import noises
from others.nn import windows, winograd
from others.nn.summary import calls, count, receptive_field
from others.storage import networks

ROOT = Path(__file__).resolve().parents[2]
#: file, relative to the root: what makes it
MADE_BY = {
    "docs/results/quality.md": "make quality PHOTOS=folder DATA=folder",
    "docs/results/conformance.md": "make conformance",
    "docs/results/reliability.md": "make reliability",
    "docs/results/epochs.md": "python benchmarks/epoch.py DATA_FOLDER",
    "docs/results/speed.md": "make bench",
    "docs/results/trainings.md": "git checkout docs/results/trainings.md",
    "Miniproject_2/bestmodel.pth": "make weights PHOTOS=folder VAL=val_data.pkl",
    "experiments/report/published.json": "git checkout experiments/report/published.json",
}
NETWORKS = {"prescribed": denoiser.Denoiser, "rednet": denoiser_bonus.Denoiser}


class Missing(Exception):
    def __init__(self, file, what):
        command = MADE_BY.get(file, "make experiments DATA=folder PHOTOS=folder")
        super().__init__(f"{file}: {what} is not there; make it with: {command}")


class Unsupported(Exception):
    """A sentence says what its numbers do not."""


def numbers(root=ROOT, scipers=()):
    """All of it, one entry a source; `scipers` are the authors' numbers, none in the project's own report."""
    return {
        "scipers": list(scipers),
        "quality": quality(root),
        "speed": speed(root),
        "epochs": epochs(root),
        "conformance": conformance(root),
        "reliability": reliability(root),
        "weights": {name: weights(root, name) for name in NETWORKS},
        "kernels": arithmetic(),
        "code": code(root),
        "noise": {"cell": str(noises.CELL), "values": str(noises.CELL**2)},
        "published": published(root),
        "experiments": experiments(root),
        "findings": findings(root),
        "beside": beside(root),
        "pairs": pairs(root),
        "level": f"{LEVEL:g}",
        "uncertain": search(root, "docs/peers.md", r"is uncertain by ([\d.]+) dB"),
        "slow": slow(root),
    }


# ----------------------------------------------------------------------------------------------------- Markdown


def read(root, file):
    path = root / file
    if not path.is_file():
        raise Missing(file, "the file")
    return path.read_text(encoding="utf-8")


def tables(text):
    """Each table of a Markdown text: [header, row, row, ...], cells as text."""
    for block in re.findall(r"(?:^\|.*\n?)+", text, re.M):
        rows = [[cell.strip(" *`") for cell in line.strip().strip("|").split("|")] for line in block.splitlines()]
        yield [rows[0], *rows[2:]]


def table(root, file, *headings):
    """The rows of the table of `file` in whose header all `headings` are found."""
    for header, *rows in tables(read(root, file)):
        if all(any(heading in cell for cell in header) for heading in headings):
            return rows
    raise Missing(file, f"a table with the columns {', '.join(headings)}")


def row(rows, file, *names):
    """The one row whose first cells are `names`."""
    for found in rows:
        if tuple(found[: len(names)]) == names:
            return found
    raise Missing(file, f"the row {' | '.join(names)}")


def search(root, file, pattern):
    found = re.search(pattern, read(root, file))
    if not found:
        raise Missing(file, f"text like {pattern!r}")
    return found.groups() if found.re.groups > 1 else found[1]


# ------------------------------------------------------------------------------------------------------ sources

TITLES = {"prescribed": "prescribed", "rednet": "RED-Net"}
CLEAN = "clean image"


def quality(root):
    file = "docs/results/quality.md"
    psnr = table(root, file, "PSNR A", "PSNR B")
    robust = table(root, file, "corruption")
    gains = table(root, file, "gain per image")
    found = {"images": row(robust, file, CLEAN)[1], "noisy": row(psnr, file, "noisy input")[1:]}
    for name in NETWORKS:
        _, _, least, *_, worse = row(gains, file, name)
        found[name] = {
            "once": row(psnr, file, name)[1:],
            "ensemble": row(psnr, file, f"{name}, self-ensemble")[1:],
            "least": least, "worse": int(worse),
        }  # fmt: skip
    found["worse"] = worse_than_they_went_in(found["images"], *(found[name].pop("worse") for name in NETWORKS))
    found["robust"] = [[name, *figures] for name, images, *figures in robust if images == found["images"]]
    found["clean"] = dict(zip(NETWORKS, row(robust, file, CLEAN)[3:]))
    strengths = {name: [float(figure) for figure in figures] for name, _, *figures in robust if name != CLEAN}
    found["lost"] = harmed(*([name for name, (before, *after) in strengths.items() if after[i] < before]
                             for i in range(len(NETWORKS))))  # fmt: skip
    return found


def worse_than_they_went_in(images, prescribed, rednet):
    """How many of the images come out worse, in a sentence."""
    if prescribed == rednet == 0:
        return f"No image of the {images} comes out worse than it went in, from either network"
    counts = f"{prescribed or 'none'} from the prescribed network and {rednet or 'none'} from the RED-Net"
    return f"Of {images} images some come out worse than they went in: {counts}"


def harmed(prescribed, rednet):
    """Which kinds of noise are made worse, in a sentence."""
    if not prescribed and not rednet:
        return "In the mean over the images neither network makes any noise worse"
    names = [", ".join(each) or "none" for each in (prescribed, rednet)]
    which = f"{names[0]} from the prescribed network, {names[1]} from the RED-Net"
    return f"In the mean over the images some come out worse: {which}"


def speed(root):
    """The tables of the speed benchmark: fp32 quiet and with one core busy, bf16, one thread."""
    file = "docs/results/speed.md"
    machine, threads = search(root, file, r"(?m)^(.*?), (\d+) threads")
    product, convolution = search(root, file, r"product runs at (\d+) GFLOP/s.*?convolution at (\d+)")
    found = [[dict(zip(header, cells)) for cells in rows] for header, *rows in tables(read(root, file))
             if "ours / torch" in header]  # fmt: skip
    if len(found) != 3:
        raise Missing(file, "one of its three tables")
    rows, bf16, one = found
    steps = [cells for cells in rows if cells[""] == "step"]
    gains, busy = (sorted(float(cells[column]) for cells in steps) for column in ("unfold / ours", "busy"))
    shipped = {name: of_network(file, steps, title) for name, title in TITLES.items()}
    return {
        "machine": machine, "threads": threads, "product": product, "convolution": convolution, "rows": rows,
        "shipped": shipped,
        "batches": list(dict.fromkeys(cells["images"] for cells in steps if cells["network"].startswith("shipped"))),
        "range": bounds([float(ratio) for ratios in shipped.values() for ratio in ratios]),
        "busy": bounds(busy),
        "bf16": {name: of_network(file, bf16, title)[0] for name, title in TITLES.items()},
        "one": {name: of_network(file, one, title)[0] for name, title in TITLES.items()},
        "unfold": [f"{gains[0]:.1f}", f"{gains[-1]:.1f}"],
    }  # fmt: skip


def bounds(values):
    """The least and the greatest, as text."""
    return [f"{min(values):.2f}", f"{max(values):.2f}"]


def of_network(file, rows, title):
    """The ratios of a shipped network."""
    found = [cells["ours / torch"] for cells in rows if cells["network"] == f"shipped {title}"]
    if not found:
        raise Missing(file, "a row of each shipped network")
    return found


def epochs(root):
    """[what was trained for an epoch, PSNR A before, after, time] of each row of the first table."""
    found = []
    for *what, before, after, time in table(root, "docs/results/epochs.md", "before", "after"):
        name = ", ".join(filter(None, what)).replace(", 1 epoch", "").replace("prescribed network", "prescribed")
        found.append([name, before, after, time if time.endswith("s") else f"{time} s"])
    return found


def slow(root):
    """The times of the epochs without AVX-512, of any table of that page."""
    file = "docs/results/epochs.md"
    found = [cells[-1] for _, *rows in tables(read(root, file)) for cells in rows if "AVX2 only" in " ".join(cells)]
    if not found:
        raise Missing(file, "a row with AVX2 only")
    return found


def pairs(root):
    """PSNR A of the last weights of each network whose targets were one noisy version, by SGD; and how many pairs an
    epoch of `epochs` has."""
    file = "docs/results/trainings.md"
    rows = table(root, file, "what changed", "PSNR A")
    found = {name: [row[-1] for row in rows if row[1:3] == [title, "in stages"] and row[3].startswith("SGD")]
             for name, title in TITLES.items()}  # fmt: skip
    if not all(found.values()):
        raise Missing(file, "a row of SGD for each network")
    return {name: values[-1] for name, values in found.items()} | {
        "count": search(root, "docs/results/epochs.md", r"on ([\d,]+) pairs")
    }


def conformance(root):
    file = "docs/results/conformance.md"
    passed, scope = search(root, file, r"\*\*(\d+) of (\d+) cases")
    rows = table(root, file, "source", "passed")
    pool = sum(int(row(rows, file, source, "MaxPool2d")[2]) for source in ("module_db", "op_db"))
    return {"passed": thousands(passed), "scope": thousands(scope), "pooling": thousands(pool),
            "outside": thousands(search(root, file, r"(\d+) are out of scope")),
            "types": thousands(search(root, file, r"Out of scope: dtypes.*\((\d+)\)"))}  # fmt: skip


def reliability(root):
    file = "docs/results/reliability.md"
    return {"kills": search(root, file, r"(\d+) kills survived"), "bits": search(root, file, r"([\d,]+) bits of")}


def weights(root, name):
    """What a network is, and how its shipped weights came to be: the stages, oldest first."""
    file = "Miniproject_2/bestmodel.pth"
    if not (root / file).is_file():
        raise Missing(file, "the file")
    saved = networks.load(root / file, name)
    network, info = NETWORKS[name](**saved["arguments"]), saved["info"]
    stages = []
    while info:
        stages.insert(0, info)
        info = info.get("start")
    epochs = [str(int(str(stage["epochs"]).split()[0])) for stage in stages]
    photographs = [int(re.search(r"from (\d+) photographs", stage["data"])[1]) for stage in stages]
    side = 64  # of the image that multiplications are counted on
    products = sum(each.multiplications for each in calls(network, (1, 3, side, side))) / side**2
    return {
        "parameters": thousands(count(network)), "field": str(sum(receptive_field(network)[0]) + 1),
        "multiplications": thousands(products), "epochs": epochs,
        "minutes": f"{sum(s['minutes'] * s.get('processes', 1) for s in stages):.0f}",
        "fp32": str(sum(int(e) for e, s in zip(epochs, stages) if s["precision"] == "fp32")),
        "muon": str(sum(int(e) for e, s in zip(epochs, stages) if s["recipe"].get("optimizer") == "Muon")),
        "targets": re.search(r"mean of (\d+) noisy", stages[-1]["data"])[1],
        "photographs": [thousands(photographs[0]), thousands(max(photographs))],
        "arguments": {key: [str(v) for v in value] for key, value in saved["arguments"].items()},
    }  # fmt: skip


def arithmetic():
    """Multiplications saved, from the code that saves them."""
    folded = nn.UpsamplingConv2d(1, 1).folded_geometry()
    outputs, taps = folded.stride[0] ** 2, folded.kernel_size[0] ** 2
    plain = 3 * 3
    found = {"folded": {"plain": str(plain), "taps": str(taps // outputs),
                        "saved": f"{plain / (taps / outputs):g}"}}  # fmt: skip
    tile, taps = winograd.TILE, 3
    points = len(winograd.axis_matrices(tile, taps)[0])
    multiplications = {"plain": str((tile * taps) ** 2), "points": str(points**2)}
    found["winograd"] = {"tile": str(tile), "taps": str(taps), **multiplications}
    found["block"] = str(windows.BLOCK_BYTES // 2**20)
    return found


def code(root):
    texts = [file.read_text() for file in (root / "others" / "nn").rglob("*.py")]
    lines = sum(len(text.splitlines()) for text in texts)
    imports = re.findall(r"(?m)^from torch(?:\.nn\.functional)? import (.+)$", "\n".join(texts))
    named = [getattr(nn, name) for name in nn.__all__]
    blocks = {each for each in named if isinstance(each, type) and issubclass(each, nn.Module)} - {nn.Module}
    return {"lines": thousands(lines), "blocks": str(len(blocks)),
            "imports": sorted({name for names in imports for name in names.split(", ")})}  # fmt: skip


def thousands(value):
    return f"{round(float(value)):,}"


# -------------------------------------------------------------------------------------------------- experiments


def finished(root, experiment):
    """(the first line's config, {variant: [lines of a run, seed by seed]}) of the largest scale that is complete, or
    else of the largest in which every variant has a finished run."""
    file = f"experiments/logs/{experiment}.jsonl"
    shown = choose(experiment, root / "experiments" / "logs")
    if shown is None:
        raise Missing(file, "a finished run")
    first = next(iter(shown.runs.values()))[0][0]
    wanted = {run["run"].rpartition(", seed ")[0] for run in declared(experiment, first["scale"])}
    if wanted - set(shown.runs) or first["config"]["validation"] != "course":
        done = f"{len(shown.runs)} of {len(wanted)} are"
        raise Missing(file, f"a scale with every variant on the course's validation pairs ({done})")
    return first["config"], shown.runs


def published(root):
    """What other solutions state, and by how many dB PSNR A of the same weights differs here at most."""
    found = json.loads(read(root, "experiments/report/published.json"))
    differences = [abs(float(found["claimed"][name]) - float(value)) for name, value in found["evaluated"].items()]
    return {**found, "differ": f"{max(differences):.2f}"}


def experiments(root):
    """{experiment: its figures}, each with the `size` of its runs in words."""
    found = {}
    for name in dict.fromkeys(section.experiment for section in SECTIONS):
        config, variants = finished(root, name)
        found[name] = {"size": size(config, variants)}
    return found | {"s0-blocks": blocks(finished(root, "s0-blocks")[1])}


def findings(root):
    """{section of RESULTS.md: what it shows, in words}."""
    found = {}
    for section in SECTIONS:
        name = section.name or section.experiment
        found[name], holds = FINDINGS[name](finished(root, section.experiment)[1])
        if not holds:
            raise Unsupported(f"experiments/findings.py: {section.experiment} does not bear out: {found[name]}")
        found[name] = found[name].replace("'", "’")  # which after a digit would be set as a prime
    return found


def beside(root):
    """What the five solutions state, and what the run that repeats it reached: [who, what, claim, ours, our budget]."""
    rows = []
    for claim in json.loads(read(root, "experiments/report/published.json"))["claims"]:
        name, variant = claim["experiment"], claim["variant"]
        config, variants = finished(root, name)
        if variant == "best":
            means = average(variants)
            variant = max(means, key=means.get)
        rows.append([claim["who"], claim["what"], claim["psnr"], finals(variants)[variant], size(config, variants)])
    return rows


def size(config, variants):
    """How long the runs of an experiment were, in words."""
    if not (config["epochs"] or config["minutes"]):
        return "no training"
    seeds = sorted({len(runs) for runs in variants.values()})
    length = (f"{plural(config['minutes'], 'minute')} of one core" if config["minutes"] else
              f"{plural(config['epochs'], 'epoch')} of {thousands(config['images'])} images")  # fmt: skip
    several = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    return length + (f", {several} seeds" if seeds[-1] > 1 else "")


def pretty(name):
    """The name of a run for the reader."""
    return re.sub(r"\bx\b", "×", name.replace("_", " ").replace("rednet", "RED-Net").replace("=", " "))


def last(runs, field="psnr_a"):
    """The field in the last line of every seed; None where that failed."""
    return [lines[-1].get(field) for lines in runs]


def finals(variants, field="psnr_a"):
    return {name: spread(last(runs, field)) for name, runs in variants.items()}


def blocks(variants):
    """Largest absolute differences from torch over all blocks, by dtype: of outputs and input gradients (`maps`), and
    of parameters' gradients (`sums`)."""
    found = {}
    for name, runs in variants.items():
        entry = found.setdefault(name.rsplit(" ", 1)[1], {"maps": [], "sums": []})
        for what, value in last(runs, "differences")[0].items():
            entry["maps" if what in ("output", "grad_input") else "sums"].append(value)
    ends = {dtype: {key: power_of_ten(max(values)) for key, values in entry.items()} for dtype, entry in found.items()}
    return {**ends, "count": str(len(variants) // len(found))}


def power_of_ten(value):
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}\u202f×\u202f10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
