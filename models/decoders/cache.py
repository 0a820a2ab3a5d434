"""Key-value caches of a transformer decoder for incremental decoding.

The K beams of an image are K query positions of that image: they share its memory and one key-value store of the tokens that
they have read, in which each beam sees only its own history. Reordering beams therefore copies only the visibility mask.

Legend: B batch, K beams of an image, R = B * K rows, P maximum steps, S source positions, N heads, d head width, D width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.decoders.base import DecoderCache
from models.layers.attention import MultiHeadAttention, probabilities
from models.types import Memory


def _fused(attention: MultiHeadAttention, names: tuple[str, ...]) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of one linear map that fuses those that `names` lists, with the scale of scores folded into queries."""
    maps = [(getattr(attention, name), attention.scale if name == "query" else 1.0) for name in names]
    weight = torch.cat([linear.weight * scale for linear, scale in maps])
    bias = None if maps[0][0].bias is None else torch.cat([linear.bias * scale for linear, scale in maps])
    device = weight.device.type
    if torch.is_autocast_enabled(device):  # once instead of in every step
        dtype = torch.get_autocast_dtype(device)
        weight, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
    return weight, bias


class History:
    """Number of tokens read so far, and the mask of the store entries of an image that each of its beams may see.

    Beam k of an image writes entry `position * K + k`. `bias` (B, 1, K, P * K) is added to scores: 0 on a beam's own
    history, -inf elsewhere. A single beam sees everything and has no `bias`.
    """

    def __init__(self, memory: Tensor, max_length: int, beams: int) -> None:
        self.position = 0
        self.beams = beams
        self.max_length = max_length
        self.bias: Tensor | None = None
        if beams > 1:
            # A beam sees the entries that it will write.
            visible = torch.eye(beams, dtype=torch.bool, device=memory.device).repeat(memory.shape[0], 1, max_length)
            self.bias = torch.zeros(visible.shape, device=memory.device).masked_fill(~visible, float("-inf"))[:, None]

    @property
    def end(self) -> int:
        """Number of entries up to and including the current step."""
        return (self.position + 1) * self.beams

    def hide(self, scores: Tensor) -> Tensor:
        """Sets scores (B, N, K, end) to -inf at entries outside a beam's history, in place; returns them."""
        return scores if self.bias is None else scores.add_(self.bias[..., : self.end])

    def reorder(self, rows: Tensor) -> None:
        """Makes row r continue the history of row `rows[r]`."""
        if self.bias is not None:
            filled = self.bias.flatten(0, 2)[:, : self.position * self.beams]
            filled.copy_(filled.index_select(0, rows))


class SelfAttentionCache:
    """Preallocated keys (B, N, d, P * K), transposed for fast products with few queries, and values (B, N, P * K, d)."""

    def __init__(self, attention: MultiHeadAttention, memory: Tensor, history: History) -> None:
        self.attention = attention
        self.history = history
        self.weight, self.bias = _fused(attention, ("query", "key", "value"))
        heads = (memory.shape[0], attention.num_heads)
        width, capacity = self.weight.shape[0] // (3 * attention.num_heads), history.max_length * history.beams
        self.keys = self.weight.new_empty(*heads, width, capacity)
        self.values = self.weight.new_empty(*heads, capacity, width)

    def attend(self, x: Tensor) -> Tensor:
        """Appends one token a beam (B, K, D) to the history and attends to it: (B, K, D)."""
        projected = F.linear(x, self.weight, self.bias).unflatten(-1, (3, self.attention.num_heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        start, end = self.history.position * self.history.beams, self.history.end
        self.keys[..., start:end] = key.transpose(-2, -1)
        self.values[:, :, start:end] = value
        scores = self.history.hide(query @ self.keys[..., :end])
        heads = probabilities(scores).to(self.values.dtype) @ self.values[:, :, :end]
        return self.attention.output(heads)


class CrossAttentionCache:
    """Projected memory: keys (B, N, d, S), values (B, N, S, d), and a bias (B, 1, 1, S) of -inf on padding.

    `weights` (B, N, K, S): attention probabilities of the step.
    """

    def __init__(self, attention: MultiHeadAttention, memory: Memory) -> None:
        self.attention = attention
        self.weight, self.query_bias = _fused(attention, ("query",))
        keys, values = attention.project_source(memory.tokens)
        self.keys, self.values = keys.transpose(-2, -1).contiguous(), values.contiguous()
        self.bias: Tensor | None = None
        if memory.mask is not None:
            self.bias = torch.zeros_like(memory.mask, dtype=torch.float).masked_fill(~memory.mask, float("-inf"))[:, None, None]
        self.weights = memory.tokens.new_zeros(0)

    def attend(self, x: Tensor) -> Tensor:
        """Attention of the queries of all beams (B, K, D) to the memory: (B, K, D)."""
        query = F.linear(x, self.weight, self.query_bias).unflatten(-1, (self.attention.num_heads, -1)).transpose(1, 2)
        scores = query @ self.keys
        self.weights = self.normalize(scores if self.bias is None else scores.add_(self.bias))
        return self.attention.output(self.weights.to(self.values.dtype) @ self.values)

    def normalize(self, scores: Tensor) -> Tensor:
        """Masked scores (B, N, K, S) to attention probabilities."""
        return probabilities(scores)

    def reorder(self, rows: Tensor) -> None:
        """Does nothing: all beams of an image share the memory."""


@dataclass
class LayerCache:
    """Caches of one decoder layer."""

    target: SelfAttentionCache
    memory: CrossAttentionCache


@dataclass
class TransformerCache(DecoderCache):
    """Caches of all layers and the history that they share."""

    layers: list[LayerCache]
    history: History

    def reorder(self, rows: Tensor) -> None:
        """Makes row r continue the history of row `rows[r]`, a beam of the same image."""
        self.history.reorder(rows)
        for layer in self.layers:
            layer.memory.reorder(rows)
