"""Confusion matrices for people: all classes, or those that are confused most, and the pairs that are.

Legend: K classes; the first axis of counts is the truth, the second the prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.tasks.presentation import Matrix

Counts = NDArray[np.integer[Any]]

WHOLE = 30  # classes of a matrix whose cells have room for numbers
KEPT = 24  # classes of a larger one that are shown with numbers
OTHERS = "(others)"
LEGEND = "Blue: right. Orange: taken for another class. The darker, the larger the share of the row."


def confusion_matrices(names: Sequence[str], counts: Counts, title: str) -> tuple[Matrix, ...]:
    """The confusion matrix (K, K); of many classes two: the most confused ones with numbers, and the whole as a picture."""
    if len(names) <= WHOLE:
        return (_matrix(names, counts, title),)
    chosen = most_confused(counts, KEPT)
    everything = _matrix(names, counts, f"{title}: all {len(names):,} classes")
    if not chosen:
        return (everything,)
    reduced = _matrix(
        [*(names[index] for index in chosen), OTHERS],
        merged(counts, chosen),
        f"{title}: the {len(chosen)} most confused classes of {len(names):,}",
    )
    reduced.shades[-1, -1] = 0  # right and wrong ones together
    return reduced, everything


def most_confused(counts: Counts, count: int) -> list[int]:
    """The classes of the most confused pairs, at most `count` of them, in their own order."""
    found: set[int] = set()
    for pair in _pairs(counts, count * count):
        if len(found | set(pair)) <= count:
            found |= set(pair)
    return sorted(found)


def _pairs(counts: Counts, count: int) -> list[tuple[int, int]]:
    """The pairs of truth and prediction with the most images, at most `count` of them."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    places = np.argsort(-wrong, axis=None, kind="stable")[:count].tolist()
    pairs = [divmod(place, len(counts)) for place in places]
    return [pair for pair in pairs if wrong[pair]]


def merged(counts: Counts, chosen: Sequence[int]) -> Counts:
    """The counts with all classes that are not `chosen` as one, the last."""
    groups = np.full(len(counts), len(chosen))
    groups[list(chosen)] = np.arange(len(chosen))
    found = np.zeros((len(chosen) + 1, len(chosen) + 1), counts.dtype)
    np.add.at(found, (groups[:, None], groups[None]), counts)
    return found


def confused_pairs(names: Sequence[str], counts: Counts, count: int) -> list[tuple[str, str, int, str]]:
    """The pairs of truth and prediction with the most images: truth, prediction, images, share of the truth's images."""
    return [
        (names[truth], names[given], int(counts[truth, given]), _percent(counts[truth, given] / counts[truth].sum()))
        for truth, given in _pairs(counts, count)
    ]


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %")


def _matrix(names: Sequence[str], counts: Counts, title: str) -> Matrix:
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right = np.eye(len(counts), dtype=bool)
    return Matrix(
        title, names, names, counts, np.where(right, shares, -shares), LEGEND, "truth", "prediction", shade_format=".0%"
    )
