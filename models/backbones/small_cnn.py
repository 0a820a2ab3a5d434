"""A small residual network for CPUs.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, h w = H W / stride rounded up.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.base import Backbone
from models.checks import check_numbers
from models.config import SmallCnnConfig
from models.errors import ModelConfigError
from models.padding import keep, row_mask


class ConvNorm(nn.Sequential):
    """3x3 convolution and batch normalisation."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False), nn.BatchNorm2d(out_channels))


class ResidualBlock(nn.Module):
    """Two convolutions around an identity (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels)
        self.conv2 = ConvNorm(channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, h, w) and the mask (B, h, w) of true positions to (B, C, h, w)."""
        inner = keep(F.relu(self.conv1(x)), mask)
        return keep(F.relu(self.conv2(inner) + x), mask)


class Stage(nn.Module):
    """Halves the resolution (or, with a stride of 1, keeps it), then refines."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, stride: int) -> None:
        super().__init__()
        self.down = ConvNorm(in_channels, out_channels, stride)
        self.blocks = nn.ModuleList(ResidualBlock(out_channels) for _ in range(depth))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B, C, h, w) and the mask (B, 1, w / s) of the true columns of the output to (B, C', h / s, w / s), s the stride."""
        x = keep(F.relu(self.down(x)), mask)
        for block in self.blocks:
            x = block(x, mask)
        return x


class SmallCnn(Backbone):
    """Three stages and a projection; the full resolution meets one convolution only, from the image's channels.

    Padding beyond an image's width is set to 0 before each convolution, as if the image ended there: in evaluation an
    image in a padded batch has the features that it has alone.
    """

    key = "model.backbone.small_cnn"

    def __init__(self, config: SmallCnnConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_numbers(config, self.key)
        if config.stride not in (4, 8):
            raise ModelConfigError(f"{self.key}.stride", f"must be 4 or 8, not {config.stride!r}")
        self.stride = config.stride
        self.min_size = (config.stride, config.stride)
        self.out_channels = out_channels
        width = config.width
        self.strides = (2, 2, config.stride // 4)
        self.stages = nn.ModuleList(
            [
                Stage(in_channels, width, 0, self.strides[0]),
                Stage(width, 2 * width, config.depth, self.strides[1]),
                Stage(2 * width, 4 * width, config.depth, self.strides[2]),
            ]
        )
        self.project = nn.Sequential(nn.Conv2d(4 * width, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        # A quarter faster on CPUs than the default layout, and what tensor cores want; only the strides change.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), true widths (B,) in pixels or None, to features (B, D, h, w)."""
        columns = widths
        x = keep(images, row_mask(columns, images.shape[-1]))
        for stage, stride in zip(self.stages, self.strides, strict=True):
            columns = None if columns is None else -(-columns // stride)
            x = stage(x, row_mask(columns, -(-x.shape[-1] // stride)))
        return self.project(x)

    def columns(self, widths: Tensor) -> Tensor:
        """A column for every 8 (or 4) pixels, the last ones may be fewer."""
        return (-(-widths // self.stride)).clamp(min=1)
