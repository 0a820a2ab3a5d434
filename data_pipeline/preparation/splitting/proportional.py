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
    as their sizes allow. So both the sizes of parts are exact and the classes are divided evenly.
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
    return parts
