"""Local improvement of a stratification: units of two parts are exchanged where that brings labels and sizes nearer."""

from __future__ import annotations

import itertools

import numpy as np

from data_pipeline.preparation.splitting.grouped import SCALE, demands, weights
from data_pipeline.preparation.splitting.units import Units

TRIALS = 400  # exchanges that are sought at most; each is the best between `CANDIDATES` units of one part and of another
CANDIDATES = 128


def exchange(units: Units, shares: np.ndarray, parts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Improve the part of each unit: two units change places, or one moves, until no candidates are found any more.

    What falls is the sum of the weighted squares of deviations. The effort is bounded, and no part is empty afterwards.
    """
    parts = parts.copy()
    _fill_empty(parts, units, len(shares))
    demand = demands(units, shares)
    weight = weights(demand)
    deviation = -demand
    owners = parts[units.owners()]
    np.add.at(deviation, (owners, units.labels), units.counts)
    deviation[:, -1] += np.bincount(parts, units.sizes, len(shares))
    pairs = list(itertools.combinations(range(len(shares)), 2))
    idle = 0
    for trial in range(TRIALS if pairs else 0):
        first, second = pairs[trial % len(pairs)]
        here, there = (_sample(np.flatnonzero(parts == part), rng) for part in (first, second))
        counts_here, counts_there = (_with_nothing(units.dense(chosen)) for chosen in (here, there))
        squares = np.rint((weight[first] + weight[second]) * SCALE)
        slopes = np.rint(2 * (weight[first] * deviation[first] - weight[second] * deviation[second]) * SCALE)
        change = _change(counts_here, counts_there, squares, slopes)
        change[-1, -1] = 0
        if len(here) == 1:
            change[0, -1] = 0
        if len(there) == 1:
            change[-1, 0] = 0
        a, b = np.unravel_index(np.argmin(change), change.shape)
        if change[a, b] >= 0:
            idle += 1
            if idle == len(pairs):
                break
            continue
        idle = 0
        moved = counts_there[b] - counts_here[a]
        deviation[first] += moved
        deviation[second] -= moved
        parts[here[a : a + 1]] = second
        parts[there[b : b + 1]] = first
    return parts


def _fill_empty(parts: np.ndarray, units: Units, count: int) -> None:
    """Move the smallest group of the part with the most groups to a part without any."""
    for part in range(count):
        filled = np.bincount(parts, minlength=count)
        if not filled[part]:
            givers = np.flatnonzero(parts == np.argmax(filled))
            parts[givers[np.argmin(units.sizes[givers])]] = part


def _sample(units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return units if len(units) <= CANDIDATES else rng.choice(units, CANDIDATES, replace=False)


def _change(here: np.ndarray, there: np.ndarray, squares: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """By how much the sum changes when a unit `here` (rows) is exchanged for one `there` (columns).

    With the difference d = there - here of their counts, that is d² @ squares + d @ slopes.
    """
    found = -2 * (here * squares) @ there.T
    found += there**2 @ squares + there @ slopes
    found += (here**2 @ squares - here @ slopes)[:, None]
    return found


def _with_nothing(counts: np.ndarray) -> np.ndarray:
    """The counts of units, and at the end none: to exchange a unit with nothing is to move it."""
    return np.vstack([counts, np.zeros((1, counts.shape[1]))])
