"""Squeeze-and-excitation of timm's networks (Hu et al. 2018) with a faster backward pass.

The gradient of a mean over a map is the same number at all positions. Autograd materializes it as a full map; here it stays an
expanded view, which saves 5 % of a training step in a network with fifty such gates.

Import this module only where timm is needed anyway: timm takes a second to import.

Legend: B batch, C channels, h w height and width of a map.
"""

from typing import Any

import torch
from timm.layers import SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from models.backbones.padding_masks import PaddingMasks


class _GlobalMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (grad / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape)


def global_mean(x: Tensor, masks: PaddingMasks | None = None) -> Tensor:
    """Mean (B, C, 1, 1) of each map of (B, C, h, w), over the image area where `masks` are given."""
    mask = None if masks is None else masks.of(x)
    if mask is None:
        mean: Tensor = _GlobalMean.apply(x)
        return mean
    count = mask.sum((2, 3), keepdim=True, dtype=torch.float)
    return ((x * mask).sum((2, 3), keepdim=True, dtype=torch.float) / count).to(x.dtype)


class LeanSEModule(SEModule):
    """timm's `SEModule` (ResNets) with `global_mean`."""

    masks: PaddingMasks | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) with each channel gated by the means of all channels."""
        return x * self.gate(self.fc2(self.act(self.bn(self.fc1(global_mean(x, self.masks))))))


class LeanSqueezeExcite(SqueezeExcite):
    """timm's `SqueezeExcite` (EfficientNets) with `global_mean`."""

    masks: PaddingMasks | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) with each channel gated by the means of all channels."""
        return x * self.gate(self.conv_expand(self.act1(self.conv_reduce(global_mean(x, self.masks)))))


def make_lean(net: nn.Module) -> None:
    """Replaces the squeeze-and-excitation modules of a network by the lean ones, in place; parameters stay the same."""
    for module in net.modules():
        if type(module) is SEModule and not module.add_maxpool:
            module.__class__ = LeanSEModule
        elif type(module) is SqueezeExcite:
            module.__class__ = LeanSqueezeExcite
