"""Confident learning (Northcutt, Jiang, Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels, 2021).

A row is counted as one of class j where the network gives j at least the probability that it gives, on average, to the rows
labeled j: so a class that is always predicted with little confidence is not suspected as a whole. The rows counted by label and
by class are the confident joint; scaled to all rows of each label, it says how many rows labeled i are j in truth. So many are
taken for wrong, those where j is more probable than i by the widest margins (the paper's pruning by noise rate).

Legend: N rows, K classes.
"""

from __future__ import annotations

import numpy as np

_ROUNDING = 1e-6  # probabilities are stored as float32


def class_thresholds(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """The mean probability of each class among the rows labeled with it: float64 (K,), infinite for a class without rows."""
    classes = probs.shape[1]
    rows = np.bincount(labels, minlength=classes)
    own = np.bincount(labels, weights=probs[np.arange(len(labels)), labels], minlength=classes)
    return np.asarray(np.where(rows > 0, own / np.maximum(rows, 1), np.inf))


def suggest(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """The class that each row seems to have: int64 (N,), that of its label where nothing speaks against it.

    `labels` are int64 (N,), `probs` float64 (N, K), made without these labels. What is suggested is always more probable than
    the label.
    """
    classes = probs.shape[1]
    confident = probs >= class_thresholds(labels, probs) - _ROUNDING
    counted = np.atleast_1d(confident.any(1))
    best = np.where(confident | ~counted[:, None], probs, -np.inf).argmax(1)
    pairs = labels * classes + best
    wrong = _wrong_labels(pairs[counted], np.bincount(labels, minlength=classes))
    rows = np.arange(len(labels))
    margins = probs[rows, best] - probs[rows, labels]
    doubtful = np.flatnonzero(margins > 0)
    doubtful = doubtful[np.lexsort((-margins[doubtful], pairs[doubtful]))]
    # The place of each among those of its pair, which lie together now, by falling margin.
    place = np.arange(len(doubtful)) - np.searchsorted(pairs[doubtful], pairs[doubtful])
    chosen = doubtful[place < wrong[pairs[doubtful]]]
    suggested = labels.copy()
    suggested[chosen] = best[chosen]
    return suggested


def _wrong_labels(counted: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How many rows labeled i are j in truth, at i * K + j: the confident joint, scaled to the `rows` (K,) of each label."""
    joint = np.bincount(counted, minlength=len(rows) ** 2).reshape(len(rows), -1)
    scaled = joint * (rows / np.maximum(joint.sum(1), 1))[:, None]
    np.fill_diagonal(scaled, 0)
    return np.rint(scaled).astype(np.int64).ravel()
