"""Whether a classifier is right as often as it claims to be (Guo et al. 2017)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.tasks.metrics.scores import BINS, calibration_error
from trainers.tasks.presentation import Reliability


def reliability(
    title: str,
    confidence: NDArray[np.floating[Any]],
    correct: NDArray[np.bool_],
    x_title: str = "confidence",
    y_title: str = "right",
) -> Reliability:
    """Confidences (N,) and whether each is right, in the bins of the calibration error. NaN is in no bin."""
    numbers = ~np.isnan(confidence)
    values = confidence[numbers].astype(np.float64)
    bins = np.digitize(values, np.linspace(0, 1, BINS + 1)[1:-1])
    counts = np.bincount(bins, minlength=BINS)

    def means(of: NDArray[Any]) -> NDArray[np.float64]:
        sums = np.bincount(bins, weights=of, minlength=BINS)
        return np.divide(sums, counts, out=np.full(BINS, np.nan), where=counts > 0)

    return Reliability(
        title, means(values), means(correct[numbers]), counts, calibration_error(confidence, correct), x_title, y_title
    )
