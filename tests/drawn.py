"""A picture to draw pixels from."""

import torch


def scene(height=96, width=96):
    """A picture in cells of 9 x 9, with flat leaves, of brightness more than colour: (3, 9 H, 9 W), uint8."""
    generator = torch.Generator().manual_seed(0)
    image = torch.full((3, height * 9, width * 9), 90, dtype=torch.uint8)
    for _ in range(60):
        top, left, size = (int(torch.randint(n, (), generator=generator)) for n in (height * 9, width * 9, 300))
        brightness, tint = (
            torch.randint(n, shape, generator=generator) for n, shape in ((216, (1, 1, 1)), (40, (3, 1, 1)))
        )
        image[:, top : top + size, left : left + size] = brightness + tint
    return image
