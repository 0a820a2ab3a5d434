"""Sections of a report about predicted classes: of a multi-class task, and of each head of a multi-task one."""

from __future__ import annotations

from collections.abc import Mapping

from trainers.tasks.inspection.class_metrics import class_bars
from trainers.tasks.inspection.confusion import confused_pairs, confusion_matrices
from trainers.tasks.inspection.reliability import reliability
from trainers.tasks.metrics.multiclass import MulticlassMetrics
from trainers.tasks.presentation import Drawing, Section, Table

PAIRS, PAIRS_OF_A_HEAD = 15, 5  # that are listed, of a single head and of several


def class_drawings(metrics: MulticlassMetrics) -> tuple[Drawing, ...]:
    """Confusion matrix, metrics of each class, and how reliable the confidence is."""
    records = metrics.records
    return (
        *confusion_matrices(metrics.classes, metrics.confusion(), "Confusion"),
        class_bars(metrics.per_class(), ("F1", "precision", "recall")),
        reliability("Confidence in the predicted class", records["confidence"], records["predicted"] == records["truth"]),
    )


def class_note(metrics: MulticlassMetrics) -> str:
    """What the drawings leave out, in a sentence."""
    unknown = int((metrics.records["truth"] < 0).sum())
    return (
        f"{unknown:,} images whose true class the checkpoint does not know are not in the confusion matrix." if unknown else ""
    )


def confusion_section(heads: Mapping[str, MulticlassMetrics]) -> list[Section]:
    """The pairs of classes that are confused most, of each head; with a single head its name is not shown."""
    count = PAIRS if len(heads) == 1 else PAIRS_OF_A_HEAD
    rows = [
        (head, *pair) for head, metrics in heads.items() for pair in confused_pairs(metrics.classes, metrics.confusion(), count)
    ]
    columns = ("head", "truth", "prediction", "images", "share of the truth's images")
    first = 0 if len(heads) > 1 else 1
    return [Section("Most confused classes", Table(columns[first:], [row[first:] for row in rows]))] if rows else []
