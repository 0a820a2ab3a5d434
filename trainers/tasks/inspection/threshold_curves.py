"""What another threshold would give a multi-label classifier."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.tasks.metrics.scores import ratio
from trainers.tasks.presentation import Curves

STEPS = 100


def threshold_curves(probs: NDArray[np.floating[Any]], truth: NDArray[np.bool_], threshold: float) -> Curves:
    """Precision, recall and F1 over all pairs of image and class (N, K), where `prob > threshold`, at all thresholds.

    Precision is NaN where nothing is predicted.
    """
    # float32, as predictions are compared: .3 in float64 is another number.
    cuts = np.linspace(0, 1, STEPS + 1).astype(np.float32)
    predicted = _above(probs.ravel(), cuts)
    hits = _above(probs[truth], cuts)
    present = int(truth.sum())
    curves = {
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, np.full(len(cuts), present)),
        "F1": ratio(2 * hits, predicted + present),
    }
    shown = {name: values.tolist() for name, values in curves.items()}
    marks = {f"configured: {threshold:.3g}": threshold}
    return Curves("Threshold, over all pairs of image and class", cuts.tolist(), shown, "threshold", marks)


def _above(values: NDArray[np.floating[Any]], cuts: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many values are above each cut."""
    numbers = np.sort(values[~np.isnan(values)].astype(np.float32))
    return len(numbers) - np.searchsorted(numbers, cuts, side="right")
