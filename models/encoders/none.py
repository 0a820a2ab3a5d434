"""The encoder that is off: decoders attend to the features themselves.

Legend: B batch, D width, h w height and width of the feature map.
"""

from torch import Tensor

from models.config import EncoderConfig
from models.encoders.base import Encoder
from models.layers.positions import build_position
from models.types import Memory


class NoEncoder(Encoder):
    """Feature map with position encoding, flattened row by row."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.embed_dim = self.out_dim = config.embed_dim
        self.position = build_position(config)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Memory:
        """Features (B, D, h, w) and `mask` (B, h, w), True on the image, to the memory."""
        height, width = features.shape[-2:]
        tokens = self.position(features, mask).flatten(2).transpose(1, 2)
        return Memory(tokens, None if mask is None else mask.flatten(1), (height, width))
