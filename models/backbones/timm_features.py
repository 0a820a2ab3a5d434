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
from models.backbones.timm_networks import create_network
from models.backbones.timm_survey import Tap, survey
from models.checks import check_numbers
from models.config import TimmConfig
from models.errors import ModelConfigError

KEY = "model.backbone.timm"


class TimmFeatures(Backbone):
    """A headless timm network, whole or up to a stage, then BatchNorm-ReLU-1x1 convolutions to the width of the encoder.

    Its convolutions, pooled gates and attention see padding as paper: batch images of one width where results must not
    depend on the company that an image keeps.
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
        self.out_channels = out_channels
        widths = [seen.channels, *([] if config.neck_channels is None else [config.neck_channels]), out_channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, after, 1, bias=False)]
        self.project = nn.Sequential(*layers)
        # On CPUs ResNetRS152 is a fifth faster forwards than in the default layout, and it is what tensor cores want.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) to features (B, D, h, w); `widths` has no effect."""
        features = self.project(self.tap(self.net, self.canvas(images)))
        (height, width), (down, right) = images.shape[-2:], self.min_size
        return features[..., : -(-height // down), : -(-width // right)]

    def columns(self, widths: Tensor) -> Tensor:
        """A column for every `stride` pixels, the last ones may be fewer."""
        return ((widths + self.stride - 1) // self.stride).clamp(min=1)


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
