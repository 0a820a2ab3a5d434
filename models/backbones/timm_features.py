"""Backbone from any timm network that gives feature maps.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, F channels of the network's map,
h w = H W / stride rounded up.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone
from models.backbones.input_padding import NoInputPadding, PadToMultiple, PadToSize
from models.backbones.padding_masks import PaddingMasks
from models.backbones.timm_masks import add_padding_hooks, needs_whole_strides
from models.backbones.timm_networks import create_network
from models.backbones.timm_probe import Tap, probe_network
from models.checks import check_numbers
from models.config import TimmConfig
from models.errors import ModelConfigError
from models.layers.padding import ceil_divide

KEY = "model.backbone.timm"


class TimmFeatures(Backbone):
    """Headless timm network, whole or up to a stage, then BatchNorm-ReLU-1x1 convolutions to the width of the encoder.

    An image has the same features in a padded batch as alone if the network belongs to a family of convolutional networks in
    `timm_masks.FAMILIES` and has no norm over whole maps (ResNets, RegNets, EfficientNets, MobileNets, ConvNeXts), or if it
    is built for images of one size, to which all are padded: see `masks_padding`. Any other network (group norm, windows or
    attention over positions) sees padding as paper: use batches of images of one size where results must not depend on the
    other images of a batch.
    """

    key = KEY

    def __init__(self, config: TimmConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        check_numbers(config, KEY)
        self.net: Any = create_network(KEY, config.name, in_channels, config.pretrained, config.options)
        taps = _whole(self.net) if config.stride is None else _cut(self.net, config.name, config.stride)
        probe = probe_network(KEY, config.name, self.net, taps, in_channels, config.options.get("img_size"))
        self.tap, self.input_padding, self.min_size = probe.tap, probe.input_padding, probe.strides
        self.stride = probe.strides[1]
        self.masks = PaddingMasks()
        self.masks_padding = isinstance(self.input_padding, PadToSize) or add_padding_hooks(self.net, self.masks)
        if self.input_padding == NoInputPadding() and self.masks_padding and needs_whole_strides(self.net):
            self.input_padding = PadToMultiple(*probe.strides)
        self.out_channels = out_channels
        widths = [probe.channels, *([] if config.neck_channels is None else [config.neck_channels]), out_channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, after, 1, bias=False)]
        self.project = nn.Sequential(*layers)
        # The forward pass of ResNetRS152 is a fifth faster on CPUs than in the default layout, and tensor cores prefer it.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def features(self, images: Tensor, sizes: Tensor | None) -> Tensor:
        """Images (B, C, H, W), 0 beyond their `sizes` (B, 2), to features (B, D, h, w)."""
        padded = self.input_padding(images)
        self.masks.begin(padded, None if sizes is None else self.input_padding.padded_sizes(sizes))
        features = self.project(self.tap(self.net, padded))
        (height, width), (down, right) = images.shape[-2:], self.min_size
        return features[..., : -(-height // down), : -(-width // right)]

    def _feature_sizes(self, sizes: Tensor) -> Tensor:
        """Sizes divided by the strides, rounded up."""
        return ceil_divide(sizes, self.min_size)


@dataclass(frozen=True)
class _Level:
    """Tap of the map after a stage of the network, normalized where the network ends with it."""

    index: int
    norm: bool

    def __call__(self, net: Any, images: Tensor) -> Tensor:
        return net.forward_intermediates(images, indices=[self.index], norm=self.norm, intermediates_only=True)[0]


def _forward_features(net: Any, images: Tensor) -> Tensor:
    return net.forward_features(images)


def _whole(net: Any) -> list[Tap]:
    """Taps of the whole network: the output of its last layers, or else that of its last stage."""
    level = _Level(len(net.feature_info) - 1, norm=True)
    return [_forward_features, level] if getattr(net, "output_fmt", "NCHW") == "NCHW" else [level]


def _cut(net: Any, name: str, stride: int) -> list[Tap]:
    """Tap of the last stage with that stride; later stages are removed from `net`."""
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
