"""Multi-head attention (Vaswani et al. 2017).

Legend: B batch, T target positions, S source positions, D width, N heads, d head width, I = N * d inner width.
Masks are boolean, True where a key may be attended to; every query must have at least one such key.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.checks import lookup
from models.config import AttentionOutput, AttentionScale
from models.errors import ModelConfigError


def check_heads(embed_dim: int, num_heads: int, key: str) -> None:
    """Raises ModelConfigError naming `key` unless the heads divide the width."""
    if num_heads < 1 or embed_dim % num_heads:
        raise ModelConfigError(f"{key}.embed_dim", f"{embed_dim} is not divisible by {key}.num_heads = {num_heads}")


def head_width(embed_dim: int, num_heads: int, head_dim: int | None, key: str) -> int:
    """Width of one head: `head_dim`, or an equal share of `embed_dim`; raises ModelConfigError naming `key`."""
    if head_dim is None:
        check_heads(embed_dim, num_heads, key)
        return embed_dim // num_heads
    if num_heads < 1 or head_dim < 1:
        raise ModelConfigError(f"{key}.head_dim", f"{head_dim} in {num_heads} heads; both must be at least 1")
    return head_dim


def _head_scale(width: int, num_heads: int) -> float:
    return (width // num_heads) ** -0.5


def _width_scale(width: int, num_heads: int) -> float:
    return width**-0.5


SCALES: dict[AttentionScale, Callable[[int, int], float]] = {"head": _head_scale, "width": _width_scale}


def attention_scale(name: AttentionScale, width: int, num_heads: int, key: str) -> float:
    """Factor of the scores of heads whose widths add up to `width`; raises ModelConfigError naming `key`."""
    return lookup(SCALES, name, f"{key}.attention_scale")(width, num_heads)


def _gated_linear(inner_dim: int, embed_dim: int) -> nn.Module:
    """Attention on attention (Huang et al. 2019), gated by the attended values alone."""
    return nn.Sequential(nn.Linear(inner_dim, 2 * embed_dim), nn.GLU())


ATTENTION_OUTPUTS: dict[AttentionOutput, Callable[[int, int], nn.Module]] = {"linear": nn.Linear, "gated": _gated_linear}


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, I) to (B, N, T, d)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, N, T, d) to (B, T, I)."""
    return x.transpose(1, 2).flatten(2)


def probabilities(scores: Tensor) -> Tensor:
    """Softmax over the last dimension, in float32 where the scores have lower precision."""
    return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float))


MAX_EXPLICIT_SCORES = 512 * 512  # of a head; beyond, storing them costs more than the fused kernel's slow backward pass


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    is_causal: bool = False,
    drop_rate: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """Attention of queries (B, N, T, d) to keys and values (B, N, S, d): (B, N, T, d). `mask` broadcasts to (B, N, T, S).

    Uses PyTorch's fused attention, except for training in bf16 or fp16 on CPUs: there its backward pass takes three to four
    times as long as that of explicit products (160 to 480 keys in 4 heads of 32, torch 2.10).
    """
    length, sources = queries.shape[-2], keys.shape[-2]
    slow = queries.device.type == "cpu" and queries.dtype in (torch.bfloat16, torch.float16) and torch.is_grad_enabled()
    if not slow or length * sources > MAX_EXPLICIT_SCORES:
        return F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, dropout_p=drop_rate, is_causal=is_causal, scale=scale
        )
    if is_causal:
        mask = torch.ones(length, sources, dtype=torch.bool, device=queries.device).tril()
    scores = queries * (queries.shape[-1] ** -0.5 if scale is None else scale) @ keys.transpose(-2, -1)
    if mask is not None:
        # Added rather than filled in: the mask then needs no gradient.
        scores = scores + torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, float("-inf"))
    return F.dropout(scores.softmax(-1), drop_rate) @ values


class MultiHeadAttention(nn.Module):
    """Multi-head attention of queries of width `embed_dim` to a source of width `source_dim`.

    `forward` computes all of it; the other methods are its parts, for callers that need the probabilities or cache keys and
    values.
    """

    def __init__(
        self,
        embed_dim: int,
        source_dim: int,
        num_heads: int,
        head_dim: int,
        scale: float,
        drop_rate: float,
        bias: bool = True,
        output: Callable[[int, int], nn.Module] = nn.Linear,
    ) -> None:
        super().__init__()
        inner_dim = num_heads * head_dim
        self.num_heads = num_heads
        self.scale = scale
        self.drop_rate = drop_rate
        self.query = nn.Linear(embed_dim, inner_dim, bias)
        self.key = nn.Linear(source_dim, inner_dim, bias)
        self.value = nn.Linear(source_dim, inner_dim, bias)
        self.out = output(inner_dim, embed_dim)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, query: Tensor, source: Tensor, mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
        """Queries (B, T, D) over a source (B, S, source_dim) to (B, T, D); `mask` broadcasts to (B, N, T, S)."""
        keys, values = self.project_source(source)
        drop_rate = self.drop_rate if self.training else 0.0
        queries = split_heads(self.query(query), self.num_heads)
        heads = attend(queries, keys, values, mask, is_causal, drop_rate, self.scale)
        return self.output(heads)

    def causal(self, x: Tensor) -> Tensor:
        """Causal self-attention of (B, T, D): a position attends to itself and to those before it."""
        return self.forward(x, x, is_causal=True)

    def project_source(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Source (B, S, source_dim) to keys and values, each (B, N, S, d)."""
        return split_heads(self.key(source), self.num_heads), split_heads(self.value(source), self.num_heads)

    def head_parameters(self) -> Tensor:
        """All weights behind the queries, keys and values of each head: (N, parameters of a head)."""
        maps = (self.query, self.key, self.value)
        return torch.cat([linear.weight.unflatten(0, (self.num_heads, -1)).flatten(1) for linear in maps], 1)

    def scores(self, query: Tensor, keys: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scaled scores of queries (B, T, D) and keys (B, N, S, d) before the softmax: (B, N, T, S), -inf where masked."""
        scores = split_heads(self.query(query), self.num_heads) * self.scale @ keys.transpose(-2, -1)
        return scores if mask is None else scores.masked_fill(~mask, float("-inf"))

    def output(self, heads: Tensor) -> Tensor:
        """Projects the outputs of the heads (B, N, T, d) to (B, T, D)."""
        return self.drop(self.out(merge_heads(heads)))
