"""The sentences of report.typ that judge, each with the comparison that it stands on: `verify(text, numbers)`.

A sentence that was rewritten is not found here any more, and numbers that moved do not bear it out: both raise
`Unsupported`, so the report is not typeset. `tests/test_report.py` finds judgements without an entry.
"""

import re
from typing import NamedTuple

from experiments.findings import LEVEL

from .gather import Unsupported


class Claim(NamedTuple):
    """`words` of the template, what they `need`, the numbers' `values`, and whether these `hold`."""

    words: str
    need: str
    values: object
    hold: object


def floats(*texts):
    return [float(text.replace(",", "").split()[0]) for text in texts]


def once(n):
    """PSNR A in one pass: the RED-Net's, the best published with torch.nn."""
    return floats(n["quality"]["rednet"]["once"][0], n["published"]["evaluated"]["torch.nn"])


def ahead(values):
    ours, theirs = values
    return ours - theirs > LEVEL


CLAIMS = [
    Claim(
        "where the best weights published for it reach #published.evaluated.prescribed dB",
        "the prescribed network's PSNR A above the best published",
        lambda n: floats(n["quality"]["prescribed"]["once"][0], n["published"]["evaluated"]["prescribed"]),
        ahead,
    ),
    Claim(
        "ahead of the best that was allowed `torch.nn`", f"its PSNR A more than {LEVEL} dB above", once, ahead,
    ),
    Claim(
        "the RED-Net is ahead of the best published network of `torch.nn`",
        f"its PSNR A more than {LEVEL} dB above", once, ahead,
    ),
    Claim(
        "with self-ensemble, the mean over the eight flips and turns, of the best that had it",
        "the RED-Net's PSNR A with self-ensemble above the best published with it",
        lambda n: floats(n["quality"]["rednet"]["ensemble"][0], n["published"]["evaluated"]["torch.nn, self-ensemble"]),
        ahead,
    ),
    Claim(
        "Self-ensemble adds little", "gains of less than 0.2 dB",
        lambda n: [after - before for name in ("prescribed", "rednet")
                   for before, after in [floats(*(n["quality"][name][way][0] for way in ("once", "ensemble")))]],
        lambda values: min(values) > 0 and max(values) < 0.2,
    ),
    Claim(
        "#n.kernels.folded.saved times fewer", "a factor above 1",
        lambda n: floats(n["kernels"]["folded"]["saved"]), lambda values: values[0] > 1,
    ),
    Claim(
        "#n.kernels.winograd.points multiplications instead of #n.kernels.winograd.plain", "fewer of them",
        lambda n: floats(n["kernels"]["winograd"]["points"], n["kernels"]["winograd"]["plain"]),
        lambda values: values[0] < values[1],
    ),
    Claim(
        "Fewer multiplications win a part of that", "torch's convolution above its matrix product, in GFLOP/s",
        lambda n: floats(n["speed"]["product"], n["speed"]["convolution"]), lambda values: values[0] < values[1],
    ),
    Claim(
        "ours are #speed.unfold.join(\" to \") times as fast", "factors above 1",
        lambda n: floats(*n["speed"]["unfold"]), lambda values: min(values) > 1,
    ),
]  # fmt: skip


def plain(text):
    return re.sub(r"\s+", " ", text)


def verify(text, numbers):
    """Raise Unsupported if a claim is not in the text of the template, or the numbers do not bear it out."""
    for claim in CLAIMS:
        if claim.words not in plain(text):
            raise Unsupported(f"report.typ does not say {claim.words!r} any more; change claims.py as well")
        values = claim.values(numbers)
        if not claim.hold(values):
            shown = ", ".join(f"{value:g}" for value in values)
            raise Unsupported(f"report.typ says {claim.words!r}, which needs {claim.need}; the numbers are {shown}")
