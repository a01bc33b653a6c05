"""Draw RESULTS.md and figures/ from logs/ and from nothing else.

    python -m experiments.show [--out FOLDER]

Of each experiment the largest scale is shown of which every declared run is in the log, else the largest there is.
"""

import argparse
import base64
import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch

from benchmarks.quality import table
from others.evaluation import figures

from .declarations import BY_TIME, EXPERIMENTS, QUICK, SCALES, declared
from .findings import FINDINGS
from .measures import apart, checkerboard, cost, last, plural, side_by_side, spread, trained
from .run import finished

HERE = Path(__file__).resolve().parent
STYLES = [("-", "o", "0.0"), ("--", "s", "0.0"), (":", "^", "0.0"), ("-", "D", "0.55"), ("--", "v", "0.55"),
          (":", "P", "0.55"), ("-.", "x", "0.3"), ("-.", "*", "0.0"), ("-", ".", "0.8"),
          ("--", "X", "0.3")]  # fmt: skip

# --------------------------------------------------------------------------------------------------- from the logs


class Shown(NamedTuple):
    """The runs of an experiment at one scale: {name without seed: [lines of each seed]}, what they are in words, that
    scale, and whether they are all that is declared."""

    runs: dict
    note: str
    scale: str
    complete: bool


def choose(experiment, logs):
    """The finished runs to show; None without any."""
    groups = {}
    for lines in finished(logs / f"{experiment}.jsonl").values():
        key = lines[0]["scale"], lines[0]["config"].get("validation")
        groups.setdefault(key, {})[lines[0]["run"]] = lines
    if not groups:
        return None
    names = {scale: [run["run"] for run in declared(experiment, scale)] for scale, _ in groups}

    def rank(key):
        complete = set(names[key[0]]) <= set(groups[key])
        return complete, SCALES.index(key[0]), key[1] == "course"

    best = max(groups, key=rank)
    ordered = {}
    for name in names[best[0]]:
        if name in groups[best]:
            ordered.setdefault(name.rpartition(", seed ")[0], []).append(groups[best][name])
    if not ordered:
        return None
    expected = len(names[best[0]])
    return Shown(ordered, describe(ordered, expected), best[0], sum(map(len, ordered.values())) == expected)


def describe(runs, declared_runs):
    """Scale, data and size in a sentence."""
    lines = [seed for seeds in runs.values() for seed in seeds]
    first = lines[0][0]
    config, count = first["config"], len(lines)
    done = "" if count == declared_runs else f" So far {count} of {declared_runs} runs."
    if "differences" in first:
        return f"{count} runs.{done}"
    size = "no training"
    if config["minutes"]:
        size = f"{config['minutes']:g} min of one core"
    elif config["epochs"]:
        size = f"{plural(config['epochs'], 'epoch')} of {config['images']:,} images"
    validation = {"course": "the validation pairs of `--data`", "generated": "synthetic images"}[config["validation"]]
    seeds = max(map(len, runs.values()))
    return f"Scale {first['scale']}: {size}, {plural(seeds, 'seed')}; PSNR on {validation}.{done}"


def pictures(line):
    """{noisy, denoised, clean: pixels (N, 3, H, W)} that a line holds."""
    coded = {name: bytearray(base64.b64decode(line["pictures"][name])) for name in ("noisy", "denoised", "clean")}
    return {name: torch.frombuffer(c, dtype=torch.uint8).view(line["pictures"]["shape"]) for name, c in coded.items()}


def psnr(seeds):
    """Cells of PSNR A and B, or what failed."""
    failure = last(seeds, "failure")
    return [failure[0].split(":")[0], ""] if failure else [spread(last(seeds, "psnr_a")), spread(last(seeds, "psnr_b"))]


# ------------------------------------------------------------------------------------------------------- tables
# Each takes what is shown of its experiment and gives Markdown.


def blocks(shown):
    rows = {}
    for name, seeds in shown.runs.items():
        block, _, dtype = name.rpartition(" ")
        parts = seeds[0][-1]["differences"]
        weights = [value for key, value in parts.items() if key not in ("output", "grad_input")]
        rows.setdefault(block, {})[dtype] = [parts["output"], parts["grad_input"], max(weights, default=None)]
    cells = [[block, *(f"{value:.1e}" if value is not None else "" for dtype in ("float64", "float32")
                       for value in found.get(dtype, []))] for block, found in rows.items()]  # fmt: skip
    header = [
        "block",
        *(
            f"{what}, {dtype}"
            for dtype in ("float64", "float32")
            for what in ("output", "input's gradient", "parameters' gradient")
        ),
    ]
    return table(cells, header)


def minutes(shown):
    published = {"prescribed": "15.97 (S0, full training)", "rednet of 9 channels": "23.6 (S0, 10 minutes of a GPU)"}
    rows = []
    for name, seeds in shown.runs.items():
        images_seen = f"{seeds[0][-1]['images']:,}"
        rows.append([name, *psnr(seeds), spread(last(seeds, "ensemble_a")), images_seen, published.get(name, "")])
    return table(rows, ["network", "PSNR A", "PSNR B", "A with self-ensemble", "images seen", "published"])


def channels(shown):
    rows = [[name.removeprefix("channels="), *psnr(seeds), f"{cost(seeds):.2f}"] for name, seeds in shown.runs.items()]
    return (
        table(rows, ["channels", "PSNR A", "PSNR B", "CPU s per 1,000 images"])
        + "\n\nPublished (S1, after 30 epochs): 23.8 dB."
    )


def rates(shown):
    rows = []
    for name, seeds in shown.runs.items():
        epochs = trained(seeds)
        lr = seeds[0][0]["config"]["optimizer"]["lr"]
        step = lr * epochs[0]["gradient_norm"] / epochs[0]["weight_norm"] if epochs else None
        losses = [f"{epochs[i]['loss']:.4f}" for i in (0, -1)] if epochs else ["", ""]
        rows.append([name.removeprefix("lr="), *losses, f"{step:.1e}" if epochs else "", *psnr(seeds)])
    text = table(
        rows, ["rate", "loss, first epoch", "loss, last", "step / weights after one epoch", "PSNR A", "PSNR B"]
    )
    return text + (
        "\n\nThe loss is a mean over 3,072 values an image, so its gradient is small: `step / weights` is the rate "
        "times the gradient's norm over the weights' norm. Published: S2 trained at 0.5, S4 at 0.1."
    )


def shapes(shown):
    rows = []
    for name, seeds in shown.runs.items():
        shape = [part.split("=")[1] for part in name.split()]
        failure = last(seeds, "failure")
        rows.append([*shape, *psnr(seeds), str(len(seeds)) if not failure else failure[0].partition(": ")[2]])
    text = table(rows, ["kernel", "stride", "padding", "dilation", "PSNR A", "PSNR B", "runs, or what does not fit"])
    return text + "\n\nPublished (S3, stride 1, kernel 2, 10 runs): 24.89 ± 0.08 A, 24.07 ± 0.06 B."


def curves(shown):
    rows = []
    for network, ours, torchs, exact in side_by_side(shown.runs):
        distance = apart(ours, torchs)
        rows.append([network, *(psnr(runs)[0] for runs in (ours, torchs, exact)), f"{distance[0]:.1e}",
                     f"{max(distance):.2f}", f"{max(apart(ours, exact)):.2f}", f"{max(apart(torchs, exact)):.2f}",
                     f"{cost(ours):.2f}", f"{cost(torchs):.2f}", f"{cost(ours) / cost(torchs):.2f}"])  # fmt: skip
    text = table(rows, ["network", "PSNR A, ours", "torch", "torch in 64 bits", "ours - torch before training, dB",
                        "in any epoch, at most", "ours - 64 bits", "torch - 64 bits",
                        "CPU s per 1,000 images, ours", "torch", "ratio"])  # fmt: skip
    return text + (
        "\n\nThe same weights, batches and steps; what departs from the training in 64 bits is rounding, which long "
        "steps amplify and the falling rate forgets. Times are processor time of one thread beside other work; "
        "`docs/results/speed.md` has measured ones. Published ratios: 6.2 (S0), 3.9 on a CPU and 2.2 on a GPU (S3)."
    )


def grid(shown):
    rates_ = sorted({seeds[0][0]["config"]["optimizer"]["lr"] for seeds in shown.runs.values()})
    cells = {}
    for seeds in shown.runs.values():
        config = seeds[0][0]["config"]
        cells.setdefault((config["batch_size"], config["network"]["channels"][0]), {})[config["optimizer"]["lr"]] = (
            psnr(seeds)[0]
        )
    rows = [[*map(str, key), *(found.get(lr, "") for lr in rates_)] for key, found in sorted(cells.items())]
    return table(rows, ["batch", "channels", *(f"rate {lr:g}" for lr in rates_)])


def long(shown):
    text = plain_table(shown)
    return text + "\n\nPublished (S4: 144 channels, batch 16, rate 0.1, 100 epochs of 50,000 pairs): 23.32 dB."


def plain_table(shown):
    rows = []
    for name, seeds in shown.runs.items():
        losses = [f"{line['loss']:.5f}" for line in trained(seeds)]
        rows.append([name, *psnr(seeds), losses[-1] if losses else "", f"{cost(seeds) or 0:.2f}"])
    return table(rows, ["run", "PSNR A", "PSNR B", "loss, last epoch", "CPU s per 1,000 images"])


def targets(shown):
    rows = {}
    for name, seeds in shown.runs.items():
        pairs, kind = name.removeprefix("pairs=").split()
        rows.setdefault(pairs, {})[kind] = seeds
    cells = []
    for pairs, both in rows.items():
        found = [psnr(both[kind])[0] if kind in both else "" for kind in ("noisy", "clean")]
        gap = mean(last(both["clean"], "psnr_a")) - mean(last(both["noisy"], "psnr_a")) if len(both) == 2 else None
        cells.append([f"{int(pairs):,}", *found, f"{gap:+.2f}" if gap is not None else ""])
    return table(cells, ["images", "noisy targets, PSNR A", "clean targets, PSNR A", "clean - noisy, dB"])


def upsampling(shown):
    rows = []
    for name, seeds in shown.runs.items():
        peaks = checkerboard(seeds[0][-1]["spectrum"]) if "spectrum" in seeds[0][-1] else ()
        rows.append([name, *psnr(seeds), *(f"{peak:+.2f}" for peak in peaks), spread(last(seeds, "flat_deviation"), 3)])
    text = table(
        rows,
        ["upsampling", "PSNR A", "PSNR B", "error at period 2, dB", "error at period 4, dB", "flat grey, deviation"],
    )
    return text + (
        "\n\nThe error's power at a period of 2 (or 4) pixels, over that at the neighbouring frequencies: what a "
        "checkerboard adds. The last column is the standard deviation, in pixel values, of a flat grey image "
        "denoised."
    )


def images(shown):
    rows = [[name, *psnr(seeds), spread(last(seeds, "generated_a")), spread(last(seeds, "generated_b"))]
            for name, seeds in shown.runs.items()]  # fmt: skip
    return table(rows, ["trained on", "PSNR A", "PSNR B", "A on synthetic images", "B"])


def shipped(shown):
    best = json.loads((HERE / "report" / "published.json").read_text())["evaluated"]
    published = {
        "prescribed": f"{best['prescribed']} (one pass)",
        "rednet": f"{best['own blocks']} own blocks, {best['torch.nn']} with torch.nn and Adam, "
        f"{best['torch.nn, self-ensemble']} with self-ensemble too",
    }
    rows = [[name, *psnr(seeds), spread(last(seeds, "ensemble_a")), spread(last(seeds, "ensemble_b")), published[name]]
            for name, seeds in shown.runs.items()]  # fmt: skip
    return table(rows, ["weights", "PSNR A", "PSNR B", "A with self-ensemble", "B", "best published, A, same pairs"])


def floor(shown):
    """Of every run with noisy targets: what the loss should be, and what it is, on the same images."""
    rows = []
    for name, seeds in shown.runs.items():
        if name.endswith(" noisy") and last(seeds, "floor"):
            loss, error, variance = (mean(found[key] for found in last(seeds, "floor"))
                                     for key in ("loss", "error", "variance"))  # fmt: skip
            cells = [f"{value:.5f}" for value in (variance, error, error + variance, loss)]
            rows.append([name, *cells, f"{loss / (error + variance) - 1:+.1%}"])
    text = table(rows, ["run", "noise's variance", "error against clean", "predicted loss", "loss", "difference"])
    return text + (
        "\n\nMean squared errors of 2,000 of the training images (500 where there are no more) after training. A loss "
        "below the prediction is one that has learnt the noise of its targets."
    )


# ------------------------------------------------------------------------------------------------------ figures


def panels(width, height, count=1):
    figure = figures.figure_maker()(width, height)
    return figure, figure.subplots(1, count, squeeze=False)[0]


def draw(axis, lines, xlabel, ylabel):
    """Lines that differ without colour: {label: (x, y)}."""
    for i, (label, (x, y)) in enumerate(lines.items()):
        line, marker, grey = STYLES[i % len(STYLES)]
        style = {"marker": marker, "markersize": 4, "markevery": max(1, len(x) // 15)}
        axis.plot(x, y, line, color=grey, linewidth=1.2, label=label, **style)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    axis.grid(color="0.9", linewidth=0.6)


def legend(figure, axis, columns=4):
    """One legend above all panels, where it hides nothing."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=8, frameon=False)


def save(figure, path):
    figure.savefig(path, dpi=150)


def over_images(seeds, field):
    """(images seen in thousands, field) of the first seed."""
    found = [line for line in seeds[0] if line.get(field) is not None]
    return [line["images"] / 1000 for line in found], [line[field] for line in found]


def loss_and_psnr(shown, path):
    """Two panels, a line for each run."""
    figure, (left, right) = panels(8.2, 3.9, 2)
    for axis, field, label in ((left, "loss", "training loss"), (right, "psnr_a", "validation PSNR A, dB")):
        lines = {name: over_images(seeds, field) for name, seeds in shown.runs.items()}
        draw(axis, {name: line for name, line in lines.items() if line[0]}, "thousand training images", label)
    left.set_yscale("log")
    legend(figure, right, 3)
    save(figure, path)


def channels_figure(shown, path):
    figure, (axis,) = panels(5, 3.4)
    x = [int(name.removeprefix("channels=")) for name in shown.runs]
    for i, (field, label) in enumerate((("psnr_a", "PSNR A"), ("psnr_b", "PSNR B"))):
        values = [last(seeds, field) for seeds in shown.runs.values()]
        line, marker, grey = STYLES[i]
        bars = [stdev(v) if len(v) > 1 else 0 for v in values]
        axis.errorbar(
            x, [mean(v) for v in values], bars, linestyle=line, marker=marker, color=grey, capsize=3, label=label
        )
    axis.set_xscale("log", base=2)
    axis.set_xticks(x, map(str, x))
    axis.set_xlabel("channels")
    axis.set_ylabel("validation PSNR, dB")
    axis.grid(color="0.9", linewidth=0.6)
    axis.legend()
    save(figure, path)


def curves_figure(shown, path):
    pairs = list(side_by_side(shown.runs))
    figure, axes = panels(3.2 * len(pairs), 3.2, len(pairs))
    for axis, (network, ours, torchs, exact) in zip(axes, pairs):
        x, y = over_images(torchs, "psnr_a")
        axis.plot(x, y, color="0.7", linewidth=5, label="torch.nn")
        axis.plot(*over_images(exact, "psnr_a"), "--", color="0.4", linewidth=1, label="torch.nn in 64 bits")
        axis.plot(*over_images(ours, "psnr_a"), "o-", color="black", markersize=4, linewidth=1, label="ours")
        axis.set_title(network, fontsize=10)
        axis.set_xlabel("thousand training images")
        axis.grid(color="0.9", linewidth=0.6)
    axes[0].set_ylabel("validation PSNR A, dB")
    axes[0].legend()
    save(figure, path)


def grid_figure(shown, path):
    """PSNR over epochs: a panel for each batch size, the rate as line, the channels as grey."""
    batches = sorted({seeds[0][0]["config"]["batch_size"] for seeds in shown.runs.values()})
    figure = figures.figure_maker()(3 * len(batches), 5.4)
    axes = figure.subplots(2, len(batches), sharex=True, sharey="row", squeeze=False)
    lines, greys = {0.01: ":", 0.1: "--", 1: "-"}, {24: "0.6", 48: "0.0"}
    for seeds in shown.runs.values():
        config = seeds[0][0]["config"]
        column, lr, width = (
            batches.index(config["batch_size"]),
            config["optimizer"]["lr"],
            config["network"]["channels"][0],
        )
        for row, field in enumerate(("loss", "psnr_a")):
            axes[row][column].plot(*over_images(seeds, field), lines[lr], color=greys[width], linewidth=1.2)
    for column, batch in enumerate(batches):
        axes[0][column].set_title(f"batch {batch}", fontsize=10)
        axes[1][column].set_xlabel("thousand training images")
    axes[0][0].set_ylabel("training loss")
    axes[1][0].set_ylabel("validation PSNR A, dB")
    names = [(f"rate {lr:g}", line, "0.0") for lr, line in lines.items()]
    names += [(f"{width} channels", "-", grey) for width, grey in greys.items()]
    handles = [axes[0][0].plot([], [], line, color=grey)[0] for _, line, grey in names]
    figure.legend(
        handles, [name for name, _, _ in names], loc="outside upper center", ncols=7, fontsize=8, frameon=False
    )
    save(figure, path)


def targets_figure(shown, path):
    figure, (axis,) = panels(5, 3.4)
    lines = {}
    for name, seeds in shown.runs.items():
        pairs, kind = name.removeprefix("pairs=").split()
        x, y = lines.setdefault(f"{kind} targets", ([], []))
        if values := last(seeds, "psnr_a"):
            x.append(int(pairs))
            y.append(mean(values))
    draw(axis, lines, "training images", "validation PSNR A, dB")
    axis.set_xscale("log")
    x = sorted({n for line in lines.values() for n in line[0]})
    axis.set_xticks(x, [f"{n:,}" for n in x])
    axis.minorticks_off()
    axis.legend()
    save(figure, path)


def spectrum_figure(shown, path):
    """The error's power over spatial frequency, the mean of rows and columns; and over that of the last network."""
    found = {name: torch.tensor(seeds[0][-1]["spectrum"]) for name, seeds in shown.runs.items()}
    decibels = {name: 10 * (power.mean(0) + power.mean(1)).div(2).log10() for name, power in found.items()}
    frequency, reference = [i / 32 for i in range(17)], list(decibels)[-1]
    figure, (left, right) = panels(8.2, 3.9, 2)
    draw(left, {name: (frequency, power.tolist()) for name, power in decibels.items()},
         "cycles per pixel", "power of the error, dB")  # fmt: skip
    draw(right, {name: (frequency, (power - decibels[reference]).tolist()) for name, power in decibels.items()},
         "cycles per pixel", f"over that of {reference}, dB")  # fmt: skip
    for axis in (left, right):
        for period in (4, 2):
            axis.axvline(1 / period, color="0.8", linewidth=3, zorder=0)
    legend(figure, left)
    save(figure, path)


def floor_figure(shown, path):
    """The loss and what it should be, over the epochs, with the fewest and with the most images."""
    names = [name for name in shown.runs if name.endswith(" noisy")]
    figure, axes = panels(8.2, 3.6, 2)
    for axis, name in zip(axes, (names[0], names[-1])):
        lines = [line for line in trained(shown.runs[name]) if "floor" in line]
        x, found = [line["images"] / 1000 for line in lines], [line["floor"] for line in lines]
        draw(axis, {
            "error against clean images": (x, [f["error"] for f in found]),
            "predicted loss: error + variance": (x, [f["error"] + f["variance"] for f in found]),
        }, "thousand training images", "mean squared error")  # fmt: skip
        axis.plot(
            x, [f["loss"] for f in found], color="0.75", linewidth=6, zorder=1, label="loss against noisy targets"
        )
        axis.axhline(found[0]["variance"], color="0.5", linewidth=0.8)
        axis.text(x[-1], found[0]["variance"], "noise's variance", fontsize=8, va="bottom", ha="right")
        axis.set_ylim(0)
        axis.set_title(name, fontsize=9)
    legend(figure, axes[0], 3)
    save(figure, path)


def rates_figure(shown, path):
    figure, (left, right) = panels(8.2, 3.4, 2)
    draw(
        left,
        {name: over_images(seeds, "psnr_a") for name, seeds in shown.runs.items()},
        "thousand training images",
        "validation PSNR A, dB",
    )
    ends = [
        (seeds[0][0]["config"]["optimizer"]["lr"], mean(last(seeds, "psnr_a")))
        for seeds in shown.runs.values()
        if last(seeds, "psnr_a")
    ]
    draw(right, {"": tuple(zip(*ends))}, "rate of plain SGD", "PSNR A at the end, dB")
    right.set_xscale("log")
    legend(figure, left)
    save(figure, path)


def pictures_figure(shown, path):
    """Noisy, denoised, clean: synthetic images, by the last weights that are shown."""
    figures.comparison(path, **pictures(list(shown.runs.values())[-1][0][-1]))


# -------------------------------------------------------------------------------------------------- the whole


class Section(NamedTuple):
    experiment: str
    title: str
    text: object
    figure: object = None
    name: str = ""


SECTIONS = [
    Section("s0-blocks", "S0: every block against torch, largest absolute difference", blocks),
    Section("s0-minutes", "S0: in minutes of one core", minutes, loss_and_psnr),
    Section("s1-channels", "S1: channels", channels, channels_figure),
    Section(
        "shipped", "S1: noisy, denoised, clean; and the shipped weights with self-ensemble", shipped, pictures_figure
    ),
    Section("s2-rates", "S2: learning rates of plain SGD", rates, rates_figure),
    Section("s3-shapes", "S3: kernel x stride x padding x dilation", shapes),
    Section("s3-curves", "S3: ours and torch.nn from the same weights on the same batches", curves, curves_figure),
    Section("s4-grid", "S4: batch size, channels, rate of plain SGD (PSNR A)", grid, grid_figure),
    Section("s4-long", "S4: a hundred epochs", long, loss_and_psnr),
    Section("targets", "Noise2Noise against clean targets, and the number of images", targets, targets_figure),
    Section("budget", "2,000 noisy images spent in three ways", plain_table, loss_and_psnr),
    Section("targets", "What the loss falls to", floor, floor_figure, "floor"),
    Section("optimizers", "Optimisers", plain_table, loss_and_psnr),
    Section("upsampling", "Transposed convolution against nearest + convolution", upsampling, spectrum_figure),
    Section("levels", "A RED-Net's channels at full resolution / a half / a quarter / an eighth", plain_table),
    Section("initialisations", "Initial weights", plain_table, loss_and_psnr),
    Section("precision", "bf16 against fp32", plain_table),
    Section("images", "Synthetic images against photographs as training data", images),
]


HEAD = """\
Made by `python -m experiments.show` from `logs/`; no result is typed by hand. Above each table stands what it shows,
checked against the same runs (`findings.py`). PSNR in dB: A is the mean over images of each image's, B that of the mean
squared error over all. Scales: see README.md. The 150 validation pairs are made from photographs, in the course's
format; published figures are their authors', on the course's own, but for the column of the same pairs."""


def smaller(shown):
    """What was run smaller than declared in full, which is as large as the original; nothing without any."""
    rows = []
    for name, found in shown.items():
        if found and found.scale != "full":
            sizes = EXPERIMENTS[name][1]
            rows.append([name, *(length(name, *size) for size in (sizes.get(found.scale, QUICK), sizes["full"]))])
    if not rows:
        return []
    return ["", "## Run smaller than the original", "", SMALLER, "", table(rows, ["experiment", "here", "in full"])]


def length(name, images, epochs, seeds):
    one = plural(epochs, "minute") if name in BY_TIME else f"{plural(epochs, 'epoch')} of {images:,} images"
    return f"{one}, {plural(seeds, 'seed')}"


SMALLER = """\
A short training compares choices, and tells little about what a long one reaches. S4's search had batches of 32 to 512,
24 to 144 channels and rates of 0.001 to 0.1; `s4-grid` has a part of it, and rates ten times as large."""


def found_out(name, shown):
    """(what the runs show, whether they do): no sentence for runs that are not all there, or of a step or two."""
    if not shown.complete or shown.scale == "quick":
        return "", True
    sentence, holds = FINDINGS[name](shown.runs)
    return (sentence if holds else f"Declared, but not so in these runs: {sentence}"), bool(holds)


def main(argv=None):
    """-> exit status: 1 if a finding is not borne out by the runs, after all is written."""
    parser = argparse.ArgumentParser(
        prog="experiments.show", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE, help="folder of logs/; RESULTS.md and figures/ go there")
    args = parser.parse_args(argv)
    shown = {name: choose(name, args.out / "logs") for name in EXPERIMENTS}
    (args.out / "figures").mkdir(parents=True, exist_ok=True)
    text, refuted = ["# Results of the experiments", "", HEAD, *smaller(shown)], []
    for section in SECTIONS:
        if found := shown[section.experiment]:
            name = section.name or section.experiment
            sentence, holds = found_out(name, found)
            refuted += [] if holds else [name]
            text += ["", f"## {section.title}", *(["", sentence] if sentence else []), "", found.note]
            text += ["", section.text(found)]
            if section.figure:
                section.figure(found, args.out / f"figures/{name}.png")
                text += ["", f"![{section.title}](figures/{name}.png)"]
    (args.out / "RESULTS.md").write_text("\n".join(text) + "\n")
    if refuted:
        print(f"show: the runs do not bear out the finding of {', '.join(refuted)}; see experiments/findings.py",
              file=sys.stderr)  # fmt: skip
    return int(bool(refuted))


if __name__ == "__main__":
    sys.exit(main())
