"""Six convolutions for lines of handwriting.

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
from models.checks import check_numbers
from models.choices import choose
from models.config import ConvNet6Config, ConvNorm, PoolingPlan
from models.layers.padding import divided, keep, mask_of

Size = tuple[int, int]

KERNELS = (5, 5, 3, 3, 3, 1)
CHANNELS = (32, 64, 128, 128, 256)  # of all but the last
OFF: Size = (1, 1)
# (height, width) of the max-pool behind each convolution.
POOLING: dict[PoolingPlan, tuple[Size, ...]] = {
    "height_1": ((2, 2), (2, 2), (2, 1), (2, 1), (2, 1), (2, 1)),
    "height_4": ((2, 2), (2, 2), (2, 1), (2, 1), OFF, OFF),
    "height_8": ((2, 2), (2, 2), (2, 1), OFF, OFF, OFF),
    "height_8_of_128": ((2, 2), (2, 2), (2, 2), (2, 1), OFF, OFF),
}
# Convolutions are faster with the channels last; an instance norm wants its maps in one piece, and turning them costs more.
LAYOUTS: dict[ConvNorm, torch.memory_format] = {
    "batch": torch.channels_last,
    "instance": torch.contiguous_format,
    "layer": torch.channels_last,
}


class ConvStage(nn.Module):
    """Convolution, norm, max-pool, ReLU (which pooling lets through, so it works on what is left)."""

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
            sizes = divided(sizes, self.shrinks)
            mask = mask_of(sizes, x)
        return keep(x, mask), sizes, mask


class ConvNet6(Backbone):
    """Convolutions of 5x5, 3x3 and 1x1, each with a norm and most with a max-pool, then dropout and gates.

    A height other than the plan's is fine and leaves another number of rows. Padding is 0 for each convolution and no part of
    the statistics of instance norms: in evaluation an image in a padded batch has the features that it has alone.
    """

    key = "model.backbone.convnet6"

    def __init__(self, config: ConvNet6Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        norm = choose(NORMS, config.norm, f"{self.key}.norm")
        conv = choose(CONVOLUTIONS, config.convolution, f"{self.key}.convolution")
        pools = choose(POOLING, config.pooling, f"{self.key}.pooling")
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
        x, mask = images, mask_of(sizes, images)
        for stage in self.stages:
            x, sizes, mask = stage(x, sizes, mask)
        x = self.drop(x)
        for gate in self.gates:
            mask = None if mask is None else mask[..., Gate.shrinks :]  # a rectangle, and as many columns narrower
            x = gate(x, mask)
        return x

    def cells_of(self, sizes: Tensor) -> Tensor:
        """A cell for every whole stride of pixels, less 8 columns for each gate."""
        rows, columns = divided(sizes, self.strides).unbind(1)
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
