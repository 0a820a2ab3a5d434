"""Sections of a report about predicted sets of labels."""

from __future__ import annotations

from trainers.tasks.inspection.class_metrics import class_bars
from trainers.tasks.inspection.error_pairs import STRIKING, error_matrix, error_pairs
from trainers.tasks.inspection.reliability import reliability
from trainers.tasks.inspection.threshold_curves import threshold_curves
from trainers.tasks.metrics.multilabel import MultilabelMetrics
from trainers.tasks.presentation import Section


def label_sections(metrics: MultilabelMetrics, threshold: float, own_thresholds: int) -> list[Section]:
    """Metrics of each class, other thresholds, how reliable the probabilities are, and which classes are wrong together.

    `own_thresholds` is the number of classes that do not use `threshold`.
    """
    records = metrics.records
    probs, predicted, truth = records["probs"], records["predicted"], records["truth"]
    names = metrics.classes
    note = f"Classes with thresholds of their own: {own_thresholds:,}. The curves are those of one threshold for all."
    drawings = (
        class_bars(metrics.per_class(), ("F1", "average precision")),
        threshold_curves(probs, truth, threshold),
        reliability("Probability that a class is present", probs.ravel(), truth.ravel(), "probability", "present"),
    )
    pairs = error_pairs(names, predicted, truth)
    together = f"Pairs that are {STRIKING:g} standard deviations or more above what independent errors would give."
    return [
        Section("Classes", drawings, note if own_thresholds else ""),
        *([Section("Errors that come together", (error_matrix(names, predicted != truth),))] if len(names) > 1 else []),
        *([Section("Classes that are wrong together", pairs, together)] if pairs.rows else []),
    ]
