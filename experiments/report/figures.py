"""The report's figures, drawn from the logs alone: black on white, told apart by marker and line, as SVG.

Letters stay text, so that the typesetter sets them in its own type. The same logs give the same bytes.
"""

import re
from math import log10
from statistics import mean

from experiments import show
from others.nn.geometry import correlation_size, phases

from .gather import finished, last, pretty, speed

WIDTH = 7.05  # inches of print, both columns
COLUMN = 3.42
STYLES = (("o", "-", "black"), ("s", "--", "0.35"), ("^", ":", "black"), ("D", "-.", "0.5"), ("v", "--", "black"))


def figure(width, height, rows=1, columns=1, **options):
    """A matplotlib figure and its axes. Raises ImportError that says what to install."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('reports need matplotlib: pip install ".[report]" in the folder of the project') from error
    matplotlib.rcParams.update({
        "svg.fonttype": "none", "svg.hashsalt": "report", "font.family": "STIXGeneral", "font.size": 8.5,
        "axes.titlesize": 8.5, "axes.linewidth": 0.5, "xtick.major.width": 0.5, "ytick.major.width": 0.5,
        "xtick.minor.size": 0, "ytick.minor.size": 0, "lines.linewidth": 0.8, "lines.markersize": 3.2,
        "legend.fontsize": 7.6, "legend.frameon": False, "axes.spines.top": False, "axes.spines.right": False,
    })  # fmt: skip
    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(drawn)
    return drawn, drawn.subplots(rows, columns, squeeze=False, **options)


def write(drawn, path):
    drawn.savefig(path, metadata={"Date": None, "Creator": None})


def draw(root, folder):
    """Write all figures below `folder`."""
    write(pictures(root), folder / "pictures.svg")
    write(ratios(root), folder / "speed.svg")
    write(phases_of_scatter(), folder / "phases.svg")
    drawn, axes = figure(WIDTH, 3.7, 2, 3)
    panels = (curves, rates, channels, pairs, optimisers, spectrum)
    for letter, panel, axis in zip("abcdef", panels, axes.flat):
        axis.set_title(f"({letter}) {panel(root, axis)}", loc="left")
    write(drawn, folder / "ablations.svg")


def pictures(root):
    """The logged synthetic images in a row: noisy, denoised and clean."""
    logged = show.pictures(finished(root, "shipped")[1]["rednet"][0][-1])
    drawn, axes = figure(WIDTH, 0.78, 1, 3 * len(logged["clean"]))
    for images, group in zip(zip(*logged.values()), axes.reshape(-1, 3)):
        for name, image, axis in zip(logged, images, group):
            axis.imshow(image.permute(1, 2, 0).tolist(), interpolation="nearest")
            axis.set_title(name)
            axis.set_axis_off()
    return drawn


def phases_of_scatter(size=8, kernel_size=3, stride=2, padding=1):
    """One axis of a `scatter`: which tap takes which small pixel to which output, from `geometry.phases` itself."""
    drawn, ((axis,),) = figure(COLUMN, 1.1)
    small = correlation_size(size, kernel_size, stride, padding)
    for phase, (_, line, _) in zip(phases(size, kernel_size, stride, padding, 1), STYLES):
        taps = range(kernel_size)[::-1][phase.taps]
        for step in range(phase.count):
            place = phase.first + step * stride
            axis.plot(place, 1, "s", color="black", markersize=13, markerfacecolor="white" if line == "-" else "0.8")
            axis.annotate(f"$x_{{{place}}}$", (place, 1), ha="center", va="center_baseline")
            for index, tap in enumerate(taps):
                o = step - phase.padding + index * phase.dilation
                if 0 <= o < small:
                    axis.plot((place, stride * o), (0.82, 0.18), linestyle=line, color="black", linewidth=0.7)
                    axis.annotate(f"$w_{tap}$", ((place + stride * o) / 2, 0.5), fontsize=7, ha="center", va="center",
                                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8})  # fmt: skip
    for o in range(small):
        axis.plot(stride * o, 0, "o", color="black", markersize=13, markerfacecolor="white")
        axis.annotate(f"$y_{o}$", (stride * o, 0), ha="center", va="center_baseline")
    axis.set_xlim(-0.5, size - 0.5)
    axis.set_ylim(-0.3, 1.3)
    axis.set_axis_off()
    return drawn


def ratios(root):
    """Time of a training step over torch.nn's, network by network, on a quiet machine and beside another program."""
    steps = [cells for cells in speed(root)["rows"] if cells[""] == "step"]
    names = [f"{cells['network']}, {cells['images']} images" for cells in steps]
    drawn, ((axis,),) = figure(COLUMN, 2.1)
    for column, marker, filled, label in (
        ("ours / torch", "o", "black", "idle cores"),
        ("busy", "s", "white", "one core busy"),
    ):
        values = [float(cells[column]) for cells in steps]
        axis.plot(values, range(len(names)), marker, color="black", markerfacecolor=filled, label=label)
    axis.axvline(1, color="black", linewidth=0.5)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xlabel("time of a step / torch.nn's")
    axis.grid(axis="y", color="0.88", linewidth=0.4)
    axis.set_axisbelow(True)
    drawn.legend(loc="outside upper center", ncols=2, columnspacing=1, handletextpad=0.2)
    return drawn


# ------------------------------------------------------------------------------------------------------- panels


def value(run, name):
    return float(re.search(rf"{name}=([\d.]+)", run)[1])


def over_epochs(axis, runs, label, style):
    """A line of PSNR A over the images seen, averaged over seeds, from the first epoch."""
    marker, line, colour = style
    epochs = list(zip(*runs))[1:]
    axis.plot([epoch[0]["images"] for epoch in epochs], [mean(each["psnr_a"] for each in epoch) for epoch in epochs],
              marker, linestyle=line, color=colour, label=label)  # fmt: skip


def finish(axis, columns=1):
    """Names of the axes, and a legend below the lines."""
    low, high = axis.get_ylim()
    labelled = sum(not line.get_label().startswith("_") for line in axis.get_lines())
    axis.set_ylim(low - 0.2 * (high - low) * -(-labelled // columns), high)
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.set_xlabel("training images seen")
    axis.set_ylabel("PSNR A, dB")
    axis.legend(loc="lower right", ncols=columns, columnspacing=0.8, handlelength=1.8, handletextpad=0.5, borderpad=0)


def against(axis, points, label, style):
    """A line through (x, PSNR A averaged over seeds); a failed run has no point."""
    marker, line, colour = style
    points = sorted((x, mean(runs)) for x, runs in points if None not in runs)
    axis.plot(*zip(*points), marker, linestyle=line, color=colour, label=label)


def plain_log(axis, base, ticks):
    axis.set_xscale("log", base=base)
    axis.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
    axis.set_ylabel("PSNR A, dB")


def curves(root, axis):
    for (network, ours, torchs, _), style in zip(show.side_by_side(finished(root, "s3-curves")[1]), STYLES):
        over_epochs(axis, torchs, None, ("s", "none", "0.45"))
        axis.get_lines()[-1].set(markersize=5.5, markerfacecolor="none", markeredgewidth=0.6)
        over_epochs(axis, ours, pretty(network), style)
    axis.get_lines()[0].set_label("the same in torch.nn")
    finish(axis)
    return "our blocks; squares: torch.nn"


def rates(root, axis):
    variants = finished(root, "s2-rates")[1]
    against(axis, [(value(name, "lr"), last(runs)) for name, runs in variants.items()], None, STYLES[0])
    plain_log(axis, 10, [0.01, 0.1, 1, 10])
    axis.set_xlabel("learning rate of plain SGD")
    return "learning rate"


def channels(root, axis):
    variants = finished(root, "s1-channels")[1]
    against(axis, [(value(name, "channels"), last(runs)) for name, runs in variants.items()], None, STYLES[0])
    plain_log(axis, 2, [8, 16, 32, 64, 128, 256])
    axis.set_xlabel("channels, nearest + convolution")
    return "channels"


def pairs(root, axis):
    variants = finished(root, "targets")[1]
    for target, style in zip(("noisy", "clean"), STYLES):
        found = [(value(name, "pairs"), last(runs)) for name, runs in variants.items() if name.endswith(target)]
        against(axis, found, f"{target} targets", style)
    plain_log(axis, 10, [500, 2_000, 10_000, 50_000])
    axis.set_xlabel("training pairs")
    axis.legend()
    return "targets and number of pairs"


def optimisers(root, axis):
    variants = finished(root, "optimizers")[1]
    best, cycles = {}, {"Adam": None, "Muon": "Muon, cycle", "Nesterov": "Nesterov, cycle"}
    for name, runs in variants.items():
        first = name.split()[0]
        kind = cycles[first] if "cycle" in name else first
        if kind and None not in last(runs):
            best.setdefault(kind, []).append((mean(last(runs)), name))
    for (kind, each), style in zip(best.items(), STYLES):
        over_epochs(axis, variants[max(each)[1]], kind, style)
    finish(axis, columns=2)
    return "optimisers, each at its better rate"


def spectrum(root, axis):
    """Power of the error at each horizontal frequency, averaged over the vertical ones, of transposed convolutions over
    nearest upsampling with a convolution."""
    powers = {}
    for name, runs in finished(root, "upsampling")[1].items():
        columns = [[mean(column) for column in zip(*run[-1]["spectrum"])] for run in runs]
        powers[name] = [mean(each) for each in zip(*columns)]
    usual = powers.pop("nearest + convolution")
    frequencies = [index / (2 * (len(usual) - 1)) for index in range(len(usual))]
    for (name, power), (marker, line, colour) in zip(powers.items(), STYLES):
        decibels = [10 * log10(one / other) for one, other in zip(power, usual)]
        axis.plot(frequencies, decibels, marker, linestyle=line, color=colour, label=pretty(name), markevery=4)
    axis.axhline(0, color="black", linewidth=0.5)
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.8 * (high - low))
    axis.set_xlabel("cycles per pixel")
    axis.set_ylabel("error's power, dB")
    axis.legend(loc="upper left")
    return "error over nearest + convolution's"
