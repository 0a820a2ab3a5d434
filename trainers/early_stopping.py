"""A run that ends when it no longer gets better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal


@dataclass
class EarlyStoppingConfig:
    """After how many validations without a better figure a run ends."""

    patience: int = 0  # validations, which are epochs unless validate_every says otherwise; 0: never
    metric: str = "val/score"
    mode: Literal["max", "min"] = "max"
    min_delta: float = 0.0  # how much better counts as better


def problems(config: EarlyStoppingConfig) -> list[str]:
    """What is wrong with the values, each in one line."""
    rules = [
        (config.patience >= 0, f"early_stopping.patience={config.patience}: not negative"),
        (config.min_delta >= 0, f"early_stopping.min_delta={config.min_delta:g}: not negative"),
        (bool(config.metric), "early_stopping.metric is empty: name a figure, such as val/score"),
    ]
    return [message for good, message in rules if not good]


class EarlyStopping:
    """Counts epochs since the best."""

    def __init__(self, config: EarlyStoppingConfig) -> None:
        self._config = config
        self.best, self.epochs_since = -math.inf, 0

    def update(self, metrics: dict[str, float]) -> None:
        """Take the figures of an epoch; those without the metric say nothing."""
        if self._config.metric not in metrics:
            return
        value = metrics[self._config.metric] * (1 if self._config.mode == "max" else -1)
        if value > self.best + self._config.min_delta:
            self.best, self.epochs_since = value, 0
        else:
            self.epochs_since += 1

    @property
    def due(self) -> bool:
        """Whether patience has run out."""
        return 0 < self._config.patience <= self.epochs_since

    def state_dict(self) -> dict[str, Any]:
        """The best so far and the epochs since."""
        return {"best": self.best, "epochs_since": self.epochs_since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self.best, self.epochs_since = state["best"], state["epochs_since"]
