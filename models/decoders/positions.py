"""Position tables of the decoder.

Legend: T target positions, D width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.config import DecoderConfig, DecoderPosition
from models.errors import ModelConfigError
from models.layers.positions import sinusoid
from models.types import OutputSpec


class SinusoidTable(nn.Module):
    """Fixed sinusoids, in a table that grows with the longest text requested."""

    table: Tensor

    def __init__(self, config: DecoderConfig, output_spec: OutputSpec) -> None:
        super().__init__()
        self.register_buffer("table", sinusoid(output_spec.max_length, config.embed_dim), persistent=False)

    def forward(self, start: int, length: int) -> Tensor:
        """Rows (T, D) of `length` positions from `start`."""
        if start + length > self.table.shape[0]:
            with torch.inference_mode(False):  # a table made in inference mode could not be used in training
                table = sinusoid(2 * (start + length), self.table.shape[1], self.table)
                self.table = table.to(self.table.dtype)
        return self.table[start : start + length]


class LearnedTable(nn.Module):
    """Table of a learned vector per position."""

    def __init__(self, config: DecoderConfig, output_spec: OutputSpec) -> None:
        super().__init__()
        if output_spec.max_length > config.max_positions:
            raise ModelConfigError(
                "model.decoder.max_positions",
                f"{config.max_positions}, but outputs are up to {output_spec.max_length} tokens long; raise it or use sinusoid",
            )
        self.table = nn.Parameter(torch.randn(config.max_positions, config.embed_dim) * 0.02)

    def forward(self, start: int, length: int) -> Tensor:
        """Rows (T, D) of `length` positions from `start`."""
        return self.table[start : start + length]


POSITION_TABLES: dict[DecoderPosition, Callable[[DecoderConfig, OutputSpec], nn.Module]] = {
    "sinusoid": SinusoidTable,
    "learned": LearnedTable,
}
