"""What every encoder is."""

from torch import Tensor, nn


class Encoder(nn.Module):
    """Features to memory. `embed_dim`: D, the width of both."""

    embed_dim: int

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Features (B, D, h, w) and `mask` (B, h, w), True on image, to memory (B, S, D), S = h * w row by row."""
        raise NotImplementedError
