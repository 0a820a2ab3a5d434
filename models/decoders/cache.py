"""What a transformer decoder keeps between the steps of incremental decoding.

Legend: B batch, K beams of an image, R = B * K rows, T most target positions, S source positions, N heads, d head width.
"""

from dataclasses import dataclass

from torch import Tensor

from models.decoders.base import DecoderCache


@dataclass
class LayerCache:
    """Keys and values of one layer: of the tokens so far, in room for all (R, N, T, d), and of the memory (B, N, S, d)."""

    self_keys: Tensor
    self_values: Tensor
    memory_keys: Tensor
    memory_values: Tensor

    @classmethod
    def with_room(cls, memory_keys: Tensor, memory_values: Tensor, max_length: int, beams: int) -> "LayerCache":
        """An empty cache for `max_length` tokens of each beam beside the projected memory."""
        batch, heads, _, width = memory_keys.shape
        room = (batch * beams, heads, max_length, width)
        return cls(memory_keys.new_empty(room), memory_keys.new_empty(room), memory_keys, memory_values)

    def append(self, keys: Tensor, values: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Stores one token's keys and values (R, N, 1, d) at `position`; returns those of all tokens so far."""
        self.self_keys[:, :, position] = keys[:, :, 0]
        self.self_values[:, :, position] = values[:, :, 0]
        return self.self_keys[:, :, : position + 1], self.self_values[:, :, : position + 1]

    def reorder(self, rows: Tensor, position: int) -> None:
        """Row r takes over the tokens before `position` of row `rows[r]`."""
        self.self_keys[:, :, :position] = self.self_keys[rows, :, :position]
        self.self_values[:, :, :position] = self.self_values[rows, :, :position]


@dataclass
class TransformerCache(DecoderCache):
    """The caches of all layers, the mask (B, 1, 1, S) of the memory, and how many tokens were read."""

    layers: list[LayerCache]
    memory_mask: Tensor | None
    position: int = 0
    weights: Tensor | None = None

    def reorder(self, rows: Tensor) -> None:
        """Row r goes on from what row `rows[r]` has read."""
        for layer in self.layers:
            layer.reorder(rows, self.position)
