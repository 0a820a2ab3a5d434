"""What is assigned as a whole, rows or groups of rows, and how many rows of each label it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Units:
    """Units of rows: `sizes` are their rows, and `counts` how many of those have the labels `labels`.

    The labels of unit u are `labels[starts[u]:starts[u + 1]]`, numbers below `num_labels`; all are sparse, since most labels
    of many are missing in most units.
    """

    sizes: np.ndarray
    starts: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    num_labels: int

    @classmethod
    def of(cls, labels: Sequence[Sequence[str]], numbers: np.ndarray) -> Units:
        """The units whose `numbers` are those of the rows; a label that a row names twice counts once."""
        index: dict[str, int] = {}
        flat = np.array([index.setdefault(label, len(index)) for row in labels for label in row], np.int64)
        lengths = np.array([len(row) for row in labels], np.int64)
        width = max(1, len(index))
        once = np.unique(np.repeat(np.arange(len(labels)), lengths) * width + flat)
        keys, counts = np.unique(numbers[once // width] * width + once % width, return_counts=True)
        sizes = np.bincount(numbers)
        starts = np.searchsorted(keys // width, np.arange(len(sizes) + 1))
        return cls(sizes, starts, keys % width, counts, len(index))

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def rows_of_labels(self) -> np.ndarray:
        """The number of rows of each label."""
        return np.bincount(self.labels, self.counts, self.num_labels).astype(np.int64)

    def owners(self) -> np.ndarray:
        """The unit of each entry of `labels` and `counts`."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def dense(self, chosen: np.ndarray) -> np.ndarray:
        """The counts of the `chosen` units as a matrix with a column for each label, and a last one for their rows."""
        found = np.zeros((len(chosen), self.num_labels + 1))
        lengths = self.starts[chosen + 1] - self.starts[chosen]
        ends = np.cumsum(lengths)
        entries = np.arange(lengths.sum()) + np.repeat(self.starts[chosen] - ends + lengths, lengths)
        found[np.repeat(np.arange(len(chosen)), lengths), self.labels[entries]] = self.counts[entries]
        found[:, -1] = self.sizes[chosen]
        return found

    def by_label(self, rng: np.random.Generator) -> list[np.ndarray]:
        """The units that have each label: those with the most rows of it first, those with equally many shuffled."""
        owners = self.owners()
        order = np.lexsort((rng.permutation(len(self))[owners], -self.counts, self.labels))
        return np.split(owners[order], np.searchsorted(self.labels[order], np.arange(1, self.num_labels)))


def group_numbers(groups: Sequence[str]) -> np.ndarray:
    """The number of each row's group, in the order in which they occur; an empty name is a group of its own."""
    index: dict[str | int, int] = {}
    return np.array([index.setdefault(group or row, len(index)) for row, group in enumerate(groups)], np.int64)
