"""Multi-head attention (Vaswani et al. 2017).

Legend: B batch, T target positions, S source positions, D width, N heads, d head width (N * d = D).
Masks are boolean, True where a key may be attended to; every query must have at least one such key.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from models.choices import choose
from models.config import AttentionScale, EncoderAttention
from models.errors import ModelConfigError


def check_heads(embed_dim: int, num_heads: int, key: str) -> None:
    """Raises ModelConfigError naming `key` unless the heads divide the width."""
    if num_heads < 1 or embed_dim % num_heads:
        raise ModelConfigError(f"{key}.embed_dim", f"{embed_dim} is not divisible by {key}.num_heads = {num_heads}")


def _head_scale(embed_dim: int, num_heads: int) -> float:
    return (embed_dim // num_heads) ** -0.5


def _width_scale(embed_dim: int, num_heads: int) -> float:
    return embed_dim**-0.5


SCALES: dict[AttentionScale, Callable[[int, int], float]] = {"head": _head_scale, "width": _width_scale}


def attention_scale(name: AttentionScale, embed_dim: int, num_heads: int, key: str) -> float:
    """What scores are multiplied by; raises ModelConfigError naming `key` for an unknown rule."""
    return choose(SCALES, name, f"{key}.attention_scale")(embed_dim, num_heads)


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, D) to (B, N, T, d)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, N, T, d) to (B, T, D)."""
    return x.transpose(1, 2).flatten(2)


class MultiHeadAttention(nn.Module):
    """Attention of queries of width `embed_dim` to a source of width `source_dim`.

    Projection of the source is a step of its own (`project_source`), so that a decoder can keep keys and values.
    """

    def __init__(self, embed_dim: int, source_dim: int, num_heads: int, scale: float, drop_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale
        self.drop_rate = drop_rate
        self.query = nn.Linear(embed_dim, embed_dim)
        self.key = nn.Linear(source_dim, embed_dim)
        self.value = nn.Linear(source_dim, embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)
        self.drop = nn.Dropout(drop_rate)

    def project_source(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Source (B, S, source_dim) to keys and values, each (B, N, S, d)."""
        return split_heads(self.key(source), self.num_heads), split_heads(self.value(source), self.num_heads)

    def attend(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """Queries (B, T, D) over projected keys and values to (B, T, D); `mask` broadcasts to (B, N, T, S)."""
        heads = F.scaled_dot_product_attention(
            split_heads(self.query(query), self.num_heads),
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.drop_rate if self.training else 0.0,
            is_causal=is_causal,
            scale=self.scale,
        )
        return self.drop(self.out(merge_heads(heads)))

    def weights(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention probabilities (B, T, S), mean over heads, that `attend` uses."""
        scores = split_heads(self.query(query), self.num_heads) * self.scale @ keys.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return scores.float().softmax(-1).mean(1)


class SharedProjectionAttention(nn.Module):
    """Self-attention whose queries, keys and values come from one linear map, laid out head by head."""

    def __init__(self, embed_dim: int, num_heads: int, scale: float, drop_rate: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = scale
        self.drop_rate = drop_rate
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)

    def forward(self, x: Tensor, mask: Tensor | None, scores: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`x` (B, S, D), `mask` (B, 1, 1, S) and the scores of the layer before (passed on) to (B, S, D) and scores."""
        query, keys, values = split_heads(self.qkv(x), self.num_heads).chunk(3, dim=-1)
        heads = F.scaled_dot_product_attention(
            query,
            keys,
            values,
            attn_mask=mask,
            dropout_p=self.drop_rate if self.training else 0.0,
            scale=self.scale,
        )
        return self.out(merge_heads(heads)), scores


class ResidualAttention(SharedProjectionAttention):
    """The same, with the scores of the layer before added to its own (RealFormer, He et al. 2021)."""

    def forward(self, x: Tensor, mask: Tensor | None, scores: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`x` (B, S, D), `mask` (B, 1, 1, S), scores (B, N, S, S) of the layer before to (B, S, D) and new scores."""
        query, keys, values = split_heads(self.qkv(x), self.num_heads).chunk(3, dim=-1)
        own_scores = query * self.scale @ keys.transpose(-2, -1)
        if mask is not None:
            own_scores = own_scores.masked_fill(~mask, float("-inf"))
        scores = own_scores if scores is None else own_scores + scores
        # Softmax of half-precision scores in float32: their sum over layers needs the range.
        probabilities = F.dropout(scores.float().softmax(-1), self.drop_rate, self.training).to(values.dtype)
        return self.out(merge_heads(probabilities @ values)), scores


ENCODER_ATTENTIONS: dict[EncoderAttention, type[SharedProjectionAttention]] = {
    "standard": SharedProjectionAttention,
    "residual": ResidualAttention,
}
