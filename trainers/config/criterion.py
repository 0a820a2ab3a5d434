"""What weights are compared by: a metric of the validation, and whether more or less of it is better."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cluster.errors import UserError

Direction = Literal["max", "min"]
Mode = Literal["auto", "max", "min"]  # auto: the direction that the metric has
Directions = Mapping[str, Direction]
AUTO = "auto"  # in the place of a metric: the task's own


@dataclass(frozen=True)
class Criterion:
    """The best has the most of `metric`, or the least of it."""

    metric: str = "val/score"
    direction: Direction = "max"

    @classmethod
    def of(cls, metric: str, mode: Mode, directions: Directions) -> Criterion:
        """The criterion of a metric, whose direction is that of `directions`, a task's table by the last part of the name.

        One of a part of the output, `mask_accuracy`, goes by what follows its name. Of a metric that the table does not have,
        `mode` says it.
        """
        name = metric.rpartition("/")[2]
        while name not in directions and "_" in name:
            name = name.partition("_")[2]
        return cls(metric, directions.get(name, "min" if mode == "min" else "max"))

    def rank(self, metrics: Mapping[str, float]) -> float:
        """A number that is higher for better `metrics`: -infinity where the metric is missing, NaN or infinite."""
        value = metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return -math.inf
        return value if self.direction == "max" else -value


def require_metric(section: str, metric: str, mode: Mode, reported: Directions, split: str) -> None:
    """Check that `SECTION.metric` is one that a validation on `split` reports, and that `SECTION.mode` does not contradict it.

    `reported` are the names of all that can be compared, with their directions; an empty `section` is a study's own.

    Raises:
        UserError: naming the key, what is allowed and the nearest spelling.
    """
    key, mode_key = (f"{section}.{name}" if section else name for name in ("metric", "mode"))
    if metric not in reported:
        near = difflib.get_close_matches(metric, reported, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UserError(
            f"{key}={metric}: no validation reports such a measure of how good weights are.{hint} "
            f"On split '{split}' there are: {_listed(reported)}."
        )
    direction = reported[metric]
    if mode not in ("auto", direction):
        better = "less" if direction == "min" else "more"
        raise UserError(
            f"{mode_key}={mode} contradicts {key}={metric}, of which {better} is better. "
            f"Set {mode_key}=auto: the metric's own direction holds then."
        )


def _listed(reported: Directions) -> str:
    """The metrics of a whole split, and the sources for which they are reported apart."""
    whole = [name for name in reported if name.count("/") == 1]
    sources = dict.fromkeys(name.partition("/")[2].rpartition("/")[0] for name in reported if name not in whole)
    named = f"; of its sources {', '.join(sources)}: val/SOURCE/METRIC" if sources else ""
    return ", ".join(whole) + named
