"""The section `loss_guard`: steps that would spoil a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainers.config.rules import broken, minimums

OnBadStep = Literal["stop", "skip"]


@dataclass
class LossGuardConfig:
    """What counts as a bad step (a loss that is NaN, infinite or has exploded), and what is done about it."""

    on_bad_step: OnBadStep = "stop"  # skip: the batch changes nothing, its ids are saved, training continues
    max_loss_ratio: float = 3.0  # a loss so many times that of the untrained network has exploded; 0: NaN and inf alone are bad
    max_skipped: int = 20  # bad steps in a row that end the run all the same

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        ratio = self.max_loss_ratio
        return broken(
            (ratio == 0 or ratio > 1, f"loss_guard.max_loss_ratio={ratio:g}: above 1, or 0"),
            *minimums("loss_guard", self, max_skipped=1),
        )
