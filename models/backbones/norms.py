"""Norms of feature maps (B, C, H, W) with a mask (B, H, W), True on the image."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones.instance_norm import InstanceNorm
from models.config import ConvNorm


class BatchNorm(nn.BatchNorm2d):
    """Batch norm (Ioffe and Szegedy 2015); the statistics of a training batch include padding."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to (B, C, H, W); `mask` is not needed."""
        return super().forward(input)


class LayerNorm(nn.LayerNorm):
    """Layer norm over the channels of each position (Ba et al. 2016), independent of padding."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to (B, C, H, W); `mask` is not needed."""
        channels_last = F.layer_norm(input.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps)
        return channels_last.permute(0, 3, 1, 2)


NORMS: dict[ConvNorm, Callable[[int], nn.Module]] = {"batch": BatchNorm, "instance": InstanceNorm, "layer": LayerNorm}
