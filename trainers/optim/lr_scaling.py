"""The peak of the rate for the size of the global batch."""

from __future__ import annotations

import math
from collections.abc import Callable

from trainers.config.optim import LrScaling, OptimConfig


def _same(ratio: float) -> float:
    return 1.0


def _linear(ratio: float) -> float:
    return ratio


# linear: Goyal et al. 2017; sqrt, which keeps the variance of the steps: Krizhevsky 2014.
SCALINGS: dict[LrScaling, Callable[[float], float]] = {"none": _same, "linear": _linear, "sqrt": math.sqrt}


def scaled_lr(config: OptimConfig, global_batch_size: int) -> float:
    """The peak of the rate for steps on `global_batch_size` images."""
    return config.lr * SCALINGS[config.lr_scaling](global_batch_size / config.base_batch_size)
