"""Which columns of a padded batch are image.

Legend: B batch, W width in pixels, w width of a feature map.
"""

import torch
from torch import Tensor


def column_mask(widths: Tensor | None, columns: int, stride: int) -> Tensor | None:
    """True (B, columns) where a column of a feature map of this stride covers some of an image's `widths` (B,) pixels.

    None means that every image is as wide as the batch. At least one column of an image is always true.
    """
    if widths is None:
        return None
    true_columns = ((widths + stride - 1) // stride).clamp(min=1)
    return torch.arange(columns, device=widths.device)[None] < true_columns[:, None]
