"""Any convolutional network of timm as a backbone.

Legend: B batch, C channels, H W height and width in pixels, D width of the encoder, h w = H W / stride.
"""

import difflib
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.base import Backbone
from models.config import TimmConfig
from models.errors import ModelConfigError

KEY = "model.backbone.timm"


class TimmFeatures(Backbone):
    """A headless timm network, then BatchNorm-ReLU-1x1 convolutions down to the width of the encoder.

    Its convolutions and pooled gates see padding as paper: batch images of one width where results must not depend on
    the company that an image keeps.
    """

    key = KEY

    def __init__(self, config: TimmConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.net: Any = _create(config, in_channels)
        self.stride = _probe_stride(self.net, config.name, in_channels)
        self.min_size = (self.stride, self.stride)
        self.out_channels = out_channels
        widths = [self.net.num_features, *([config.neck_channels] if config.neck_channels else []), out_channels]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, after, 1, bias=False)]
        self.project = nn.Sequential(*layers)

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) to features (B, D, h, w); `widths` has no effect."""
        return self.project(self.net.forward_features(images))

    def columns(self, widths: Tensor) -> Tensor:
        """A column for every `stride` pixels, the last ones may be fewer."""
        return ((widths + self.stride - 1) // self.stride).clamp(min=1)


def _create(config: TimmConfig, in_channels: int) -> Any:
    import timm  # here, not above: it takes a second, and the small configuration does without

    if not timm.is_model(config.name):
        close = difflib.get_close_matches(config.name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; the nearest are {', '.join(close)}" if close else ""
        raise ModelConfigError(f"{KEY}.name", f"timm has no model {config.name!r}{hint}")
    try:
        net = timm.create_model(config.name, pretrained=config.pretrained, num_classes=0, global_pool="", in_chans=in_channels)
    except Exception as error:
        if not config.pretrained:
            raise ModelConfigError(f"{KEY}.name", f"timm cannot build {config.name!r} here: {error}") from error
        # timm, the hub client and the transport below it raise errors of many unrelated classes.
        raise ModelConfigError(
            f"{KEY}.pretrained",
            f"the weights of {config.name!r} are not to be had ({type(error).__name__}: {error}); "
            "connect to the hub, fill its cache, or set it to false",
        ) from error
    return net


def _probe_stride(net: Any, name: str, in_channels: int) -> int:
    """Pixels per feature, seen from the features of a blank image: refuses networks without a map or of one image size."""
    size = 64
    try:
        with torch.no_grad():
            shape = tuple(net.eval().forward_features(torch.zeros(1, in_channels, size, size)).shape)
    except Exception as error:  # timm's networks check their input with assertions and errors of many classes
        raise ModelConfigError(f"{KEY}.name", f"{name!r} does not take images of any size: {error}") from error
    finally:
        net.train()
    if len(shape) != 4 or shape[1] != net.num_features:
        raise ModelConfigError(f"{KEY}.name", f"{name!r} gives features {shape}, not a map (B, C, h, w)")
    return size // shape[-1]
