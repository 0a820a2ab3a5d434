"""Gated convolutions behind a backbone, in place of a recurrent encoder.

Legend: B batch, C channels, h w height and width of the features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.backbones.separable import SeparableConv

REACH = 9  # columns that an output sees


class Gate(nn.Module):
    """norm(tanh(a)) * norm(sigmoid(b)) of a separable 1x9 convolution to a and b, then dropout.

    A gated linear unit (Dauphin et al. 2017) of two bounded halves. It is not padded: of w columns it leaves w - 8.
    """

    shrinks = REACH - 1

    def __init__(self, channels: int, norm: Callable[[int], nn.Module], drop_rate: float) -> None:
        super().__init__()
        self.conv = SeparableConv(channels, 2 * channels, (1, REACH))
        self.content_norm = norm(channels)
        self.gate_norm = norm(channels)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, h, w) and the mask (B, h, w - 8) of the true positions of the output, or None, to (B, C, h, w - 8)."""
        content, gate = self.conv(x).chunk(2, 1)
        return self.drop(self.content_norm(torch.tanh(content), mask) * self.gate_norm(torch.sigmoid(gate), mask))
