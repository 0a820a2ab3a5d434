"""Metrics of a multi-label classifier.

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
from trainers.tasks.metrics.scores import (
    average_precisions,
    calibration_error,
    label_counts,
    mean_or_nan,
    ratio,
)
from trainers.tasks.presentation import MetricColumn, Table

HEADLINES = (
    MetricColumn("count", "images", "7.0f"),
    MetricColumn("map", "mAP", ".4f", "max", "Mean average precision"),
    MetricColumn("accuracy", "accuracy", "6.2%", "max", "Accuracy of labels"),
    MetricColumn("exact_match", "exact", "6.1%", "max", "All labels right"),
    MetricColumn("f1_macro", "F1 macro", ".4f", "max", "F1, mean of classes"),
)
DETAILS = (
    MetricColumn("f1_micro", "F1 of all labels", ".4f", "max"),
    MetricColumn("f1_sample", "F1, mean of images", ".4f", "max"),
    MetricColumn("calibration_error", "calibration error", ".4f", "min"),
    MetricColumn("loss", "loss", ".4f", "min"),
    MetricColumn("rejected", "rejected", ".0f"),
)
DIRECTIONS: Directions = {column.key: column.better for column in (*HEADLINES, *DETAILS) if column.better is not None}
MAIN_METRIC = "map"


@dataclass
class MultilabelMetrics(RowMetrics):
    """Metrics over predicted sets of labels.

    Labels of a truth that are none of the classes (of a dataset that has more than the checkpoint knows) make the row count as
    wrong in `exact_match`, and nothing else.
    """

    def add(self, prediction: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        """Count one prediction, `predictions` and `probs`, beside the true `labels`."""
        self._keep((prediction["probs"], prediction["predictions"], target["labels"]))

    def _pack(self, rows: Sequence[Any]) -> Records:
        size, index = len(self.classes), class_index(self.classes)
        kind = [("probs", np.float32, (size,)), ("predicted", bool, (size,)), ("truth", bool, (size,)), ("unknown", bool)]
        records = np.zeros(len(rows), np.dtype(kind))
        if not rows:
            return records
        records["probs"] = np.asarray([probs for probs, _, _ in rows], np.float32)
        predicted, truth, unknown = records["predicted"], records["truth"], records["unknown"]
        for row, (_, predictions, labels) in enumerate(rows):
            predicted[row, [require_prediction(name, index) for name in predictions]] = True
            known = [index[name] for name in labels if name in index]
            truth[row, known] = True
            unknown[row] = len(known) < len(labels)
        return records

    def averages(self) -> dict[str, float]:
        """The metrics; over no prediction at all they are NaN.

        `accuracy` is the share of all pairs of image and label that are right, `exact_match` that of images with all labels
        right. `f1_macro` is the mean over the classes that are present or predicted anywhere, `map` over those that are
        present; others have no such value. `f1_sample` is the mean over images, where none predicted of none present is 1.
        `calibration_error` is over all pairs.
        """
        records = self.records
        predicted, truth = records["predicted"], records["truth"]
        wrong = (predicted != truth).sum(1)
        true_positives, false_positives, false_negatives = label_counts(predicted, truth)
        errors = false_positives + false_negatives
        hits = 2 * (predicted & truth).sum(1)
        of_rows = np.where(hits + wrong == 0, 1.0, ratio(hits, hits + wrong))
        count = self.count or math.nan
        return {
            "count": float(self.count),
            "accuracy": 1 - int(wrong.sum()) / (count * max(len(self.classes), 1)),
            "exact_match": int(((wrong == 0) & ~records["unknown"]).sum()) / count,
            "f1_micro": float(ratio(2 * true_positives.sum(), 2 * true_positives.sum() + errors.sum())),
            "f1_macro": mean_or_nan(ratio(2 * true_positives, 2 * true_positives + errors)),
            "f1_sample": mean_or_nan(of_rows),
            "map": mean_or_nan(average_precisions(records["probs"], truth)),
            "calibration_error": calibration_error(records["probs"].ravel(), truth.ravel()),
            "rejected": float(self.rejected),
        }

    def per_class(self, thresholds: Mapping[str, float] | None = None, default: float = 0.5) -> Table:
        """A row for each class: how often it is present and predicted, its metrics, and the threshold it was predicted with.

        A metric that a class does not have, because it is never present or never predicted, is NaN.
        """
        records = self.records
        true_positives, false_positives, false_negatives = label_counts(records["predicted"], records["truth"])
        present, predicted = true_positives + false_negatives, true_positives + false_positives
        columns = (
            present,
            predicted,
            ratio(true_positives, predicted),
            ratio(true_positives, present),
            ratio(2 * true_positives, present + predicted),
            average_precisions(records["probs"], records["truth"]),
        )
        limits = thresholds or {}
        rows = [
            (name, *(column[index].item() for column in columns), float(limits.get(name, default)))
            for index, name in enumerate(self.classes)
        ]
        return Table(("class", "rows", "predicted", "precision", "recall", "F1", "average precision", "threshold"), rows)
