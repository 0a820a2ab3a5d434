"""A run that ends when it no longer gets better."""

from __future__ import annotations

import math
from typing import Any

from trainers.config.criterion import Criterion
from trainers.config.early_stopping import EarlyStoppingConfig


class EarlyStopping:
    """Counts validations since the best by `criterion`, which is that of the configuration's metric."""

    def __init__(self, config: EarlyStoppingConfig, criterion: Criterion) -> None:
        self._config, self._criterion = config, criterion
        self.best, self.epochs_since = -math.inf, 0

    def update(self, metrics: dict[str, float]) -> None:
        """Take the metrics of a validation; those without the metric say nothing, and NaN is no improvement."""
        if self._criterion.metric not in metrics:
            return
        value = self._criterion.rank(metrics)
        if value > self.best + self._config.min_delta:
            self.best, self.epochs_since = value, 0
        else:
            self.epochs_since += 1

    @property
    def due(self) -> bool:
        """Whether patience has run out."""
        return 0 < self._config.patience <= self.epochs_since

    def state_dict(self) -> dict[str, Any]:
        """The best so far and the validations since, with what they were counted by."""
        return {**self._counted_by(), "best": self.best, "epochs_since": self.epochs_since}

    def load_state_dict(self, state: dict[str, Any]) -> bool:
        """Resume from a `state_dict`; whether that could be done.

        What was counted by another metric, direction or `min_delta` means nothing here: the count then starts again.
        """
        fits = all(state.get(key) == value for key, value in self._counted_by().items())
        if fits:
            self.best, self.epochs_since = state["best"], state["epochs_since"]
        return fits

    def _counted_by(self) -> dict[str, Any]:
        return {
            "metric": self._criterion.metric,
            "direction": self._criterion.direction,
            "min_delta": self._config.min_delta,
        }
