"""Masks and sizes of the images in a padded batch.

Every image lies in the upper left of its slot in the batch; `sizes`, int64 (B, 2), are its (height, width) there.

Legend: B batch, D width, h w height and width of a map, or of the images themselves.
"""

import torch
from torch import Tensor


def columns_mask(columns: Tensor, width: int) -> Tensor:
    """Mask (B, w), True in the first `columns` (B,) of `width` columns."""
    return torch.arange(width, device=columns.device)[None] < columns[:, None]


def area_mask(sizes: Tensor, height: int, width: int) -> Tensor:
    """Mask (B, h, w), True on the image: the first `sizes` (B, 2) rows and columns of a map of `height` x `width`."""
    rows, columns = sizes.unbind(1)
    return columns_mask(rows, height)[:, :, None] & columns_mask(columns, width)[:, None]


def map_mask(sizes: Tensor | None, x: Tensor) -> Tensor | None:
    """`area_mask` (B, h, w) of a map `x` (B, D, h, w); None where `sizes` is None and nothing is padded."""
    return None if sizes is None else area_mask(sizes, x.shape[-2], x.shape[-1])


def zero_padding(x: Tensor, mask: Tensor | None) -> Tensor:
    """Sets the padding of (B, D, h, w) to 0, which is what a convolution sees beyond the border of an unpadded image.

    `mask` is (B, h, w), True on the image.
    """
    return x if mask is None else x * mask[:, None].to(x.dtype)


def clamp_sizes(sizes: Tensor, min_size: tuple[int, int], max_size: tuple[int, int] | None = None) -> Tensor:
    """Clamps `sizes` (B, 2) to `min_size` and `max_size` (height, width)."""
    bounds = zip(sizes.unbind(1), min_size, max_size or (None, None), strict=True)
    return torch.stack([side.clamp(min=low, max=high) for side, low, high in bounds], 1)


def floor_divide(sizes: Tensor, by: tuple[int, int]) -> Tensor:
    """Divides `sizes` (B, 2) by (height, width), rounding down."""
    return torch.stack([side // divisor for side, divisor in zip(sizes.unbind(1), by, strict=True)], 1)


def ceil_divide(sizes: Tensor, by: tuple[int, int]) -> Tensor:
    """Divides `sizes` (B, 2) by (height, width), rounding up."""
    return torch.stack([-(-side // divisor) for side, divisor in zip(sizes.unbind(1), by, strict=True)], 1)
