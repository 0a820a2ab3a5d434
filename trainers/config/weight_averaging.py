"""The section `weight_averaging`: which average of the weights over a run is validated and stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.rules import broken, minimums

AveragingName = Literal["none", "ema", "swa"]


@dataclass
class WeightAveragingConfig:
    """Which average of the weights over the steps of a run is validated and stored."""

    name: AveragingName = "none"  # ema: exponential, over steps; swa: plain, over the last part (Izmailov et al. 2018)
    decay: float = 0.999  # ema: what is left of the average after a step
    warmup: bool = True  # ema: less is left in early steps: 1 - step ** (-2/3), if that is smaller
    start: float = 0.75  # swa: share of the run after which weights are averaged
    every_steps: int = 0  # swa: average after so many steps; 0: at the ends of epochs
    lr_scale: float = 0.0  # swa: share of the peak at which the learning rate is held meanwhile; 0: that of the schedule
    statistics_batches: int = 64  # swa: batches from which the averaged weights' BatchNorm statistics are gathered

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken(
            (0 <= self.decay < 1, f"weight_averaging.decay={self.decay}: from 0 to below 1"),
            (0 <= self.start < 1, f"weight_averaging.start={self.start}: a share, from 0 to below 1"),
            *minimums("weight_averaging", self, every_steps=0, lr_scale=0, statistics_batches=1),
        )
