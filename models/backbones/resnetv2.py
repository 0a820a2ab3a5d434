"""The convolutional stem of a hybrid vision transformer as a backbone.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, h w = H W / stride rounded up.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone
from models.config import ResNetV2Config
from models.errors import ModelConfigError
from models.layers.padding import divided_up

STAGES = 4  # the widths of further ones are not known


class ResNetV2Backbone(Backbone):
    """Bottleneck stages with weight-standardised convolutions and group norm after each (BiT, Kolesnikov et al. 2020).

    As Dosovitskiy et al. 2021 put them before a ViT. Group norm looks at the whole map, padding included, which is paper to it:
    batch images of one size where results must not depend on the company that an image keeps.
    """

    key = "model.backbone.resnetv2"
    masks_padding = False

    def __init__(self, config: ResNetV2Config, in_channels: int, out_channels: int) -> None:
        super().__init__()
        from timm.layers import StdConv2dSame  # here, not above: it takes a second, and the small configuration does without
        from timm.models.resnetv2 import ResNetV2

        if not 1 <= len(config.depths) <= STAGES or min(config.depths) < 1:
            raise ModelConfigError(
                f"{self.key}.depths", f"{config.depths} must be the numbers of blocks in 1 to {STAGES} stages, each at least 1"
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

    def cells_of(self, sizes: Tensor) -> Tensor:
        """A cell for every stride of pixels, the last ones may be fewer."""
        return divided_up(sizes, self.min_size)
