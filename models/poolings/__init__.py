"""Poolings, from the features (B, C, h, w) of a backbone to one position (B, C, 1, 1).

Each is built from (PoolingConfig, C).
"""

from collections.abc import Callable

from torch import nn

from models.checks import check_numbers, lookup
from models.classifier_config import PoolingConfig, PoolingName
from models.poolings.attention import AttentionPooling
from models.poolings.maximum import GemPooling, MaxPooling
from models.poolings.network import NetworkPooling

POOLINGS: dict[PoolingName, Callable[[PoolingConfig, int], nn.Module]] = {
    "average": NetworkPooling,
    "max": MaxPooling,
    "gem": GemPooling,
    "attention": AttentionPooling,
}


def check_pooling(config: PoolingConfig) -> None:
    """Raises ModelConfigError for an unknown pooling or bad settings."""
    check_numbers(config, "classifier.pooling")
    lookup(POOLINGS, config.name, "classifier.pooling.name")


def build_pooling(config: PoolingConfig, channels: int) -> nn.Module:
    """Builds the configured pooling of `channels` channels."""
    return lookup(POOLINGS, config.name, "classifier.pooling.name")(config, channels)


__all__ = ["POOLINGS", "build_pooling", "check_pooling"]
