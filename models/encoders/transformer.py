"""Transformer encoders of SATRN (Lee et al. 2020, "On Recognizing Texts of Arbitrary Shapes with 2D Self-Attention")
and of ViT (Dosovitskiy et al. 2021).

Legend: B batch, D width, h w height and width of the feature map, P positions before the map (0 or 1), S = P + h * w.
"""

import torch
from torch import Tensor, nn

from models.checks import lookup
from models.config import EncoderConfig
from models.encoders.attention import ENCODER_ATTENTIONS
from models.encoders.base import Encoder
from models.errors import ModelConfigError
from models.layers.activations import ACTIVATIONS
from models.layers.feed_forward import ENCODER_FEED_FORWARDS, SPATIAL_FEED_FORWARDS
from models.layers.initialization import INITIALIZERS
from models.layers.normalization import FINAL_NORMS, RESIDUALS
from models.layers.positions import build_position
from models.types import Memory

KEY = "model.encoder"


class ClassToken(nn.Module):
    """Learned token before the positions of the feature map (ViT)."""

    length = 1

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        # The token, and its row of a learned position table where there is one.
        self.parts = nn.Parameter(torch.empty(1 + (config.position == "learned"), config.embed_dim))
        nn.init.normal_(self.parts, std=0.02)
        self.drop = nn.Dropout(config.position_drop_rate)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, h * w, D) and `mask` (B, h * w) to (B, S, D) and (B, S)."""
        token = self.drop(self.parts.sum(0).expand(x.shape[0], 1, -1))
        mask = None if mask is None else torch.cat([mask.new_ones(mask.shape[0], 1), mask], 1)
        return torch.cat([token.to(x.dtype), x], 1), mask


class NoClassToken(nn.Module):
    """Placeholder of a class token that is off."""

    length = 0

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, h * w, D) and `mask` (B, h * w) unchanged."""
        return x, mask


CLASS_TOKENS: dict[bool, type[ClassToken] | type[NoClassToken]] = {False: NoClassToken, True: ClassToken}


class TransformerEncoderLayer(nn.Module):
    """Encoder layer: self-attention and a feed-forward network, each with a residual connection."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        attention = lookup(ENCODER_ATTENTIONS, config.attention, f"{KEY}.attention")
        feed_forward = lookup(ENCODER_FEED_FORWARDS, config.feed_forward, f"{KEY}.feed_forward")
        activation = lookup(ACTIVATIONS, config.activation, f"{KEY}.activation")
        self.attention = attention(config)
        self.feed_forward = feed_forward(config.embed_dim, config.mlp_dim, config.mlp_drop_rate, activation)
        self.residual = lookup(RESIDUALS, config.norm, f"{KEY}.norm")(config.embed_dim, 2)

    def forward(
        self, x: Tensor, keys: Tensor | None, scores: Tensor | None, size: tuple[int, int], mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """`x` (B, S, D) to the same shape and the scores for the next layer.

        `keys` (B, 1, 1, S) and `mask` (B, h, w) are True on the image; `scores` come from the layer before; `size`: (h, w).
        """
        attended, scores = self.attention(self.residual.before(0, x), keys, scores)
        x = self.residual.after(0, x, attended)
        output = self.feed_forward(self.residual.before(1, x), size, mask)
        return self.residual.after(1, x, output), scores


class TransformerEncoder(Encoder):
    """Transformer layers over all positions of the feature map, after position encoding."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        if config.class_token and config.feed_forward in SPATIAL_FEED_FORWARDS:
            raise ModelConfigError(
                f"{KEY}.class_token",
                f"a class token has no position on the map that {KEY}.feed_forward = {config.feed_forward} convolves; "
                "set one of them to false or linear",
            )
        self.embed_dim = self.out_dim = config.embed_dim
        self.position = build_position(config)
        self.class_token = CLASS_TOKENS[config.class_token](config)
        self.layers = nn.ModuleList(TransformerEncoderLayer(config) for _ in range(config.depth))
        self.norm = lookup(FINAL_NORMS, config.norm, f"{KEY}.norm")(config.embed_dim)
        self.apply(lookup(INITIALIZERS, config.init, f"{KEY}.init"))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Memory:
        """Features (B, D, h, w) and `mask` (B, h, w), True on the image, to the memory."""
        height, width = features.shape[-2:]
        x = self.position(features, mask).flatten(2).transpose(1, 2)
        x, valid = self.class_token(x, None if mask is None else mask.flatten(1))
        keys = None if valid is None else valid[:, None, None]
        scores = None
        for layer in self.layers:
            x, scores = layer(x, keys, scores, (height, width), mask)
        return Memory(self.norm(x), valid, (height, width), self.class_token.length)
