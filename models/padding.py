"""Which columns of a padded batch are image, and what padding is set to.

Legend: B batch, D width, W width in pixels, h w height and width of a feature map.
"""

import torch
from torch import Tensor


def columns_mask(columns: Tensor, width: int) -> Tensor:
    """True (B, w) in the first `columns` (B,) of `width` columns."""
    return torch.arange(width, device=columns.device)[None] < columns[:, None]


def row_mask(columns: Tensor | None, width: int) -> Tensor | None:
    """`columns_mask` as (B, 1, w), which broadcasts over the rows of a map; None where all columns are image."""
    return None if columns is None else columns_mask(columns, width)[:, None]


def keep(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, D, h, w) with padding set to 0, so that a convolution sees there what it sees beyond an image's border.

    `mask` is (B, h, w) or (B, 1, w), True on image.
    """
    return x if mask is None else x * mask[:, None].to(x.dtype)
