"""Additive attention (Bahdanau et al. 2015).

Legend: B batch, K queries of an image, S source positions, M width of the memory, A width of the attention, H width of a
query.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.layers.attention import probabilities
from models.types import Memory


class Keys(NamedTuple):
    """Memory with its projected keys: `projected` (B, S, A), `tokens` (B, S, M), `padding` (B, 1, S) or None."""

    projected: Tensor
    tokens: Tensor
    padding: Tensor | None


class AdditiveAttention(nn.Module):
    """Attention by score(tanh(key + query)) over all positions of the memory, which is projected once."""

    def __init__(self, memory_dim: int, query_dim: int, attention_dim: int, bias: bool) -> None:
        super().__init__()
        self.key = nn.Linear(memory_dim, attention_dim, bias)
        self.query = nn.Linear(query_dim, attention_dim)
        self.score = nn.Linear(attention_dim, 1, bias)

    def project(self, memory: Memory) -> Keys:
        """Projects the memory to keys."""
        return Keys(self.key(memory.tokens), memory.tokens, None if memory.mask is None else ~memory.mask[:, None])

    def forward(self, query: Tensor, keys: Keys) -> tuple[Tensor, Tensor]:
        """Queries (B, K, H) to contexts (B, K, M) and attention weights (B, K, S)."""
        # (B, K, S, A) is the largest tensor of a step: allocated once, activated in place.
        features = (keys.projected[:, None] + self.query(query)[:, :, None]).tanh_()
        scores = self.score(features).squeeze(-1)
        if keys.padding is not None:
            scores = scores.masked_fill(keys.padding, float("-inf"))
        weights = probabilities(scores)
        return torch.matmul(weights.to(keys.tokens.dtype), keys.tokens), weights
