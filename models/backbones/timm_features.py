"""Any network of timm that gives feature maps as a backbone.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, F channels of the network's map,
h w = H W / stride rounded up.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone
from models.backbones.canvas import AsItIs, Fixed, Multiple
from models.backbones.timm_masks import PaddingMasks, hide_padding, needs_whole_strides
from models.backbones.timm_networks import create_network
from models.backbones.timm_survey import Tap, survey
from models.checks import check_numbers
from models.config import TimmConfig
from models.errors import ModelConfigError
from models.layers.padding import divided_up

KEY = "model.backbone.timm"


class TimmFeatures(Backbone):
    """A headless timm network, whole or up to a stage, then BatchNorm-ReLU-1x1 convolutions to the width of the encoder.

    An image in a padded batch has the features that it has alone if the network belongs to a family of convolutional networks
    in `timm_masks.FAMILIES` and no norm of it looks at a whole map (ResNets, RegNets, EfficientNets, MobileNets, ConvNeXts), or
    if it is built for images of one size, to which all are widened. `masks_padding` tells. To any other (group norm, windows or
    attention over positions) padding is paper: batch images of one size where results must not depend on the company that an
    image keeps.
    """

    key = KEY

    def __init__(self, config: TimmConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_numbers(config, KEY)
        self.net: Any = create_network(KEY, config.name, in_channels, config.pretrained, config.options)
        taps = _whole(self.net) if config.stride is None else _cut(self.net, config.name, config.stride)
        seen = survey(KEY, config.name, self.net, taps, in_channels, config.options.get("img_size"))
        self.tap, self.canvas, self.min_size = seen.tap, seen.canvas, seen.strides
        self.stride = seen.strides[1]
        self.masks = PaddingMasks()
        self.masks_padding = isinstance(self.canvas, Fixed) or hide_padding(self.net, self.masks)
        if self.canvas == AsItIs() and self.masks_padding and needs_whole_strides(self.net):
            self.canvas = Multiple(*seen.strides)
        self.out_channels = out_channels
        widths = [seen.channels, *([] if config.neck_channels is None else [config.neck_channels]), out_channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, after, 1, bias=False)]
        self.project = nn.Sequential(*layers)
        # On CPUs ResNetRS152 is a fifth faster forwards than in the default layout, and it is what tensor cores want.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """Images (B, C, H, W), 0 beyond their `sizes` (B, 2), to features (B, D, h, w)."""
        widened = self.canvas(images)
        self.masks.begin(widened, None if sizes is None else self.canvas.covered(sizes))
        features = self.project(self.tap(self.net, widened))
        (height, width), (down, right) = images.shape[-2:], self.min_size
        return features[..., : -(-height // down), : -(-width // right)]

    def cells_of(self, sizes: Tensor) -> Tensor:
        """A cell for every stride of pixels, the last ones may be fewer."""
        return divided_up(sizes, self.min_size)


@dataclass(frozen=True)
class _Level:
    """The map after a stage of the network, normalised where the network ends with it."""

    index: int
    norm: bool

    def __call__(self, net: Any, images: Tensor) -> Tensor:
        return net.forward_intermediates(images, indices=[self.index], norm=self.norm, intermediates_only=True)[0]


def _forward_features(net: Any, images: Tensor) -> Tensor:
    return net.forward_features(images)


def _whole(net: Any) -> list[Tap]:
    """All of the network: what its last layers give if that is a map, else its last stage as one."""
    level = _Level(len(net.feature_info) - 1, norm=True)
    return [_forward_features, level] if getattr(net, "output_fmt", "NCHW") == "NCHW" else [level]


def _cut(net: Any, name: str, stride: int) -> list[Tap]:
    """The network up to the last stage with that stride; the rest is taken out of `net`."""
    strides = [info["reduction"] for info in net.feature_info]
    if stride not in strides:
        raise ModelConfigError(
            f"{KEY}.stride",
            f"{name!r} has no stage of stride {stride}; it has {', '.join(map(str, sorted(set(strides))))}",
        )
    index = len(strides) - 1 - strides[::-1].index(stride)
    last = index == len(strides) - 1
    net.prune_intermediate_layers([index], prune_norm=not last)
    return [_Level(index, norm=last)]
