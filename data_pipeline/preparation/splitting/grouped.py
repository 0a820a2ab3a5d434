"""Stratification of whole groups by several labels at once.

It extends the iterative stratification of Sechidis, Tsoumakas and Vlahavas (On the stratification of multi-label data, ECML
PKDD 2011) from rows to groups. A group has rows of many labels, so the label that is being divided cannot decide alone: a group
goes where the remaining demand of all its labels, and of rows, is largest for their rarity.
"""

from __future__ import annotations

import numpy as np

from data_pipeline.preparation.splitting.units import Units

SCALE = 2.0**10  # costs are whole multiples of 1 / SCALE, so that their sums are exact in any order, on any machine


def demands(units: Units, shares: np.ndarray) -> np.ndarray:
    """The rows that each part should have of each label, and in the last column of all rows."""
    totals = np.append(units.rows_of_labels, units.sizes.sum())
    return shares[:, None] * totals


def weights(demand: np.ndarray) -> np.ndarray:
    """The weight of a squared deviation from the demand: that of chi-square; rows weigh as much as all labels together."""
    found = demand[:, -1].sum() / demand
    found[:, -1] *= max(1, demand.shape[1] - 1)
    return found


def assign_groups(units: Units, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The part of each group: again and again, the groups of the label with the fewest rows left are assigned.

    Those with the most rows of it come first, as long as there is room for them. Groups without labels come last, the largest
    first: those of about one size in random order, so that groups of all sizes are in all parts.
    """
    parts = np.full(len(units), -1)
    waiting = units.by_label(rng)
    left = units.rows_of_labels
    remaining = demands(units, shares)
    weight = weights(remaining)

    def give(unit: int) -> None:
        entries = slice(units.starts[unit], units.starts[unit + 1])
        columns = np.append(units.labels[entries], units.num_labels)
        counts = np.append(units.counts[entries], units.sizes[unit])
        # By how much the weighted squares of the deviations grow.
        growth = np.rint(weight[:, columns] * (counts - 2 * remaining[:, columns]) * SCALE) @ counts.astype(float)
        parts[unit] = part = int(np.argmin(growth))
        remaining[part, columns] -= counts
        left[columns[:-1]] -= counts[:-1]

    while left.any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(left.dtype).max)))
        for unit in waiting[label].tolist():
            if parts[unit] < 0:
                give(unit)
    rest = rng.permutation(np.flatnonzero(parts < 0))
    for unit in rest[np.argsort(-np.floor(np.log2(units.sizes[rest])), kind="stable")].tolist():
        give(unit)
    return parts
