"""Convolutional backbone of ASTER, known from CRNN (Shi et al. 2017).

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder (512), h w = H / 16 - 1, W / 4 + 1.
"""

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone
from models.checks import lookup
from models.config import AsterCnnConfig
from models.errors import ModelConfigError
from models.layers.activations import ACTIVATIONS
from models.layers.padding import area_mask, columns_mask, floor_divide, map_mask, zero_padding

CHANNELS = 512


class HalfPool(nn.Module):
    """2x2 max-pool of stride 2; an odd last row or column is dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) of true `sizes` (B, 2) to (B, C, H / 2, W / 2) with 0 beyond its true sizes."""
        x = self.pool(x)
        sizes = None if sizes is None else floor_divide(sizes, (2, 2))
        return zero_padding(x, map_mask(sizes, x)), sizes


class TallPool(nn.Module):
    """2x2 max-pool that halves only the height and, padded on both sides, adds a column."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, (2, 1), (0, 1))

    def forward(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) of true `sizes` (B, 2) to (B, C, H / 2, W + 1) with 0 beyond its true sizes."""
        if sizes is None:
            return self.pool(x), None
        rows, columns = sizes.unbind(1)
        # The last true column must be pooled with the border of the pool, -inf, not with a 0 of the padding. The pool drops an
        # odd last row, so no window covers rows of both the image and the padding.
        x = self.pool(x.masked_fill(~columns_mask(columns, x.shape[-1])[:, None, None], float("-inf")))
        sizes = torch.stack([rows // 2, columns + 1], 1)
        return x.masked_fill(~area_mask(sizes, x.shape[-2], x.shape[-1])[:, None], 0.0), sizes


class NoPool(nn.Module):
    """Placeholder of a pool that is off."""

    def forward(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) of true `sizes` (B, 2) unchanged, with 0 beyond them."""
        return zero_padding(x, map_mask(sizes, x)), sizes


class ConvStage(nn.Module):
    """Stage of a 3x3 convolution, an optional norm, an activation and an optional pool."""

    def __init__(self, in_channels: int, out_channels: int, norm: bool, activation: nn.Module, pool: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.activation = activation
        self.pool = pool

    def forward(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W), 0 beyond its true `sizes` (B, 2), to (B, C', h, w) and its true sizes, with 0 beyond them."""
        return self.pool(self.activation(self.norm(self.conv(x))), sizes)


class AsterCnn(Backbone):
    """Seven convolutions and four pools: about a quarter of the width and a sixteenth of the height.

    Padding is set to 0 before each convolution: in evaluation an image has the same features in a padded batch as alone.
    """

    min_size = (32, 4)
    key = "model.backbone.aster_cnn"

    def __init__(self, config: AsterCnnConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if out_channels != CHANNELS:
            raise ModelConfigError(
                "model.encoder.embed_dim", f"{out_channels}, but aster_cnn has {CHANNELS} channels: set it to {CHANNELS}"
            )
        activation = lookup(ACTIVATIONS, config.activation, f"{self.key}.activation")
        self.out_channels = out_channels
        self.stages = nn.ModuleList(
            [
                ConvStage(in_channels, 64, False, activation(), HalfPool()),
                ConvStage(64, 128, False, activation(), HalfPool()),
                ConvStage(128, 256, True, activation(), NoPool()),
                ConvStage(256, 256, False, activation(), TallPool()),
                ConvStage(256, 512, True, activation(), NoPool()),
                ConvStage(512, 512, False, activation(), TallPool()),
            ]
        )
        self.last = nn.Sequential(nn.Conv2d(512, 512, 2), nn.BatchNorm2d(512), activation())
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """Images (B, C, H, W), 0 beyond their `sizes` (B, 2), to features (B, 512, h, w)."""
        x = images
        for stage in self.stages:
            x, sizes = stage(x, sizes)
        return self.last(x)

    def _feature_sizes(self, sizes: Tensor) -> Tensor:
        """H / 16 - 1 rows and W / 4 + 1 columns, rounded down."""
        rows, columns = floor_divide(sizes, (16, 4)).unbind(1)
        return torch.stack([rows - 1, columns + 1], 1)
