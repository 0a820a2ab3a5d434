"""The maximum of a feature map, and the mean that trains towards it.

Legend: B batch, C channels, h w height and width of the map.
"""

import math

import torch
from torch import Tensor, nn

from models.checks import check_finite
from models.classifier_config import PoolingConfig
from models.errors import ModelConfigError

SMALLEST = 1e-6  # what features are raised to before their logarithm


class MaxPooling(nn.Module):
    """Maximum over all positions."""

    def __init__(self, config: PoolingConfig, channels: int) -> None:
        super().__init__()

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 1, 1)."""
        return features.amax((2, 3), keepdim=True)


class GemPooling(nn.Module):
    """Generalized mean over all positions, mean(x ** p) ** (1 / p), with a trained p (Radenović et al. 2019).

    Negative features count as 0.
    """

    def __init__(self, config: PoolingConfig, channels: int) -> None:
        super().__init__()
        check_finite(config.exponent, "classifier.pooling.exponent")
        if config.exponent <= 0:
            raise ModelConfigError("classifier.pooling.exponent", f"must be more than 0, not {config.exponent}")
        self.exponent = nn.Parameter(torch.tensor(float(config.exponent)))

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C, 1, 1), in the type of the exponent.

        Computed from logarithms: powers leave the range of floating point for large p.
        """
        logs = features.to(self.exponent.dtype).clamp(min=SMALLEST).log() * self.exponent
        positions = features.shape[2] * features.shape[3]
        return ((logs.logsumexp((2, 3), keepdim=True) - math.log(positions)) / self.exponent).exp()
