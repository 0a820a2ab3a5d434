"""Backbones: images (B, C, H, W) in floating point and true widths to features (B, D, h, w).

Each is built from (its config, in_channels, out_channels) and has `out_channels` (D) and `stride` (pixels per position).
"""

from torch import nn

from models.backbones.small_cnn import SmallCnn
from models.backbones.timm_features import TimmFeatures
from models.choices import choose
from models.config import BackboneConfig

BACKBONES = {"small_cnn": SmallCnn, "timm": TimmFeatures}


def build_backbone(config: BackboneConfig, in_channels: int, out_channels: int) -> nn.Module:
    """The configured backbone, from `in_channels` image channels to `out_channels` feature channels."""
    backbone = choose(BACKBONES, config.name, "model.backbone.name")
    return backbone(getattr(config, config.name), in_channels, out_channels)


__all__ = ["BACKBONES", "SmallCnn", "TimmFeatures", "build_backbone"]
