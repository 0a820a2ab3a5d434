"""Which part of a padded batch is image, and what padding is set to.

Every image lies in the upper left of its place in the batch; `sizes`, int64 (B, 2), are the (height, width) that it has there.

Legend: B batch, D width, h w height and width of a map, or of the images themselves.
"""

import torch
from torch import Tensor


def columns_mask(columns: Tensor, width: int) -> Tensor:
    """True (B, w) in the first `columns` (B,) of `width` columns."""
    return torch.arange(width, device=columns.device)[None] < columns[:, None]


def area_mask(sizes: Tensor, height: int, width: int) -> Tensor:
    """True (B, h, w) on the image, in the first `sizes` (B, 2) rows and columns of a map of `height` x `width`."""
    rows, columns = sizes.unbind(1)
    return columns_mask(rows, height)[:, :, None] & columns_mask(columns, width)[:, None]


def mask_of(sizes: Tensor | None, x: Tensor) -> Tensor | None:
    """`area_mask` (B, h, w) of a map `x` (B, D, h, w); None where `sizes` is None and all of it is image."""
    return None if sizes is None else area_mask(sizes, x.shape[-2], x.shape[-1])


def keep(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, D, h, w) with padding set to 0, so that a convolution sees there what it sees beyond an image's border.

    `mask` is (B, h, w), True on image.
    """
    return x if mask is None else x * mask[:, None].to(x.dtype)


def clamped(sizes: Tensor, least: tuple[int, int], most: tuple[int, int] | None = None) -> Tensor:
    """`sizes` (B, 2), none of them below `least` or above `most` (height, width)."""
    highest = (None, None) if most is None else most
    bounds = zip(sizes.unbind(1), least, highest, strict=True)
    return torch.stack([side.clamp(min=low, max=high) for side, low, high in bounds], 1)


def divided(sizes: Tensor, by: tuple[int, int]) -> Tensor:
    """`sizes` (B, 2) divided by (height, width), rounded down."""
    return torch.stack([side // divisor for side, divisor in zip(sizes.unbind(1), by, strict=True)], 1)


def divided_up(sizes: Tensor, by: tuple[int, int]) -> Tensor:
    """`sizes` (B, 2) divided by (height, width), rounded up."""
    return torch.stack([-(-side // divisor) for side, divisor in zip(sizes.unbind(1), by, strict=True)], 1)
