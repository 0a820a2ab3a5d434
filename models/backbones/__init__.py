"""Backbones, from images (B, C, H, W) in floating point and true sizes (B, 2) to features (B, D, h, w).

Each is built from (its config, in_channels, out_channels).
"""

from collections.abc import Callable
from typing import Any

from models.backbones.aster_cnn import AsterCnn
from models.backbones.base import Backbone
from models.backbones.convnet6 import ConvNet6
from models.backbones.densenet import DenseNetBackbone
from models.backbones.resnetv2 import ResNetV2Backbone
from models.backbones.small_cnn import SmallCnn
from models.backbones.swin import SwinBackbone
from models.backbones.timm_features import TimmFeatures
from models.checks import lookup
from models.config import BackboneConfig, BackboneName

BACKBONES: dict[BackboneName, Callable[[Any, int, int], Backbone]] = {
    "small_cnn": SmallCnn,
    "timm": TimmFeatures,
    "densenet": DenseNetBackbone,
    "aster_cnn": AsterCnn,
    "convnet6": ConvNet6,
    "resnetv2": ResNetV2Backbone,
    "swin": SwinBackbone,
}


def build_backbone(config: BackboneConfig, in_channels: int, out_channels: int) -> Backbone:
    """Builds the configured backbone, from `in_channels` image channels to `out_channels` feature channels."""
    backbone = lookup(BACKBONES, config.name, "model.backbone.name")
    return backbone(getattr(config, config.name), in_channels, out_channels)


__all__ = ["BACKBONES", "Backbone", "SmallCnn", "TimmFeatures", "build_backbone"]
