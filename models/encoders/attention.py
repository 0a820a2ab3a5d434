"""Self-attention of an encoder (Vaswani et al. 2017), standard or with residual scores.

Legend: B batch, S source positions, D width, N heads, d head width, I = N * d width of all heads.
Masks are boolean, True where a key may be attended to; every query must have at least one such key.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checks import lookup
from models.config import EncoderAttention, EncoderConfig
from models.layers.attention import attend, attention_scale, head_width, merge_heads, probabilities
from models.layers.projections import PROJECTIONS

KEY = "model.encoder"


class StandardAttention(nn.Module):
    """Multi-head scaled dot-product self-attention."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        head_dim = head_width(config.embed_dim, config.num_heads, config.head_dim, KEY)
        inner_dim = config.num_heads * head_dim
        projections = lookup(PROJECTIONS, config.projections, f"{KEY}.projections")
        self.scale = attention_scale(config.attention_scale, inner_dim, config.num_heads, KEY)
        self.drop_rate = config.drop_rate
        self.project = projections(config.embed_dim, config.num_heads, head_dim)
        self.out = nn.Linear(inner_dim, config.embed_dim)
        self.drop = nn.Dropout(config.output_drop_rate)

    def forward(self, x: Tensor, mask: Tensor | None, scores: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`x` (B, S, D), `mask` (B, 1, 1, S) and the scores of the layer before (passed on) to (B, S, D) and scores."""
        query, keys, values = self.project(x)
        heads = attend(query, keys, values, mask, drop_rate=self.drop_rate if self.training else 0.0, scale=self.scale)
        return self.drop(self.out(merge_heads(heads))), scores


class ResidualAttention(StandardAttention):
    """Self-attention that adds the scores of the layer before to its own (RealFormer, He et al. 2021).

    All layers share one matrix of scores, to which each adds its own in place. No gradient needs the sum itself, since
    softmax saves its result, and masked scores stay at minus infinity.
    """

    def forward(self, x: Tensor, mask: Tensor | None, scores: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`x` (B, S, D), `mask` (B, 1, 1, S), scores (B * N, S, S) of the layer before to (B, S, D) and new scores.

        The given scores are overwritten; they are masked already.
        """
        query, keys, values = self.project(x)
        batch = query.shape[:2]
        query, keys = (query * self.scale).flatten(0, 1), keys.flatten(0, 1).transpose(1, 2)
        scores = _first_scores(query, keys, batch, mask) if scores is None else scores.baddbmm_(query, keys)
        weights = F.dropout(probabilities(scores), self.drop_rate, self.training).to(values.dtype)
        heads = torch.bmm(weights, values.flatten(0, 1)).unflatten(0, batch)
        return self.drop(self.out(merge_heads(heads))), scores


def _first_scores(query: Tensor, keys: Tensor, batch: torch.Size, mask: Tensor | None) -> Tensor:
    """Scores (B * N, S, S) of queries (B * N, S, d) and keys (B * N, d, S), minus infinity where `mask` is False."""
    scores = torch.bmm(query, keys)
    if mask is not None:
        scores.unflatten(0, batch).masked_fill_(~mask, float("-inf"))
    return scores


ENCODER_ATTENTIONS: dict[EncoderAttention, Callable[[EncoderConfig], nn.Module]] = {
    "standard": StandardAttention,
    "residual": ResidualAttention,
}
