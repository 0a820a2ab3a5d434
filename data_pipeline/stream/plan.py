"""The order of a run, as pure functions of (row groups, seed, epoch).

An epoch permutes the row groups and cuts them into windows. Inside a window, the rows of each width class are shuffled and
cut into bundles of similar width, and the bundles are shuffled: batches pad little, and all widths occur all the time.
The sequence of rows that results is cut into global batches, and rank r of W takes the r-th part of each. Neither the
number of workers nor timing has a say in it, and a position is a count of samples: `Position(epoch, samples)`.

No list of all samples is ever made: windows are a few integers, and the rows of one are drawn where it is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_pipeline.manifest import RowGroup

WIDTH_CLASS = 32  # pixels: row groups whose widest images differ by less are mixed with each other
BUNDLE_ROWS = 64  # rows of one width class that stay together

# Streams of random numbers that must not be confused: one purpose, one number.
_WINDOWS, _ROWS = 1, 2


@dataclass(frozen=True, order=True)
class Position:
    """A place in a run: `samples` of `epoch` are behind."""

    epoch: int = 0
    samples: int = 0


@dataclass(frozen=True)
class Window:
    """Row groups whose rows are shuffled together. Its first row is the epoch's sample number `start`."""

    epoch: int
    number: int
    start: int
    row_groups: tuple[RowGroup, ...]

    @property
    def rows(self) -> int:
        """Rows in this window."""
        return sum(group.rows for group in self.row_groups)


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def epoch_windows(row_groups: Sequence[RowGroup], seed: int, epoch: int, window_row_groups: int) -> list[Window]:
    """The windows of an epoch in order: a permutation of the row groups, cut."""
    order = _generator(seed, epoch, _WINDOWS).permutation(len(row_groups))
    return _cut([row_groups[index] for index in order], epoch, window_row_groups)


def window_rows(window: Window, seed: int) -> np.ndarray:
    """The rows of a window in order: int64 (rows, 2) of (place in `window.row_groups`, row in that group)."""
    rng = _generator(seed, window.epoch, _ROWS, window.number)
    classes: dict[int, list[np.ndarray]] = {}
    for place, group in enumerate(window.row_groups):
        rows = np.stack([np.full(group.rows, place), np.arange(group.rows)], axis=1)
        classes.setdefault(-(-group.width // WIDTH_CLASS), []).append(rows)
    bundles: list[np.ndarray] = []
    rests: list[np.ndarray] = []
    for _, members in sorted(classes.items()):
        rows = rng.permutation(np.concatenate(members))
        whole = len(rows) // BUNDLE_ROWS * BUNDLE_ROWS
        bundles += np.split(rows[:whole], whole // BUNDLE_ROWS) if whole else []
        rests.append(rows[whole:])
    # What does not fill a bundle comes last, so that the bundles before it stay in step with the batches.
    shuffled = [bundles[index] for index in rng.permutation(len(bundles))]
    return np.concatenate([np.empty((0, 2), np.int64), *shuffled, *rests])


def sequential_windows(row_groups: Sequence[RowGroup], window_row_groups: int) -> list[Window]:
    """The windows of an evaluation: every row group once, in the order of the files."""
    return _cut(row_groups, 0, window_row_groups)


def _cut(row_groups: Sequence[RowGroup], epoch: int, window_row_groups: int) -> list[Window]:
    windows: list[Window] = []
    start = 0
    for number, first in enumerate(range(0, len(row_groups), window_row_groups)):
        window = Window(epoch, number, start, tuple(row_groups[first : first + window_row_groups]))
        windows.append(window)
        start += window.rows
    return windows


def sequential_rows(window: Window) -> np.ndarray:
    """As `window_rows`, unshuffled."""
    pairs = [(place, row) for place, group in enumerate(window.row_groups) for row in range(group.rows)]
    return np.asarray(pairs, np.int64).reshape(-1, 2)


@dataclass(frozen=True)
class Share:
    """Which samples of an epoch of `total` go to `rank` of `world_size`, from `start` on, in global batches.

    The last batch may be smaller; it is dealt as evenly as it goes, so that every rank takes as many steps as the others.
    """

    total: int
    start: int
    global_batch_size: int
    world_size: int
    rank: int

    @property
    def steps(self) -> int:
        """Global batches from `start` to the end of the epoch."""
        return -(-max(0, self.total - self.start) // self.global_batch_size)

    def batch_rows(self, step: int) -> tuple[int, int, int]:
        """Of the `step`-th batch from `start`: its samples, the rows of each rank with padding, this rank's real ones."""
        size = min(self.global_batch_size, self.total - self.start - step * self.global_batch_size)
        per_rank = -(-size // self.world_size)
        return size, per_rank, max(0, min(per_rank, size - self.rank * per_rank))

    def mine(self, samples: np.ndarray) -> np.ndarray:
        """Which of the sample numbers (of the epoch, any shape) are this rank's: bool of the same shape."""
        relative = samples - self.start
        step = relative // self.global_batch_size
        size = np.minimum(self.global_batch_size, self.total - self.start - step * self.global_batch_size)
        per_rank = -(-size // self.world_size)
        place = relative - step * self.global_batch_size
        return (relative >= 0) & (place // np.maximum(per_rank, 1) == self.rank)

    def touches(self, window: Window) -> bool:
        """Whether any sample of `window` is yet to come."""
        return window.start + window.rows > self.start
