"""A picture's black and white: which values are 0 and 255 to a network, and which pixels hold no value of the picture.

Pictures of 8 bits have their type's range. For other types it is found in the picture: from its least value to its
greatest, whatever lies far beyond the percentiles left out; or it is the range that the file declares, or one that is
customary (0 to 1, 255, 1023, 4095 ...), if the picture fills that. Pixels outside the range, NaN and those that stand
for no value are hidden from the network, by the mean of their surroundings, and keep their values.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

BAND = 64  # rows that are worked on at once, for results that need no other copy of the picture
LARGEST, SMALLEST = 1e300, 1e-300  # of values, and of the difference between black and white, which must not overflow
KEPT = 2**22  # values that a range is found from: of more than so many every second one, every fourth ...
TRIMMED = 1000  # of so many values one, at either end, does not count for the percentiles; three at least
CUSTOMARY = 1, 255, 1023, 4095, 16383, 65535  # white, where black is 0
FILLED = 0.9  # of a customary range: with less of the network's 255 values its error grows by more than 0.1 dB
DECLARED_FILLED = 0.5  # of a declared one, which stays true of a picture that is a little dark


class Range(NamedTuple):
    """`nodata`: values between that stand for none. `source`: whether it is the "type"'s own, was "declared" by the
    file, "found" or "given"."""

    low: float
    high: float
    nodata: tuple[float, ...] = ()
    source: str = "type"

    def __str__(self) -> str:
        if not self.high > self.low:
            return f"one value, {self.low:g}: left as it is"
        digits = max(0, 3 - math.floor(math.log10(self.high - self.low)))
        black, white = (f"{round(value, digits):.15g}" for value in self[:2])
        return f"{black} is black, {white} white ({self.source})"


class Declared(NamedTuple):
    """What a file says itself."""

    low: float | None = None
    high: float | None = None
    nodata: tuple[float, ...] = ()


def own(dtype: torch.dtype) -> tuple[int, int]:
    """(black, white) of a type of numbers: all that integers can be; 0 and 1 of floating point."""
    return (0, 1) if dtype.is_floating_point else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)


def has_value(values: torch.Tensor, range: Range) -> torch.Tensor:
    """Which of `values`, float64, are the picture's: inside of the range, no NaN, not standing for no value."""
    inside = (values >= range.low) & (values <= range.high)
    for nothing in range.nodata:
        inside &= values != nothing
    return inside


class Seen(NamedTuple):
    """`filled`: whether values inside a range differ by more than 1 of 255, or are all the same; `beyond`: how many of
    `total` are outside."""

    filled: bool
    beyond: int
    total: int


def seen_in(colours: torch.Tensor, range: Range) -> Seen:
    """What is seen of (H, W, C) in a range."""
    least, greatest, beyond = math.inf, -math.inf, 0
    for band in colours.split(BAND):
        values = band.to(torch.float64)
        beyond += int(((values < range.low) | (values > range.high)).sum())
        values = values[has_value(values, range)]
        if len(values):
            least, greatest = min(least, float(values.min())), max(greatest, float(values.max()))
    filled = least == greatest or greatest - least > (range.high - range.low) / 255
    return Seen(filled, beyond, colours.numel())


# ------------------------------------------------------------------------------------------------ finding a range


class Sample:
    """Values of pages of one type, to find their common range from."""

    def __init__(self) -> None:
        self.parts: list[torch.Tensor] = []
        self.extremes: list[torch.Tensor] = []
        self.step = 1

    def add(self, page: torch.Tensor, nodata: tuple[float, ...] = ()) -> None:
        """The values of a page (H, W, C), without `nodata`, NaN and infinity."""
        for band in page.split(BAND):
            values = band.reshape(-1).to(torch.float64)
            values = values[has_value(values, Range(-LARGEST, LARGEST, nodata))]
            if len(values):
                self.extremes += values.aminmax()
                self.parts.append(values[:: self.step])
            while sum(map(len, self.parts)) > KEPT:
                self.parts, self.step = [torch.cat(self.parts)[::2]], self.step * 2

    def range(self, dtype: torch.dtype, declared: Declared | None = None) -> Range:
        """The range of all that was added."""
        least, greatest, nodata = declared or Declared()
        if not self.parts:
            return Range(0, 0, nodata, "found")
        low, high = inliers(torch.cat(self.parts), torch.stack(self.extremes))
        known: list[tuple[float, float, str, float]] = [(*own(dtype), "type", FILLED)]
        known += [(0, white, "found", FILLED) for white in CUSTOMARY]
        if least is not None and greatest is not None and (least, greatest) != own(dtype):
            known.insert(0, (least, greatest, "declared", DECLARED_FILLED))
        for black, white, source, filled in known:
            if black <= low and high <= white and high - low >= filled * (white - black) > 0:
                return Range(black, white, nodata, source)
        return Range(low, high, nodata, "found")


def inliers(values: torch.Tensor, extremes: torch.Tensor) -> tuple[float, float]:
    """(least, greatest) value that is no further beyond the percentiles than half of what lies between them."""
    every = torch.cat((values, extremes)).unique()
    first, last = without_marks(every)
    values = values[(values >= first) & (values <= last)].sort().values
    cut = min(len(values) // TRIMMED + 3, len(values) // 8)
    low, high = (values[cut], values[len(values) - 1 - cut]) if len(values) else (first, last)
    reach = (high - low) / 2
    every = every[(every >= (low - reach).maximum(first)) & (every <= (high + reach).minimum(last))]
    return float(every[0]), float(every[-1])


def without_marks(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(least, greatest) of the values, sorted and unequal, but for single ones further away than all others are from
    each other and from 0: marks of pixels without a value, such as -9999, and hot pixels."""
    first, last = 0, len(values) - 1
    while first < last:
        below = values[first + 1] - values[first], size(values[first + 1], values[last])
        above = values[last] - values[last - 1], size(values[first], values[last - 1])
        if below[0] > below[1] > 0:
            first += 1
        elif above[0] > above[1] > 0:
            last -= 1
        else:
            break
    return values[first], values[last]


def size(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    return max(high - low, low.abs(), high.abs())


class Ranges(dict[torch.dtype, Range]):
    """{type: Range}; a type that no page has been seen of has its own, or that which was `given`."""

    given: tuple[float, float] | None = None
    beyond: float = 0.0  # share of the values that is outside of what was given
    nodata: tuple[float, ...] = ()

    def __missing__(self, dtype: torch.dtype) -> Range:
        black, white = self.given or own(dtype)
        return Range(black, white, self.nodata, "given" if self.given else "type")

    def note(self) -> str:
        """The ranges that are not the types' own, in words, and how much of the picture is not in one that is given."""
        if self.beyond:
            share = f"{self.beyond:.1%}" if self.beyond >= 0.001 else "less than 0.1%"
            return f"{share} of the values are outside of --range"
        said = {str(each) for each in self.values() if each.source not in ("type", "given")}
        return "; ".join(sorted(said)) + "; --range LOW HIGH sets it" if said else ""


# --------------------------------------------------------------------------------------------- to 0-255, and back


def to_255(colours: torch.Tensor, range: Range) -> torch.Tensor:
    """(H, W, C) of any type -> float32, black at 0 and white at 255; pixels without a value like their surroundings."""
    made = scaled(colours, range)
    return filled(made.permute(2, 0, 1)).permute(1, 2, 0) if lacking(made) else made


def scaled(colours: torch.Tensor, range: Range, clamped: bool = False) -> torch.Tensor:
    """(H, W, C) of any type -> float32, black at 0 and white at 255; NaN without a value, which is beyond the range
    too unless `clamped`."""
    made = torch.empty(colours.shape, dtype=torch.float32)
    scale = 255 / (range.high - range.low) if range.high - range.low > SMALLEST else 0
    limits = range._replace(low=-LARGEST, high=LARGEST) if clamped else range
    for new, band in zip(made.split(BAND), colours.split(BAND)):
        values = band.to(torch.float64)
        missing = ~has_value(values, limits)
        values = (values.clamp(range.low, range.high) - range.low) * scale
        new.copy_(values.masked_fill_(missing, torch.nan))
    return made


def lacking(image: torch.Tensor) -> bool:
    """Whether there is a NaN."""
    return any(bool(band.isnan().any()) for band in image.split(BAND))


def filled(image: torch.Tensor) -> torch.Tensor:
    """(C, H, W) with every NaN replaced by the mean of the block of 2 x 2, 4 x 4 ... around it that holds a number."""
    missing = image.isnan()
    if not missing.any() or image.shape[1:] == (1, 1):
        return image.nan_to_num()
    channels, height, width = image.shape
    even = image.new_full((channels, height + height % 2, width + width % 2), torch.nan)
    even[:, :height, :width] = image
    coarse = filled(even.view(channels, even.shape[1] // 2, 2, even.shape[2] // 2, 2).nanmean((2, 4)))
    fine = coarse.repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :height, :width]
    return torch.where(missing, fine, image)


def from_255(colours: torch.Tensor, pixels: torch.Tensor, range: Range) -> None:
    """Write pixels (H, W, C) in 0-255 into `colours` (H, W, C), in its type and units, but where it has no value."""
    scale, limits = (range.high - range.low) / 255, own(colours.dtype)
    for old, band in zip(colours.split(BAND), pixels.split(BAND)):
        before = old.to(torch.float64)
        band = band.mean(2, keepdim=True) if old.shape[2] == 1 else band
        values = band.to(torch.float64).mul(scale).add_(range.low)
        values = values if old.is_floating_point() else values.round().clamp_(*limits)
        old.copy_(torch.where(has_value(before, range), values, before))
