"""What the lines of runs say: of `runs`, {variant: [lines of a run, seed by seed]}, as `show.choose` gives them."""

from math import log10
from statistics import mean, stdev

import torch


def last(seeds, field):
    """The field in the last line of every seed, where there is one."""
    return [lines[-1][field] for lines in seeds if lines[-1].get(field) is not None]


def average(runs):
    """{variant: PSNR A, mean over seeds}, without those of which a seed failed."""
    return {name: mean(last(seeds, "psnr_a")) for name, seeds in runs.items()
            if len(last(seeds, "psnr_a")) == len(seeds)}  # fmt: skip


def spread(values, digits=2):
    """Mean, +- standard deviation if there are several; a dash where a run failed, nothing without values."""
    if not values or None in values:
        return "-" if values else ""
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{deviation}"


def trained(seeds):
    """The epochs after training began, of the first seed."""
    return [line for line in seeds[0] if line["epoch"] and line["loss"] is not None]


def cost(seeds):
    """Processor seconds for 1,000 training images, over all epochs of all seeds."""
    seconds = sum(line["cpu_seconds"] for lines in seeds for line in lines)
    images = sum(lines[-1]["images"] for lines in seeds)
    return 1000 * seconds / images if images else None


def side_by_side(runs):
    """(network, ours, torch's, torch's in 64 bits) of every network that was trained in all three."""
    for name in runs:
        network, _, framework = name.rpartition(", ")
        others = [f"{network}, {other}" for other in ("torch", "torch in 64 bits")]
        if framework == "ours" and all(other in runs for other in others):
            yield network, runs[name], *(runs[other] for other in others)


def apart(some, others):
    """By how many dB the PSNR of two runs differs in each epoch, from the one before training."""
    return [abs(a["psnr_a"] - b["psnr_a"]) for one, other in zip(some, others) for a, b in zip(one, other)]


def checkerboard(power):
    """(at period 2, at period 4): the mean power of the row and the column of that frequency over that of their
    neighbours, in dB. Frequencies are 0 to 16, cycles per 32 pixels."""
    power, found = torch.tensor(power), []
    for frequency, near in ((16, (14, 15)), (8, (6, 7, 9, 10))):
        lines = power[frequency].mean() + power[:, frequency].mean()
        others = sum(power[i].mean() + power[:, i].mean() for i in near) / len(near)
        found.append(10 * log10(float(lines / others)))
    return found


def plural(count, noun):
    return f"{count:g} {noun}{'s' * (count != 1)}"
