"""Squeeze-and-excitation of timm's networks (Hu et al. 2018), leaner in the backward pass.

The gradient of a mean over a map is one number at all its positions. Left to itself, autograd writes that number out into
a map of full size; here it stays a view, which saves a network with fifty such gates one in twenty of a training step.

To be imported where timm is wanted anyway: it takes a second.

Legend: B batch, C channels, h w height and width of a map.
"""

from typing import Any

import torch
from timm.layers import SEModule
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from models.backbones.timm_masks import PaddingMasks


class _GlobalMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (grad / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape)


def global_mean(x: Tensor, masks: PaddingMasks | None = None) -> Tensor:
    """(B, C, h, w) to the mean of each map, (B, C, 1, 1), over what `masks` say is image."""
    mask = None if masks is None else masks.of(x)
    if mask is None:
        mean: Tensor = _GlobalMean.apply(x)
        return mean
    count = mask.sum((2, 3), keepdim=True, dtype=torch.float)
    return ((x * mask).sum((2, 3), keepdim=True, dtype=torch.float) / count).to(x.dtype)


class LeanSEModule(SEModule):
    """Of ResNets."""

    masks: PaddingMasks | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w), each channel weighted by what all of them are on average."""
        return x * self.gate(self.fc2(self.act(self.bn(self.fc1(global_mean(x, self.masks))))))


class LeanSqueezeExcite(SqueezeExcite):
    """Of EfficientNets."""

    masks: PaddingMasks | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w), each channel weighted by what all of them are on average."""
        return x * self.gate(self.conv_expand(self.act1(self.conv_reduce(global_mean(x, self.masks)))))


def make_lean(net: nn.Module) -> None:
    """Has the plain squeeze-and-excitation modules of a network compute the same with `global_mean`; no parameter changes."""
    for module in net.modules():
        if type(module) is SEModule and not module.add_maxpool:
            module.__class__ = LeanSEModule
        elif type(module) is SqueezeExcite:
            module.__class__ = LeanSqueezeExcite
