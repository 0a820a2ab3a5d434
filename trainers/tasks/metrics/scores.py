"""What torchmetrics computes of a classifier's predictions, from NumPy arrays and to the last digit the same anywhere.

A sum of floats depends on how many threads share it, so one does. torchmetrics is imported where it is used: it takes seconds.

Legend: N rows, K classes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

DECIMALS = 6  # of metrics that follow from probabilities
BINS = 15  # of the calibration error, of equal width

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside, torch computes on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def label_counts(predicted: Bools, truth: Bools) -> tuple[Ints, Ints, Ints]:
    """True positives, false positives and false negatives of each label, from what is present (N, K): each (K,)."""
    from torchmetrics.functional.classification import multilabel_stat_scores

    if not len(truth):
        none = np.zeros(truth.shape[1], np.int64)
        return none, none, none
    with one_thread():
        counts = multilabel_stat_scores(
            torch.from_numpy(predicted.astype(np.int64)),
            torch.from_numpy(truth.astype(np.int64)),
            truth.shape[1],
            average=None,
            validate_args=False,
        )
    found = counts.reshape(truth.shape[1], 5).numpy().astype(np.int64)
    return found[:, 0], found[:, 1], found[:, 3]


def confusion_matrix(predicted: Ints, truth: Ints, num_classes: int) -> Ints:
    """How many rows of each true class, the first axis, were given each class: (K, K)."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    if not len(truth) or num_classes < 2:
        return np.full((num_classes, num_classes), len(truth), np.int64)
    with one_thread():
        counts = multiclass_confusion_matrix(
            torch.from_numpy(predicted.astype(np.int64)),
            torch.from_numpy(truth.astype(np.int64)),
            num_classes,
            validate_args=False,
        )
    return counts.numpy().astype(np.int64)


def average_precisions(probs: Floats, truth: Bools) -> Floats:
    """Average precision of each label: float64 (K,), NaN of one that is never present or has a probability that is NaN.

    Rows of equal probability are taken together, in whatever order they come.
    """
    from torchmetrics.functional.classification import binary_average_precision

    found = np.full(truth.shape[1], math.nan)
    with one_thread():
        for label in range(truth.shape[1]):
            scores, present = probs[:, label], truth[:, label]
            if present.any() and not np.isnan(scores).any():
                value = binary_average_precision(
                    torch.from_numpy(_shares(scores)), torch.from_numpy(present.astype(np.int64)), validate_args=False
                )
                found[label] = float(value)
    return found


def calibration_error(confidence: Floats, correct: Bools) -> float:
    """How far confidence is from the share that is correct: the mean over BINS bins, by rows (Guo et al. 2017); NaN of none.

    Rounded: the last bits of a network's probabilities depend on how many images it sees at once.
    """
    from torchmetrics.functional.classification import binary_calibration_error

    if not len(confidence) or np.isnan(confidence).any():
        return math.nan
    with one_thread():
        value = binary_calibration_error(
            torch.from_numpy(_shares(confidence)),
            torch.from_numpy(correct.astype(np.int64)),
            n_bins=BINS,
            norm="l1",
            validate_args=False,
        )
    return round(float(value), DECIMALS)


def mean_or_nan(values: Floats) -> float:
    """The mean of the values that are numbers, NaN where there is none; rounded once, so their order does not matter."""
    numbers = values[~np.isnan(values)]
    return math.fsum(numbers) / len(numbers) if len(numbers) else math.nan


def ratio(numerator: Any, denominator: Any) -> Floats:
    """Numbers over numbers in float64, NaN where the denominator is 0."""
    top, bottom = np.asarray(numerator, np.float64), np.asarray(denominator, np.float64)
    return np.divide(top, bottom, out=np.full(np.broadcast_shapes(top.shape, bottom.shape), math.nan), where=bottom != 0)


def _shares(values: Floats) -> Floats:
    """Probabilities that rounding took out of [0, 1] put back: torchmetrics would take all of them for logits."""
    return np.clip(values.astype(np.float64), 0.0, 1.0)
