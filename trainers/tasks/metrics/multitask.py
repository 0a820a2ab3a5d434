"""Metrics of a classifier with several heads, and maybe a learned joint class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from trainers.config.criterion import Directions
from trainers.tasks.metrics.base import Metrics
from trainers.tasks.metrics.multiclass import MulticlassMetrics
from trainers.tasks.metrics.rows import class_index
from trainers.tasks.presentation import MetricColumn, Table

HEADLINES = (
    MetricColumn("count", "images", "7.0f"),
    MetricColumn("exact_match", "exact", "6.1%", "max", "All heads right"),
    MetricColumn("accuracy", "accuracy", "6.2%", "max", "Accuracy, mean of heads"),
)
JOINT_HEADLINES = (*HEADLINES, MetricColumn("joint_accuracy", "joint", "6.2%", "max", "Accuracy of the joint class"))
DETAILS = (MetricColumn("loss", "loss", ".4f", "min"), MetricColumn("rejected", "rejected", ".0f"))
# Those of any heads; `directions` has those of one task.
DIRECTIONS: Directions = {
    **{column.key: column.better for column in (*HEADLINES, *DETAILS) if column.better is not None},
    **{"f1_macro": "max", "calibration_error": "min"},  # of a head, after its name
}
MAIN_METRIC = "exact_match"
REPORTED = ("accuracy", "f1_macro", "calibration_error")  # of each head and of the joint class


def headlines(joint: bool) -> tuple[MetricColumn, ...]:
    """The metrics that consoles and tables show; with a learned joint class, its accuracy, too."""
    return JOINT_HEADLINES if joint else HEADLINES


def details(heads: Sequence[str], joint: bool) -> tuple[MetricColumn, ...]:
    """The metrics that only a report has room for: those of each head, and F1 of the joint class."""
    columns = []
    for head in heads:
        columns.append(MetricColumn(f"{head}_accuracy", f"{head}: accuracy", ".2%", "max"))
        columns.append(MetricColumn(f"{head}_f1_macro", f"{head}: F1 macro", ".4f", "max"))
        columns.append(MetricColumn(f"{head}_calibration_error", f"{head}: calibration error", ".4f", "min"))
    if joint:
        columns.append(MetricColumn("joint_f1_macro", "joint: F1 macro", ".4f", "max"))
        columns.append(MetricColumn("joint_calibration_error", "joint: calibration error", ".4f", "min"))
    return (*columns, *DETAILS)


def directions(heads: Sequence[str], joint: bool) -> Directions:
    """The metrics that weights can be compared by."""
    columns = (*headlines(joint), *details(heads, joint))
    return {column.key: column.better for column in columns if column.better is not None}


@dataclass
class MultitaskMetrics(Metrics):
    """Metrics over predicted classes of several heads; `MultitaskMetrics.of` makes empty ones."""

    exact: int = 0  # rows whose heads are all right
    heads: dict[str, MulticlassMetrics] = field(kw_only=True)
    joint: MulticlassMetrics | None = None  # of a learned joint class

    @classmethod
    def of(cls, heads: Mapping[str, Sequence[str]], joint: Sequence[str] = ()) -> Self:
        """Empty metrics of heads with their classes, and of the joint classes, if they are predicted.

        Joint classes are the combinations of the heads' classes, row-major.
        """
        return cls(
            heads={head: MulticlassMetrics(classes=tuple(classes)) for head, classes in heads.items()},
            joint=MulticlassMetrics(classes=tuple(joint)) if joint else None,
        )

    def add(self, prediction: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        """Count one prediction, `HEAD_prediction` and `HEAD_probs` of each head, beside the true class in column `HEAD`."""
        self.count += 1
        self.exact += all(prediction[f"{head}_prediction"] == target[head] for head in self.heads)
        for head, metrics in self.heads.items():
            metrics.add_label(prediction[f"{head}_prediction"], prediction[f"{head}_probs"], target[head])
        if self.joint is not None:
            self.joint.add_label(prediction["joint_prediction"], prediction["joint_probs"], self._joint_truth(target))

    def _joint_truth(self, target: Mapping[str, Any]) -> str:
        """The joint class of the heads' true classes; none, the empty name, where one of them is not known."""
        assert self.joint is not None
        place = 0
        for head, metrics in self.heads.items():
            index = class_index(metrics.classes)
            if target[head] not in index:
                return ""
            place = place * len(index) + index[target[head]]
        return self.joint.classes[place]

    def averages(self) -> dict[str, float]:
        """The metrics; over no prediction at all they are NaN.

        `exact_match` is the share of rows whose heads are all right, `accuracy` the mean of the heads' accuracies. Each head,
        and a learned joint class, has its own `NAME_accuracy`, `NAME_f1_macro` and `NAME_calibration_error` as
        `MulticlassMetrics` defines them.
        """
        parts = {head: metrics.averages() for head, metrics in self.heads.items()}
        joint = {} if self.joint is None else {"joint": self.joint.averages()}
        accuracies = [part["accuracy"] for part in parts.values()]
        return {
            "count": float(self.count),
            "exact_match": self.exact / (self.count or math.nan),
            "accuracy": math.fsum(accuracies) / len(accuracies),
            **{f"{name}_{key}": part[key] for name, part in (parts | joint).items() for key in REPORTED},
            "rejected": float(self.rejected),
        }

    def per_class(self) -> Table:
        """A row for each class of each head, then of the joint class."""
        tables = {head: metrics.per_class() for head, metrics in self.heads.items()}
        if self.joint is not None:
            tables["joint"] = self.joint.per_class()
        columns = next(iter(tables.values())).columns
        return Table(("head", *columns), [(head, *row) for head, table in tables.items() for row in table.rows])

    def __add__(self, other: Self) -> Self:
        if list(self.heads) != list(other.heads) or (self.joint is None) != (other.joint is None):
            raise ValueError("metrics of other heads do not add up")
        return type(self)(
            self.count + other.count,
            self.rejected + other.rejected,
            self.exact + other.exact,
            joint=None if self.joint is None or other.joint is None else self.joint + other.joint,
            heads={head: metrics + other.heads[head] for head, metrics in self.heads.items()},
        )
