"""What every backbone is."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Images to features. `out_channels`: D; `stride`: pixels per feature in both directions."""

    out_channels: int
    stride: int

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Normalised images (B, C, H, W), true widths (B,) in pixels or None, to features (B, D, h, w)."""
        raise NotImplementedError
