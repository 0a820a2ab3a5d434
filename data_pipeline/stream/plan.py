"""The order of samples in a run, as a pure function of (dataset, seed, epoch).

An epoch permutes the row groups and cuts them into windows. Inside a window, rows whose images have about the same size are
shuffled and cut into bundles, and the bundles are shuffled: batches pad little, and all sizes occur throughout the epoch. The
resulting sequence of rows is cut into global batches, by their number or by the pixels that they take when padded, and
rank r of W takes the r-th part of each. The order depends neither on the number of workers nor on timing, and a position is a
count of samples: `StreamPosition(epoch, samples)`.

No list of all samples is ever made: a window is a few integers, and its rows are drawn when it is read.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from data_pipeline.dataset.manifest import Manifest
from data_pipeline.stream.row_groups import RowGroups

BUNDLE_ROWS = 64  # rows of one size that stay together, where batches are counted in samples

# Streams of random numbers that must not be confused: one number for each purpose.
_WINDOWS, _ROWS = 1, 2


@dataclass(frozen=True, order=True)
class StreamPosition:
    """A position in a run: `samples` of `epoch` have been consumed."""

    epoch: int = 0
    samples: int = 0


@dataclass(frozen=True)
class BatchRule:
    """The size of a global batch: at most `samples`, and at most `pixels` once padded (0: no limit).

    A single image that takes more is a batch of its own. Blank rows that make ranks equal do not count.
    """

    samples: int
    pixels: int = 0

    def fitting(self, area: int) -> int:
        """The number of images of a padded `area` (pixels) that make a batch."""
        return max(1, min(self.samples, self.pixels // max(area, 1))) if self.pixels else self.samples


@dataclass(frozen=True, eq=False)
class Window:
    """Row groups (their numbers) whose rows are shuffled together; its first row is the epoch's sample number `start`."""

    epoch: int
    number: int
    start: int
    rows: int
    groups: np.ndarray

    @property
    def end(self) -> int:
        """The number of the sample after its last."""
        return self.start + self.rows


@dataclass(frozen=True)
class GlobalBatch:
    """The samples of all ranks in one step: `size` samples of `epoch`, beginning with number `first`."""

    epoch: int
    first: int
    size: int

    def share(self, rank: int, world_size: int) -> tuple[int, int]:
        """The samples of a rank, from the first to before the last. Ranks get consecutive parts of one size, the last less."""
        each = self.rows_of_rank(world_size)
        return self.first + min(self.size, rank * each), self.first + min(self.size, (rank + 1) * each)

    def rows_of_rank(self, world_size: int) -> int:
        """The number of rows of each rank's batch, padding included: the same on every rank."""
        return -(-self.size // world_size)


class Plan:
    """The order of every epoch over `groups`; without `shuffled`, the order of the files."""

    def __init__(self, groups: RowGroups, key: tuple[int, ...], window_row_groups: int, rule: BatchRule, shuffled: bool = True):
        self.groups, self.rule, self.shuffled = groups, rule, shuffled
        self.rows = int(groups.rows.sum())
        self._key, self._window = key, window_row_groups
        self._area = groups.height * groups.width
        # The padded size of each row group as a number: sizes in order of height, then width.
        _, self._size = np.unique(np.stack([groups.height, groups.width], axis=1), axis=0, return_inverse=True)
        self._epochs: dict[int, list[Window]] = {}

    def windows(self, epoch: int) -> list[Window]:
        """The windows of an epoch in order: a permutation of the row groups, cut."""
        epoch = epoch if self.shuffled else 0
        if epoch not in self._epochs:  # requested window by window, and at an epoch's end for two epochs
            self._epochs = dict([*self._epochs.items(), (epoch, self._cut_epoch(epoch))][-2:])
        return self._epochs[epoch]

    def __getstate__(self) -> dict[str, object]:
        return {**vars(self), "_epochs": {}}

    def _cut_epoch(self, epoch: int) -> list[Window]:
        count = len(self.groups)
        order = _generator(*self._key, epoch, _WINDOWS).permutation(count) if self.shuffled else np.arange(count)
        parts = [order[first : first + self._window] for first in range(0, count, self._window)]
        rows = [int(self.groups.rows[part].sum()) for part in parts]
        starts = np.cumsum([0, *rows])
        return [Window(epoch, number, int(starts[number]), rows[number], part) for number, part in enumerate(parts)]

    def order(self, window: Window) -> np.ndarray:
        """The rows of a window in order: int64 (rows, 2) of (index into `window.groups`, row in that row group)."""
        counts = self.groups.rows[window.groups]
        member = np.repeat(np.arange(len(counts)), counts)
        row = np.arange(window.rows) - np.repeat(np.cumsum(counts) - counts, counts)
        pairs = np.stack([member, row], axis=1)
        if not self.shuffled:
            return pairs
        rng = _generator(*self._key, window.epoch, _ROWS, window.number)
        sizes = self._size[window.groups][member]
        bundles: list[np.ndarray] = []
        remainders: list[np.ndarray] = []
        for size in np.unique(sizes):
            members = rng.permutation(pairs[sizes == size])
            length = self.rule.fitting(self._area_of(window, size)) if self.rule.pixels else BUNDLE_ROWS
            whole = len(members) // length * length
            bundles += np.split(members[:whole], whole // length) if whole else []
            remainders.append(members[whole:])
        # What does not fill a bundle comes last, so that the bundles before it stay aligned with the batches.
        shuffled = [bundles[index] for index in rng.permutation(len(bundles))]
        return np.concatenate([np.empty((0, 2), np.int64), *shuffled, *remainders])

    def global_batches(self, start: StreamPosition) -> Iterator[GlobalBatch]:
        """The global batches from `start` to the end of its epoch."""
        if self.rule.pixels:
            for window in self.windows(start.epoch):
                yield from self.global_batches_over(window, start.samples)
            return
        for first in range(start.samples, self.rows, self.rule.samples):
            yield GlobalBatch(start.epoch, first, min(self.rule.samples, self.rows - first))

    def global_batches_over(self, window: Window, origin: int) -> Iterator[GlobalBatch]:
        """The global batches with samples in `window`, of an epoch that begins at sample number `origin`."""
        if self.rule.pixels:  # then a batch ends where its window ends
            first = max(window.start, origin)
            for size in self._cut(self._padded_sizes(window)[self.order(window)[first - window.start :, 0]]):
                yield GlobalBatch(window.epoch, first, size)
                first += size
            return
        samples = self.rule.samples
        for first in range(origin + max(0, window.start - origin) // samples * samples, window.end, samples):
            yield GlobalBatch(window.epoch, first, min(samples, self.rows - first))

    def steps_in(self, epoch: int) -> int:
        """The number of global batches of a whole epoch, found without drawing the order of its rows."""
        if not self.rule.pixels:
            return -(-self.rows // self.rule.samples)
        return sum(self._count_of(window) for window in self.windows(epoch))

    def _count_of(self, window: Window) -> int:
        rows, sizes = self.groups.rows[window.groups], self._size[window.groups]
        padded = self._padded_sizes(window)
        if not self.shuffled:
            return sum(1 for _ in self._cut(np.repeat(padded, rows, axis=0)))
        count, remainders = 0, []
        counts = np.bincount(sizes, rows).astype(np.int64)
        for size in np.flatnonzero(counts).tolist():
            fitting = self.rule.fitting(self._area_of(window, size))
            count += int(counts[size]) // fitting
            remainders.append(np.repeat(padded[sizes == size][:1], counts[size] % fitting, axis=0))
        return count + sum(1 for _ in self._cut(np.concatenate(remainders)))

    def _area_of(self, window: Window, size: int) -> int:
        """The padded pixels of an image of the size with this number, which occurs in `window`."""
        groups = window.groups
        return int(self._area[groups[np.argmax(self._size[groups] == size)]])

    def _padded_sizes(self, window: Window) -> np.ndarray:
        """The padded (height, width) of the images of each of a window's row groups: int64 (groups, 2)."""
        return np.stack([self.groups.height[window.groups], self.groups.width[window.groups]], axis=1)

    def _cut(self, sizes: np.ndarray) -> Iterator[int]:
        """The lengths of batches that fill the pixels; `sizes` int64 (rows, 2) are `_padded_sizes` in the order of the rows."""
        first = 0
        while first < len(sizes):
            ahead = np.maximum.accumulate(sizes[first : first + self.rule.samples], axis=0)
            areas = ahead.prod(axis=1) * np.arange(1, len(ahead) + 1)
            length = max(1, int(np.searchsorted(areas, self.rule.pixels, side="right")))
            yield length
            first += length

    def max_window_bytes(self) -> int:
        """The encoded bytes of the largest window that may occur."""
        return int(np.sort(self.groups.bytes)[-self._window :].sum())

    def max_batch_pixels(self) -> int:
        """The padded pixels of the largest global batch that may occur."""
        if not len(self.groups):
            return 0
        largest = int(self.groups.height.max() * self.groups.width.max())
        return max(largest, self.rule.pixels) if self.rule.pixels else largest * min(self.rule.samples, self.rows)


def train_plan(manifest: Manifest, split: str, seed: int, window_row_groups: int, rule: BatchRule) -> Plan:
    """The plan of training on a split."""
    groups = RowGroups.of(manifest.split(split), manifest.image)
    return Plan(groups, (zlib.crc32(manifest.digest.encode()), seed), window_row_groups, rule)


def evaluation_plan(
    manifest: Manifest, split: str, rank: int, world_size: int, window_row_groups: int, rule: BatchRule
) -> Plan:
    """One rank's part of an evaluation: whole row groups in the order of the files, so that none is read twice."""
    groups = RowGroups.of(manifest.split(split), manifest.image).part(rank, world_size)
    return Plan(groups, (), window_row_groups, rule, shuffled=False)


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
