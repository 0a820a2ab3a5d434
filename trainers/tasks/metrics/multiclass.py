"""Metrics of a multi-class classifier.

Legend: N rows, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainers.config.criterion import Directions
from trainers.tasks.metrics.rows import Records, RowMetrics, class_index, require_prediction
from trainers.tasks.metrics.scores import DECIMALS, Ints, calibration_error, confusion_matrix, mean_or_nan, ratio
from trainers.tasks.presentation import MetricColumn, Table

TOP = 5
UNKNOWN = -1  # in the place of a class that is none of the checkpoint's

HEADLINES = (
    MetricColumn("count", "images", "7.0f"),
    MetricColumn("accuracy", "accuracy", "6.2%", "max", "Accuracy"),
    MetricColumn("f1_macro", "F1 macro", ".4f", "max", "F1, mean of classes"),
    MetricColumn("balanced_accuracy", "balanced", "6.2%", "max", "Accuracy, mean of classes"),
)
DETAILS = (
    MetricColumn("top_5", "top 5", ".2%", "max"),
    MetricColumn("calibration_error", "calibration error", ".4f", "min"),
    MetricColumn("nll", "-log p of the truth", ".4f", "min"),
    MetricColumn("loss", "loss", ".4f", "min"),
    MetricColumn("rejected", "rejected", ".0f"),
)
DIRECTIONS: Directions = {
    column.key: column.better for column in (*HEADLINES, *DETAILS) if column.better is not None and column.key != "top_5"
}
MAIN_METRIC = "accuracy"

_RECORD = np.dtype(
    [
        ("predicted", np.int32),
        ("truth", np.int32),
        ("confidence", np.float32),  # the highest probability
        ("truth_prob", np.float32),
        ("better", np.int32),  # classes with a higher probability than the true one
        ("equal", np.int32),  # other classes with the same probability
    ]
)


def directions(num_classes: int) -> Directions:
    """The metrics that weights can be compared by; the share of the top 5 where there are more than 5 classes."""
    return {**DIRECTIONS, "top_5": "max"} if num_classes > TOP else DIRECTIONS


@dataclass
class MulticlassMetrics(RowMetrics):
    """Metrics over predicted classes.

    A truth that is none of the classes (of a dataset that has more than the checkpoint knows) is wrong whatever is predicted;
    it has no part in `balanced_accuracy` and `nll`.
    """

    def add(self, prediction: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        """Count one prediction, `prediction` and `probs`, beside the true `label`."""
        self.add_label(prediction["prediction"], prediction["probs"], target["label"])

    def add_label(self, prediction: str, probs: Any, truth: str) -> None:
        """Count one predicted class with the probabilities of all, beside the true one."""
        self._keep((prediction, probs, truth))

    def _pack(self, rows: Sequence[Any]) -> Records:
        records, index = np.zeros(len(rows), _RECORD), class_index(self.classes)
        if not rows:
            return records
        probs = np.asarray([row[1] for row in rows], np.float32)
        truth = np.asarray([index.get(name, UNKNOWN) for _, _, name in rows], np.int32)
        own = probs[np.arange(len(rows)), np.maximum(truth, 0)][:, None]
        records["predicted"] = [require_prediction(name, index) for name, _, _ in rows]
        records["truth"] = truth
        records["confidence"] = probs.max(1)
        records["truth_prob"] = np.where(truth >= 0, own[:, 0], 0)
        records["better"] = np.where(truth >= 0, (probs > own).sum(1), len(self.classes))
        records["equal"] = np.where(truth >= 0, (probs == own).sum(1) - 1, 0).clip(0)
        return records

    @property
    def right(self) -> int:
        """How many predictions are right."""
        records = self.records
        return int((records["predicted"] == records["truth"]).sum())

    def confusion(self) -> Ints:
        """How many rows of each true class, the first axis, were given each class: (K, K). Without truths that are no class."""
        records = self.records
        known = records[records["truth"] >= 0]
        return confusion_matrix(known["predicted"], known["truth"], len(self.classes))

    def averages(self) -> dict[str, float]:
        """The metrics; over no prediction at all they are NaN.

        `f1_macro` is the mean over the classes that are true or predicted anywhere, `balanced_accuracy` that of the recall of
        those that are true anywhere; others have no such value. `top_5`, of more than 5 classes, is the share of rows whose
        true class is among the 5 most probable; of a tie around the fifth place, the chance to be, were it broken by lot.
        `nll` is the mean of -log p of the true class. `calibration_error` is of the most probable class.
        """
        records, count = self.records, self.count or math.nan
        right = records["predicted"] == records["truth"]
        known = records[records["truth"] >= 0]
        hits, truths, predictions = self._counts(records)
        found = {
            "count": float(self.count),
            "accuracy": int(right.sum()) / count,
            "f1_macro": mean_or_nan(ratio(2 * hits, truths + predictions)),
            "balanced_accuracy": mean_or_nan(ratio(hits, truths)),
            "calibration_error": calibration_error(records["confidence"], right),
            "nll": _mean_nll(known["truth_prob"]),
            "rejected": float(self.rejected),
        }
        if len(self.classes) > TOP:
            among = np.clip((TOP - records["better"]) / (records["equal"] + 1), 0.0, 1.0)
            found["top_5"] = mean_or_nan(among)
        return found

    def _counts(self, records: Records) -> tuple[Ints, Ints, Ints]:
        """Of each class, the rows that are right, those where it is true and those where it is predicted."""
        size = len(self.classes)
        confusion = self.confusion()
        return confusion.diagonal(), confusion.sum(1), np.bincount(records["predicted"], minlength=size)

    def per_class(self) -> Table:
        """A row for each class: how often it is true and predicted, and its metrics, NaN where it does not have one."""
        hits, truths, predictions = self._counts(self.records)
        columns = (
            truths,
            predictions,
            ratio(hits, predictions),
            ratio(hits, truths),
            ratio(2 * hits, truths + predictions),
        )
        rows = [(name, *(column[index].item() for column in columns)) for index, name in enumerate(self.classes)]
        return Table(("class", "rows", "predicted", "precision", "recall", "F1"), rows)


def _mean_nll(probs: Any) -> float:
    """The mean of -log p, in float64, rounded; p = 0 counts as the smallest number of float32."""
    values = probs.astype(np.float64)
    if np.isnan(values).any():
        return math.nan
    return round(mean_or_nan(-np.log(np.maximum(values, np.finfo(np.float32).tiny))), DECIMALS)
