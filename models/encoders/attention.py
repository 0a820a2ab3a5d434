"""Self-attention of an encoder (Vaswani et al. 2017): where queries, keys and values come from, and what is made of them.

Legend: B batch, S source positions, D width, N heads, d head width, I = N * d width of all heads.
Masks are boolean, True where a key may be attended to; every query must have at least one such key.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.choices import choose
from models.config import EncoderAttention, EncoderConfig, Projections
from models.layers.attention import attend, attention_scale, head_width, merge_heads, probabilities, split_heads

KEY = "model.encoder"


class SharedProjection(nn.Module):
    """Queries, keys and values from one linear map, laid out head by head."""

    def __init__(self, embed_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * num_heads * head_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, D) to queries, keys and values, each (B, N, S, d)."""
        query, keys, values = split_heads(self.qkv(x), self.num_heads).chunk(3, dim=-1)
        return query, keys, values

    def head_parameters(self) -> Tensor:
        """All weights that make one head's queries, keys and values: (N, parameters of a head)."""
        return self.qkv.weight.unflatten(0, (self.num_heads, -1)).flatten(1)


class SeparateProjections(nn.Module):
    """Queries, keys and values from a linear map each."""

    def __init__(self, embed_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(embed_dim, num_heads * head_dim)
        self.key = nn.Linear(embed_dim, num_heads * head_dim)
        self.value = nn.Linear(embed_dim, num_heads * head_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, D) to queries, keys and values, each (B, N, S, d)."""
        query, keys, values = (split_heads(linear(x), self.num_heads) for linear in (self.query, self.key, self.value))
        return query, keys, values

    def head_parameters(self) -> Tensor:
        """All weights that make one head's queries, keys and values: (N, parameters of a head)."""
        maps = (self.query, self.key, self.value)
        return torch.cat([linear.weight.unflatten(0, (self.num_heads, -1)).flatten(1) for linear in maps], 1)


PROJECTIONS: dict[Projections, Callable[[int, int, int], nn.Module]] = {
    "shared": SharedProjection,
    "separate": SeparateProjections,
}


class StandardAttention(nn.Module):
    """Scaled dot-product self-attention of several heads."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        head_dim = head_width(config.embed_dim, config.num_heads, config.head_dim, KEY)
        inner_dim = config.num_heads * head_dim
        projections = choose(PROJECTIONS, config.projections, f"{KEY}.projections")
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
    """The same, with the scores of the layer before added to its own (RealFormer, He et al. 2021).

    One matrix of scores serves all layers: each adds its own to it in place. No gradient needs the sum itself, since
    softmax keeps its result, and what the mask hides stays at minus infinity.
    """

    def forward(self, x: Tensor, mask: Tensor | None, scores: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`x` (B, S, D), `mask` (B, 1, 1, S), scores (B * N, S, S) of the layer before to (B, S, D) and new scores.

        The scores given are overwritten, and they hold the mask already.
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
