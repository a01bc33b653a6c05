"""What each experiment shows, in words: the sentences above the tables of RESULTS.md.

A finding takes the runs of its experiment and gives its sentence, with their numbers, and whether they bear it out.
Each word that judges ("most", "hardly", "as far as") is a comparison beside it.
"""

import json
from itertools import pairwise
from math import nan
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from .measures import apart, average, checkerboard, cost, last, side_by_side

PUBLISHED = json.loads((Path(__file__).resolve().parent / "report" / "published.json").read_text())
LEVEL = 0.03  # dB: between networks on the same 150 images, less is no difference


class Finding(NamedTuple):
    sentence: str
    holds: bool


def stated(experiment):
    """{variant: PSNR A in dB, as its authors state it} of the published networks that an experiment repeats."""
    claims = [claim for claim in PUBLISHED["claims"] if claim["experiment"] == experiment and claim["psnr"]]
    return {claim["variant"]: claim["psnr"] for claim in claims}


def ends(runs):
    """{variant: PSNR A, mean over seeds, as tables print it; nan where one failed}: no comparison with nan holds."""
    return dict.fromkeys(runs, nan) | {name: round(value, 2) for name, value in average(runs).items()}


def steps_of(values):
    return [after - before for before, after in pairwise(values)]


def blocks(runs):
    largest = {}
    for name, seeds in runs.items():
        for part, value in last(seeds, "differences")[0].items():
            key = name.rpartition(" ")[2], part in ("output", "grad_input")
            largest[key] = max(value, largest.get(key, 0))
    single, double = ([largest[dtype, each] for each in (True, False)] for dtype in ("float32", "float64"))
    return Finding(
        "Every block that torch has agrees with it to rounding. Outputs and input gradients differ by at most "
        f"{single[0]:.1e} in single and {double[0]:.1e} in double precision, gradients of parameters, which are long "
        f"sums, by {single[1]:.1e} and {double[1]:.1e}.",
        max(double) < 1e-11 and max(single) < 2e-3,
    )


def minutes(runs):
    found, claims = ends(runs), stated("s0-minutes")
    (first, second), wide = claims, found["rednet"]
    length = f"{next(iter(runs.values()))[0][0]['config']['minutes']:g}"
    return Finding(
        f"In {length} minutes of one core the prescribed network and S0's RED-Net of nine channels get further than "
        f"S0 states: {found[first]:.2f} dB against {claims[first]}, {found[second]:.2f} against {claims[second]}. In "
        f"that time a RED-Net of more channels gets no further ({wide:.2f}).",
        all(found[name] > float(claim) for name, claim in claims.items()) and wide < found[second] + LEVEL,
    )


def channels(runs):
    found, costs = list(ends(runs).values()), [round(cost(seeds), 2) for seeds in runs.values()]
    gains, (first, *_, most) = steps_of(found), [name.partition("=")[2] for name in runs]
    return Finding(
        f"Each doubling of the channels gains between {min(gains):.2f} and {max(gains):.2f} dB, from {found[0]:.2f} "
        f"dB with {first} to {found[-1]:.2f} with {most}, which takes {costs[-1] / costs[0]:.0f} times as long.",
        min(gains) > LEVEL,
    )


def shipped(runs):
    """Nothing of generated images: what others reach is known of the course's."""
    if any(seed[0]["config"]["validation"] != "course" for seeds in runs.values() for seed in seeds):
        return Finding("", True)
    once, ensemble = ends(runs), {name: mean(last(seeds, "ensemble_a")) for name, seeds in runs.items()}
    best = {name: float(value) for name, value in PUBLISHED["evaluated"].items()}
    gains = [once["prescribed"] - best["prescribed"], once["rednet"] - best["own blocks"]]
    torchs = [best["torch.nn"], best["torch.nn, self-ensemble"]]
    return Finding(
        f"The prescribed network is {gains[0]:.2f} dB above the best published weights of that network, the RED-Net "
        f"{gains[1]:.2f} above the best on own blocks. It is ahead of the best that had `torch.nn`, in one pass "
        f"({once['rednet']:.2f} against {torchs[0]:.2f}) and with self-ensemble ({ensemble['rednet']:.2f} against "
        f"{torchs[1]:.2f}).",
        min(*gains, once["rednet"] - torchs[0], ensemble["rednet"] - torchs[1]) > LEVEL,
    )


def rates(runs):
    found = ends(runs)
    start = mean(seeds[0][0]["psnr_a"] for seeds in runs.values())
    (least, *_, most), best = found, max(found, key=found.get)
    rate = {name: name.partition("=")[2] for name in runs}
    return Finding(
        f"Plain SGD needs a large rate. The best here, {rate[best]}, reaches {found[best]:.2f} dB; a rate of "
        f"{rate[least]} leaves the network within 1 dB of where it began ({found[least]:.2f} after {start:.2f}), and "
        f"one of {rate[most]} takes it far below that ({found[most]:.2f}).",
        float(rate[best]) >= 1 and abs(found[least] - start) < 1 and found[most] < start - 3,
    )


def shapes(runs):
    found = {
        tuple(int(part.partition("=")[2]) for part in name.split()): value for name, value in average(runs).items()
    }
    one = {key: value for key, value in found.items() if key[1] == 1}
    best = max(found, key=found.get)
    kernels, pads, dilations = zip(*((k, p, d) for k, _, p, d in one))
    smaller = [
        one[k, 1, p, d] - one[k + 1, 1, p, d] for k in sorted(set(kernels))[:-1] for p in pads for d in dilations
    ]
    padded = [one[k, 1, 1, d] - one[k, 1, 0, d] for k in kernels for d in dilations]
    dense = [one[k, 1, p, 1] - one[k, 1, p, 2] for k in kernels for p in pads]
    return Finding(
        f"Of {len(runs)} shapes {len(runs) - len(found)} do not bring an image back in its size. So short a training "
        "tells how fast the others start, not where they would end: with stride one, a smaller kernel, padding "
        f"and no dilation each learn faster, whatever the rest. The fastest, with {found[best]:.2f} dB, has "
        f"kernel {best[0]}, stride {best[1]}, padding {best[2]}, dilation {best[3]}.",
        min(*smaller, *padded, *dense) > LEVEL,
    )


def curves(runs):
    end, way, double = [], [], []
    for _, ours, torchs, exact in side_by_side(runs):
        distances = apart(ours, torchs)
        end, way, double = [*end, distances[-1]], [*way, max(distances)], [*double, max(apart(torchs, exact))]
    return Finding(
        f"From the same weights on the same batches, ours and `torch.nn` end within {max(end):.2f} dB of each other. "
        f"On the way they part by up to {max(way):.2f} dB, about as far as `torch.nn` from itself in double "
        f"precision ({max(double):.2f}): long steps amplify rounding.",
        max(end) < LEVEL and all(one < 1.25 * other for one, other in zip(way, double)),
    )


def grid(runs):
    found = {}
    for name, value in ends(runs).items():
        batch, width, rate = (part.partition("=")[2] for part in name.split())
        found.setdefault(rate, {})[int(batch), int(width)] = value
    (_, small), (_, usual), (rate, large) = found.items()
    gains, batches = [large[key] - usual[key] for key in large], [large[batch, 24] for batch in (32, 128, 512)]
    width = abs(large[32, 48] - large[32, 24])
    return Finding(
        "The rate and the number of steps decide. A rate of 0.1, the largest of S4's search, gets to "
        f"{max(usual.values()):.1f} dB at most in these short trainings of the prescribed network, and one of {rate} "
        f"to {max(large.values()):.1f}. From as many images, larger batches take fewer steps and learn less: "
        f"{batches[0]:.1f}, {batches[1]:.1f} and {batches[2]:.1f} dB with 32, 128 and 512. Twice as many channels "
        f"change so short a training by {width:.1f} dB.",
        min(gains) > 0 and max(large.values()) - max(usual.values()) > 1 and min(usual.values()) > min(small.values())
        and batches[0] - batches[1] > LEVEL < batches[1] - batches[2] and width < batches[0] - batches[1],
    )  # fmt: skip


def long(runs):
    plain, cycle = ends(runs).values()
    (claim,) = stated("s4-long").values()
    return Finding(
        f"At a constant rate, as S4 has it, S4's network ends at {plain:.2f} dB; with momentum, bounded gradients and "
        f"one cycle of the rate at {cycle:.2f}, after as many epochs. That is from fewer images than S4's, which "
        f"states {claim}.",
        cycle - plain > LEVEL and cycle > float(claim),
    )


def targets(runs):
    found = ends(runs)
    counts = [name.split()[0] for name in runs if name.endswith(" noisy")]
    gaps = [found[f"{count} clean"] - found[f"{count} noisy"] for count in counts]
    few, many = (found[f"{count} noisy"] for count in (counts[0], counts[-1]))
    return Finding(
        f"Clean images are hardly missed: as targets they are worth at most {max(gaps):.2f} dB more than noisy ones. "
        f"Nor are many images needed, at this length: {counts[0].partition('=')[2]} noisy pairs reach {few:.2f} dB, "
        f"{int(counts[-1].partition('=')[2]):,} reach {many:.2f}.",
        max(gaps) < 0.1 and many - few < 0.2,
    )


def floor(runs):
    off, parts = [], ()
    for name, seeds in runs.items():
        if name.endswith(" noisy"):
            loss, error, variance = (mean(found[key] for found in last(seeds, "floor"))
                                     for key in ("loss", "error", "variance"))  # fmt: skip
            off, parts = [*off, loss / (error + variance) - 1], (error, variance, loss)
    return Finding(
        "The loss against noisy targets falls to the error against clean images plus the variance of the noise, "
        f"within {max(map(abs, off)):.1%}, and not to zero: with the most pairs it ends at {parts[2]:.5f}, the "
        f"error at {parts[0]:.5f} and the variance at {parts[1]:.5f}.",
        max(map(abs, off)) < 0.01,
    )


def budget(runs):
    mean_of_all, another, fresh = ends(runs).values()
    return Finding(
        f"Of 2,000 noisy images, two of each of many scenes give {fresh - mean_of_all:.2f} dB more than many of few. "
        f"Of few scenes, the mean of all others is the better target, by {mean_of_all - another:.2f} dB.",
        fresh - mean_of_all > LEVEL < mean_of_all - another,
    )


def optimizers(runs):
    found = ends(runs)
    kinds = {}
    for name, value in found.items():
        kind = name.split()[0], "cycle" in name
        kinds[kind] = max(value, kinds.get(kind, 0))
    adam, momentum, sgd = (kinds[name, False] for name in ("Adam", "momentum", "SGD"))
    muon, nesterov = kinds["Muon", True], kinds["Nesterov", True]
    return Finding(
        f"At a constant rate Adam leads, each at its better rate ({adam:.2f} dB; momentum {momentum:.2f}, plain SGD "
        f"{sgd:.2f}). Nesterov's momentum with bounded gradients along one cycle overtakes it ({nesterov:.2f}), and "
        f"Muon along a cycle both ({muon:.2f}).",
        muon - nesterov > LEVEL and nesterov - adam > LEVEL and adam - momentum > LEVEL and momentum - sgd > LEVEL,
    )


def upsampling(runs):
    found, flat = ends(runs), {name: mean(last(seeds, "flat_deviation")) for name, seeds in runs.items()}
    peaks = [peak for seeds in runs.values() for peak in checkerboard(seeds[0][-1]["spectrum"])]
    nearest, best = flat.pop("nearest + convolution"), max(found, key=found.get)
    return Finding(
        "Flat grey comes back flat only from nearest upsampling with a convolution; transposed convolutions leave "
        f"{min(flat.values()):.1f} to {max(flat.values()):.1f} pixel values of unevenness. In the error of photographs "
        f"a checkerboard's frequencies exceed their neighbours by at most {max(peaks):.2f} dB. The best PSNR comes "
        f"from a {best.replace(',', ' convolution with')}: {found[best]:.2f} dB; nearest + convolution has the least, "
        f"{min(found.values()):.2f}.",
        nearest < 0.01 < 0.5 < min(flat.values()) and max(peaks) < 0.5
        and min(found, key=found.get) == "nearest + convolution" and best.startswith("transposed"),
    )  # fmt: skip


def levels(runs):
    found = ends(runs)
    usual, one, three, _, *wider = found.values()
    outer, inner = [three, *wider[:2]], wider[2:4]
    return Finding(
        f"At full resolution a second layer of 64 channels is worth {usual - one:.2f} dB; a third, or more channels "
        f"there, at most {max(outer) - usual:.2f} more. More layers or channels inside gain nothing "
        "at this length.",
        usual - one > 0.1 > max(outer) - usual and max(inner) < usual + LEVEL,
    )


def initialisations(runs):
    found = ends(runs)
    tiny = found.pop("tiny")
    values = found.values()
    return Finding(
        f"The usual distributions end within {max(values) - min(values):.2f} dB of each other. From weights of "
        f"nearly zero little is learnt in this time: {tiny:.2f} dB.",
        max(values) - min(values) < 0.3 and tiny < 15,
    )


def precision(runs):
    single, half = ends(runs).values()
    return Finding(
        f"Activations in bf16 cost nothing that shows: {half:.2f} dB against {single:.2f} in fp32.",
        half > single - LEVEL,
    )


def images(runs):
    found = {name: [mean(last(seeds, field)) for field in ("psnr_a", "generated_a")] for name, seeds in runs.items()}
    lost = [found["course"][0] - found["generated"][0], found["generated"][1] - found["course"][1]]
    return Finding(
        f"Synthetic images teach nearly as much: a network that learnt from them is {lost[0]:.2f} dB behind on "
        f"photographs, and {lost[1]:.2f} ahead on synthetic images.",
        LEVEL < lost[0] < 0.5 and lost[1] > LEVEL,
    )


#: name of a section of RESULTS.md: its finding
FINDINGS = {
    "s0-blocks": blocks,
    "s0-minutes": minutes,
    "s1-channels": channels,
    "shipped": shipped,
    "s2-rates": rates,
    "s3-shapes": shapes,
    "s3-curves": curves,
    "s4-grid": grid,
    "s4-long": long,
    "targets": targets,
    "budget": budget,
    "floor": floor,
    "optimizers": optimizers,
    "upsampling": upsampling,
    "levels": levels,
    "initialisations": initialisations,
    "precision": precision,
    "images": images,
}
