"""DenseNet backbone (Huang et al. 2017) as used in formula recognizers.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, h w = H W / 2 ** (blocks + 1), roughly.
"""

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone
from models.checks import check_numbers
from models.config import DenseNetConfig
from models.layers.padding import ceil_divide, floor_divide, map_mask, zero_padding


class NormConv(nn.Sequential):
    """Batch normalization, ReLU and a 1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), nn.Conv2d(in_channels, out_channels, 1, bias=False)
        )


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolutions that append `growth` channels to their input."""

    def __init__(self, in_channels: int, config: DenseNetConfig) -> None:
        super().__init__()
        self.reduce = NormConv(in_channels, config.bottleneck)
        self.norm = nn.BatchNorm2d(config.bottleneck)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(config.bottleneck, config.growth, 3, padding=1, bias=False)
        self.drop = nn.Dropout(config.drop_rate)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, h, w) and the mask (B, h, w) of true positions to (B, C + growth, h, w)."""
        inner = zero_padding(self.relu(self.norm(self.reduce(x))), mask)
        return torch.cat([x, self.drop(self.conv(inner))], 1)


class DenseBlock(nn.ModuleList):
    """Sequence of bottlenecks, each of which reads the outputs of all before it."""

    def __init__(self, in_channels: int, config: DenseNetConfig) -> None:
        out_channels = in_channels + config.depth * config.growth
        super().__init__(Bottleneck(channels, config) for channels in range(in_channels, out_channels, config.growth))
        self.out_channels = out_channels

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, h, w) and the mask (B, h, w) of true positions to (B, C + depth * growth, h, w)."""
        for bottleneck in self:
            x = bottleneck(x, mask)
        return x


class DenseNetBackbone(Backbone):
    """7x7 stem, then dense blocks; between two blocks a 1x1 convolution halves the channels and a mean-pool the map.

    Padding is set to 0 before each convolution larger than 1x1: in evaluation an image has the same features in a padded
    batch as alone.
    """

    key = "model.backbone.densenet"

    def __init__(self, config: DenseNetConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_numbers(config, self.key)
        self.out_channels = out_channels
        min_side = 2 ** (config.blocks + 1) - 1
        self.min_size = (min_side, min_side)
        channels = config.stem_channels
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, channels, 7, 2, 3, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.pools = nn.ModuleList([nn.MaxPool2d(2), *(nn.AvgPool2d(2) for _ in range(config.blocks - 1))])
        self.blocks = nn.ModuleList()
        self.transitions = nn.ModuleList()
        for last in [False] * (config.blocks - 1) + [True]:
            block = DenseBlock(channels, config)
            channels = out_channels if last else block.out_channels // 2
            self.blocks.append(block)
            self.transitions.append(NormConv(block.out_channels, channels))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """Images (B, C, H, W), 0 beyond their `sizes` (B, 2), to features (B, D, h, w)."""
        x = self.stem(images)
        sizes = None if sizes is None else ceil_divide(sizes, (2, 2))
        for pool, block, transition in zip(self.pools, self.blocks, self.transitions, strict=True):
            x = pool(x)
            sizes = None if sizes is None else floor_divide(sizes, (2, 2))
            x = transition(block(x, map_mask(sizes, x)))
        return x

    def _feature_sizes(self, sizes: Tensor) -> Tensor:
        """Sizes halved, rounded up, then halved once for each block, rounded down."""
        shrinks = 2 ** len(self.blocks)
        return floor_divide(ceil_divide(sizes, (2, 2)), (shrinks, shrinks))
