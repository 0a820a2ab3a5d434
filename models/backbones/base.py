"""What every backbone is.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, h w height and width of the features.
"""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Images to features.

    `out_channels`: D; `min_size`: the smallest (H, W) that gives a feature; `key`: the config key that an error names.
    """

    out_channels: int
    min_size: tuple[int, int]
    key: str

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Normalised images (B, C, H, W), true widths (B,) in pixels or None, to features (B, D, h, w)."""
        raise NotImplementedError

    def columns(self, widths: Tensor) -> Tensor:
        """How many columns of features an image alone would have: int64 (B,) of `widths` (B,) in pixels, at least 1."""
        raise NotImplementedError
