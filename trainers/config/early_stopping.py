"""The section `early_stopping`: when a run ends that no longer improves."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.config.criterion import Mode
from trainers.config.rules import broken, minimums


@dataclass
class EarlyStoppingConfig:
    """After how many validations without an improvement a run ends."""

    patience: int = 0  # validations, which are epochs unless validate_every says otherwise; 0: never
    metric: str = "auto"  # of the validation: val/wer, of a source val/printed/wer; auto: the task's own
    mode: Mode = "auto"  # whether more or less of the metric is better; auto: the metric's own direction
    min_delta: float = 0.0  # how much better counts as better

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken(
            *minimums("early_stopping", self, patience=0, min_delta=0),
            (bool(self.metric), "early_stopping.metric is empty: name a metric, such as val/score"),
        )
