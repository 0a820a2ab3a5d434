"""Batch normalization (Ioffe and Szegedy 2015) of maps with masked positions.

Legend: R maps, C channels, h w height and width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedBatchNorm(nn.Module):
    """Batch norm whose training statistics cover only the valid positions.

    With fewer than two of them there is no variance: the running statistics are used and stay unchanged.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor, valid: Tensor | None) -> Tensor:
        """(R, C, h, w) to the same; `valid` (R, 1, h, w), or None to normalize with the running statistics."""
        x = x.to(self.weight.dtype)
        if valid is None or not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        count = valid.sum()
        enough, min_count = count > 1, count.clamp(min=2)  # reading a value would wait for the GPU
        mean = torch.where(enough, x.masked_fill(~valid, 0.0).sum((0, 2, 3)) / min_count, self.running_mean)
        centered = x - mean[:, None, None]
        variance = torch.where(enough, centered.masked_fill(~valid, 0.0).square().sum((0, 2, 3)) / min_count, self.running_var)
        with torch.no_grad():
            unbiased = torch.where(enough, variance * min_count / (min_count - 1), variance)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased, self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        return centered * scale[:, None, None] + self.bias[:, None, None]
