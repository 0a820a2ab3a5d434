"""Convolutional backbone of six layers for handwritten lines.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, h w height and width of the features.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone
from models.backbones.gates import Gate
from models.backbones.norms import NORMS
from models.backbones.separable import CONVOLUTIONS
from models.checks import check_numbers, lookup
from models.config import ConvNet6Config, ConvNorm, PoolingPlan
from models.layers.padding import floor_divide, map_mask, zero_padding

Size = tuple[int, int]

KERNELS = (5, 5, 3, 3, 3, 1)
CHANNELS = (32, 64, 128, 128, 256)  # of all but the last
OFF: Size = (1, 1)
# (height, width) of the max-pool after each convolution.
POOLING: dict[PoolingPlan, tuple[Size, ...]] = {
    "height_1": ((2, 2), (2, 2), (2, 1), (2, 1), (2, 1), (2, 1)),
    "height_4": ((2, 2), (2, 2), (2, 1), (2, 1), OFF, OFF),
    "height_8": ((2, 2), (2, 2), (2, 1), OFF, OFF, OFF),
    "height_8_of_128": ((2, 2), (2, 2), (2, 2), (2, 1), OFF, OFF),
}
# Convolutions are faster in channels-last layout; instance norm needs contiguous maps, and converting costs more than it saves.
LAYOUTS: dict[ConvNorm, torch.memory_format] = {
    "batch": torch.channels_last,
    "instance": torch.contiguous_format,
    "layer": torch.channels_last,
}


class ConvStage(nn.Module):
    """Stage of convolution, norm, max-pool and ReLU (after the pool, which gives the same on fewer values)."""

    def __init__(self, conv: nn.Module, norm: nn.Module, pool: Size) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.pool = nn.Identity() if pool == OFF else nn.MaxPool2d(pool)
        self.relu = nn.ReLU()
        self.shrinks = pool

    def forward(self, x: Tensor, sizes: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """(B, C, H, W), 0 beyond its true `sizes` (B, 2) and `mask` (B, H, W), to the same of (B, C', h, w)."""
        x = self.relu(self.pool(self.norm(self.conv(x), mask)))
        if self.shrinks != OFF and sizes is not None:
            sizes = floor_divide(sizes, self.shrinks)
            mask = map_mask(sizes, x)
        return zero_padding(x, mask), sizes, mask


class ConvNet6(Backbone):
    """Convolutions of 5x5, 3x3 and 1x1, each with a norm and most with a max-pool, then dropout and gates.

    Any height is accepted and changes the number of rows. Padding is 0 for each convolution and excluded from the statistics
    of instance norms: in evaluation an image has the same features in a padded batch as alone.
    """

    key = "model.backbone.convnet6"

    def __init__(self, config: ConvNet6Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        norm = lookup(NORMS, config.norm, f"{self.key}.norm")
        conv = lookup(CONVOLUTIONS, config.convolution, f"{self.key}.convolution")
        pools = lookup(POOLING, config.pooling, f"{self.key}.pooling")
        check_numbers(config, self.key)
        self.out_channels = out_channels
        self.stages = nn.ModuleList(_stages(conv, norm, pools, (in_channels, *CHANNELS, out_channels), config.multiplier))
        self.drop = nn.Dropout(config.drop_rate)
        self.gates = nn.ModuleList(Gate(out_channels, norm, config.gate_drop_rate) for _ in range(config.gates))
        self.strides = math.prod(height for height, _ in pools), math.prod(width for _, width in pools)
        self.shrinks = Gate.shrinks * config.gates
        self.min_size = (self.strides[0], self.strides[1] * (self.shrinks + 1))
        self.to(memory_format=LAYOUTS[config.norm])  # type: ignore[call-overload]

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """Images (B, C, H, W), 0 beyond their `sizes` (B, 2), to features (B, D, h, w)."""
        x, mask = images, map_mask(sizes, images)
        for stage in self.stages:
            x, sizes, mask = stage(x, sizes, mask)
        x = self.drop(x)
        for gate in self.gates:
            mask = None if mask is None else mask[..., Gate.shrinks :]  # a rectangle, narrower by as many columns
            x = gate(x, mask)
        return x

    def _feature_sizes(self, sizes: Tensor) -> Tensor:
        """Sizes divided by the strides, rounded down, less 8 columns for each gate."""
        rows, columns = floor_divide(sizes, self.strides).unbind(1)
        return torch.stack([rows, columns - self.shrinks], 1)


def _stages(
    conv: Callable[..., nn.Module],
    norm: Callable[[int], nn.Module],
    pools: tuple[Size, ...],
    channels: tuple[int, ...],
    multiplier: int,
) -> list[ConvStage]:
    stages = []
    for before, after, kernel, pool in zip(channels, channels[1:], KERNELS, pools, strict=False):
        layer = conv(before, after, (kernel, kernel), (kernel // 2, kernel // 2), multiplier)
        stages.append(ConvStage(layer, norm(after), pool))
    return stages
