"""Splits of exact sizes: random, and stratified by one class of each row."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def part_sizes(rows: int, shares: np.ndarray) -> np.ndarray:
    """How many of `rows` each part gets: its share, rounded by the largest remainders, but at least one row."""
    exact = rows * shares
    sizes = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(sizes - exact, kind="stable")
    sizes[order[: rows - sizes.sum()]] += 1
    while not sizes.all():  # no more parts than rows, so another has a row to give
        sizes[np.argmax(sizes)] -= 1
        sizes[np.argmin(sizes)] += 1
    return sizes


def assign_randomly(rows: int, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The part of each row, at random."""
    return rng.permutation(np.repeat(np.arange(len(shares)), part_sizes(rows, shares)))


def assign_classes(classes: Sequence[Hashable], shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The part of each row, so that each class is divided like the whole, to about one row.

    Rows are ordered by class, at random inside a class, and dealt out in a sequence in which the parts lie as evenly spread
    as their sizes allow. So both the sizes of parts are exact and the classes are divided evenly. Of parts that are not all of
    one size, the largest, which is trained on, then gets a row of every class.
    """
    index: dict[Hashable, int] = {}
    numbers = np.array([index.setdefault(name, len(index)) for name in classes], np.int64)
    order = np.lexsort((rng.permutation(len(numbers)), rng.permutation(len(index))[numbers]))
    sizes = part_sizes(len(numbers), shares)
    positions = np.concatenate([(np.arange(size) + 0.5) / share for size, share in zip(sizes, shares, strict=True)])
    dealt = rng.permutation(len(sizes))  # of parts of one size, another comes first with another seed
    ranks = np.repeat(dealt, sizes)
    sequence = np.repeat(np.arange(len(sizes)), sizes)[np.lexsort((ranks, positions))]
    parts = np.empty(len(numbers), np.int64)
    parts[order] = sequence
    if np.ptp(shares) > 1e-9:  # shares of splits, not of folds
        _teach_all(parts, numbers, shares)
    return parts


def _teach_all(parts: np.ndarray, classes: np.ndarray, shares: np.ndarray) -> None:
    """Exchange rows so that the largest part has one of each class: from the classes of which it has more than their share."""
    largest = int(np.argmax(shares))
    rows = np.zeros((int(classes.max()) + 1, len(shares)), np.int64)
    np.add.at(rows, (classes, parts), 1)
    excess = rows[:, largest] - shares[largest] * rows.sum(1)
    for lacking in np.flatnonzero(rows[:, largest] == 0):
        giver = int(np.argmax(np.where(rows[:, largest] > 1, excess, -np.inf)))
        if rows[giver, largest] < 2:
            return
        taken = np.flatnonzero(classes == lacking)[0]
        given = np.flatnonzero((classes == giver) & (parts == largest))[0]
        parts[given], parts[taken] = parts[taken], largest
        rows[giver, largest] -= 1
        excess[giver] -= 1
