"""The interface of encoders.

Legend: B batch, D width of the features, M width of the memory, h w height and width of the feature map.
"""

from torch import Tensor, nn

from models.types import Memory


class Encoder(nn.Module):
    """Base class of modules from features to memory.

    `embed_dim`: D, the width of the features; `out_dim`: M, the width of the memory.
    """

    embed_dim: int
    out_dim: int

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Memory:
        """Features (B, D, h, w) and `mask` (B, h, w), True on the image, to the memory."""
        raise NotImplementedError
