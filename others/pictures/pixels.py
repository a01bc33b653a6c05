"""Pages as the network sees them: their colours in 0-255, whatever their type, and back."""

from __future__ import annotations

import torch

from .levels import Range, Sample, from_255, own, scaled, to_255
from .picture import colours_of, rounded


def to_pixels(page: torch.Tensor, range: Range | None = None) -> torch.Tensor:
    """(H, W, C) -> the colours as pixels (1, 3, H, W) in 0-255: uint8, or float32 for others. Pixels outside the range,
    by default the page's own, are like their surroundings. Grey is repeated."""
    range = range or page_range(page)
    colours = colours_of(page)
    return as_batch(colours if as_it_is(page, range) else to_255(colours, range))


def with_colours(page: torch.Tensor, pixels: torch.Tensor, range: Range | None = None) -> torch.Tensor:
    """A page like `page`, with the colours of `pixels` (1, 3, H, W) in 0-255. Its alpha is kept, and what is outside
    the range."""
    made = page.clone()
    from_255(colours_of(made), pixels[0].permute(1, 2, 0), range or page_range(page))
    return made


def in_eight_bits(page: torch.Tensor, range: Range) -> torch.Tensor:
    """A page of 16 bits for a format of 8, which has no other black and white than 0 and 255."""
    if page.dtype != torch.uint16:
        return page
    made = rounded(page)
    colours_of(made).copy_(scaled(colours_of(page), range, clamped=True).nan_to_num().round())
    return made


def page_range(*pages: torch.Tensor) -> Range:
    """The range of a page by itself, or that which pages of one type have in common."""
    dtype = pages[0].dtype
    if dtype == torch.uint8:
        return Range(*own(dtype))
    sample = Sample()
    for page in pages:
        sample.add(colours_of(page))
    return sample.range(dtype)


def as_it_is(page: torch.Tensor, range: Range) -> bool:
    """Whether the page's colours are 0-255 already."""
    return page.dtype == torch.uint8 and range[:3] == (0, 255, ())


def as_batch(colours: torch.Tensor) -> torch.Tensor:
    """(H, W, C) -> (1, 3, H, W). Grey is repeated."""
    return colours.permute(2, 0, 1).unsqueeze(0).expand(1, 3, -1, -1)
