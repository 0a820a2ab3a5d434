"""Iterative stratification of rows with several labels (Sechidis, Tsoumakas and Vlahavas, ECML PKDD 2011)."""

from __future__ import annotations

import numpy as np

from data_pipeline.preparation.splitting.units import Units


def assign_rows(rows: Units, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The part of each row: again and again, the label with the fewest rows left is divided.

    A row with it goes to the part that lacks the most rows of this label; of several, to the one that lacks the most rows; of
    several, to any. Rows without labels fill up the parts.
    """
    parts = np.full(len(rows), -1)
    labels = [part.tolist() for part in np.split(rows.labels, rows.starts[1:-1])]
    waiting = rows.by_label(rng)
    left = rows.rows_of_labels
    demand = (left[:, None] * shares).tolist()
    row_demand = (len(rows) * shares).tolist()
    draws = rng.random(len(rows)).tolist()

    def give(row: int, wanted: list[float]) -> None:
        most = max(wanted)
        best = [part for part, lacking in enumerate(wanted) if lacking == most]
        if len(best) > 1:
            most = max(row_demand[part] for part in best)
            best = [part for part in best if row_demand[part] == most]
        part = best[int(draws[row] * len(best))]
        parts[row] = part
        row_demand[part] -= 1
        for label in labels[row]:
            demand[label][part] -= 1
            left[label] -= 1

    while left.any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(left.dtype).max)))
        for row in waiting[label].tolist():
            if parts[row] < 0:
                give(row, demand[label])
    for row in rng.permutation(np.flatnonzero(parts < 0)).tolist():
        give(row, row_demand)
    return parts
