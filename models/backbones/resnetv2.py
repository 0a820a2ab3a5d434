"""Backbone from the convolutional stem of a hybrid vision transformer.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, h w = H W / stride rounded up.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone
from models.config import ResNetV2Config
from models.errors import ModelConfigError
from models.layers.padding import ceil_divide

MAX_STAGES = 4  # timm defines the widths of these


class ResNetV2Backbone(Backbone):
    """Bottleneck stages with weight-standardized convolutions and group norm after each (BiT, Kolesnikov et al. 2020).

    The stem of the hybrid ViT of Dosovitskiy et al. 2021. Group norm covers the whole map, padding included: use batches of
    images of one size where results must not depend on the other images of a batch.
    """

    key = "model.backbone.resnetv2"
    masks_padding = False

    def __init__(self, config: ResNetV2Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        from timm.layers import StdConv2dSame  # imported here: it takes a second, and the small configuration does not need it
        from timm.models.resnetv2 import ResNetV2

        if not 1 <= len(config.depths) <= MAX_STAGES or min(config.depths) < 1:
            raise ModelConfigError(
                f"{self.key}.depths",
                f"{config.depths} must be the numbers of blocks, at least 1, of 1 to {MAX_STAGES} stages",
            )
        self.net: Any = ResNetV2(
            layers=tuple(config.depths),
            num_classes=0,
            global_pool="",
            in_chans=in_channels,
            preact=False,
            stem_type="same",
            conv_layer=partial(StdConv2dSame, eps=1e-8),
        )
        stride = 2 ** (len(config.depths) + 1)
        self.min_size = (stride, stride)
        self.out_channels = out_channels
        self.project = nn.Conv2d(self.net.num_features, out_channels, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """Images (B, C, H, W) to features (B, D, h, w)."""
        return self.project(self.net.forward_features(images))

    def _feature_sizes(self, sizes: Tensor) -> Tensor:
        """Sizes divided by the stride, rounded up."""
        return ceil_divide(sizes, self.min_size)
