"""Gated convolutions after a backbone, in place of a recurrent encoder.

Legend: B batch, C channels, h w height and width of the features.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.backbones.separable import SeparableConv

KERNEL_WIDTH = 9


class Gate(nn.Module):
    """Gated convolution: norm(tanh(a)) * norm(sigmoid(b)) of a separable 1x9 convolution to a and b, then dropout.

    A gated linear unit (Dauphin et al. 2017) with bounded content. Without padding, w columns become w - 8.
    """

    shrinks = KERNEL_WIDTH - 1

    def __init__(self, channels: int, norm: Callable[[int], nn.Module], drop_rate: float) -> None:
        super().__init__()
        self.conv = SeparableConv(channels, 2 * channels, (1, KERNEL_WIDTH))
        self.content_norm = norm(channels)
        self.gate_norm = norm(channels)
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, h, w) and the mask (B, h, w - 8) of the true positions of the output, or None, to (B, C, h, w - 8)."""
        content, gate = self.conv(x).chunk(2, 1)
        return self.drop(self.content_norm(torch.tanh(content), mask) * self.gate_norm(torch.sigmoid(gate), mask))
