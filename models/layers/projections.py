"""Linear maps from the input of self-attention to queries, keys and values.

Legend: B batch, S source positions, D width, N heads, d head width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.config import Projections
from models.layers.attention import split_heads


class SharedProjection(nn.Module):
    """One linear map to queries, keys and values, laid out head by head."""

    def __init__(self, embed_dim: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * num_heads * head_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, S, D) to queries, keys and values, each (B, N, S, d)."""
        query, keys, values = split_heads(self.qkv(x), self.num_heads).chunk(3, dim=-1)
        return query, keys, values

    def head_parameters(self) -> Tensor:
        """All weights behind the queries, keys and values of each head: (N, parameters of a head)."""
        return self.qkv.weight.unflatten(0, (self.num_heads, -1)).flatten(1)


class SeparateProjections(nn.Module):
    """A linear map each to queries, keys and values."""

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
        """All weights behind the queries, keys and values of each head: (N, parameters of a head)."""
        maps = (self.query, self.key, self.value)
        return torch.cat([linear.weight.unflatten(0, (self.num_heads, -1)).flatten(1) for linear in maps], 1)


PROJECTIONS: dict[Projections, Callable[[int, int, int], nn.Module]] = {
    "shared": SharedProjection,
    "separate": SeparateProjections,
}
