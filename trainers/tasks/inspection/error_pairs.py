"""Which classes of a multi-label classifier are wrong in the same images, beside what chance would give.

Were errors independent, two classes with errors in shares p and q of N images would be wrong together in N p q of them, give
or take a standard deviation of sqrt(N p q (1 - p) (1 - q)).

Legend: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.tasks.inspection.confusion import KEPT, WHOLE
from trainers.tasks.presentation import Matrix, Table

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

STRIKING = 4.0  # standard deviations from chance that a pair is listed from: of 500,000 pairs chance lists 16
FEWEST = 5  # images of a listed pair: of rarer ones the deviation says nothing
NOISE, LIMIT = 2.0, 8.0  # standard deviations up to which there is no color, and those of the darkest
LEGEND = "Orange: more often wrong together than by chance, blue: less often; white: within two standard deviations of it."


def joint_errors(wrong: Bools) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Of wrong pairs of image and class (N, K): images in which two classes are wrong, those by chance, deviations: (K, K).

    The deviations are in standard deviations, 0 where a class is never or always wrong, and on the diagonal.
    """
    errors = wrong.astype(np.float32)
    together = np.rint(errors.T @ errors).astype(np.int64)
    rows = len(wrong)
    rates = wrong.mean(0) if rows else np.zeros(wrong.shape[1])
    expected = rows * rates[:, None] * rates[None]
    spread = np.sqrt(expected * (1 - rates[:, None]) * (1 - rates[None]))
    deviations = np.divide(together - expected, spread, out=np.zeros_like(expected), where=spread > 0)
    np.fill_diagonal(deviations, 0)
    return together, expected, deviations


def error_matrix(names: Sequence[str], wrong: Bools) -> Matrix:
    """The images in which two classes are both wrong, colored by how far from chance; of many, the most wrong classes."""
    chosen = np.arange(len(names))
    title = "Images in which two classes are both wrong"
    if len(names) > WHOLE:
        chosen = np.sort(np.argsort(-wrong.sum(0), kind="stable")[:KEPT])
        title += f": the {KEPT} classes of {len(names):,} with the most errors"
    together, _, deviations = joint_errors(wrong[:, chosen])
    shown = [names[index] for index in chosen.tolist()]
    values = together.astype(np.float64)
    np.fill_diagonal(values, np.nan)
    shades = -np.sign(deviations) * np.maximum(np.abs(deviations) - NOISE, 0)
    return Matrix(title, shown, shown, values, shades, LEGEND, limit=LIMIT - NOISE)


def error_pairs(names: Sequence[str], predicted: Bools, truth: Bools, count: int = 15) -> Table:
    """The pairs of classes that are most often wrong together beyond chance, with how often one stands in the other's place."""
    together, expected, deviations = joint_errors(predicted != truth)
    missed, claimed = (truth & ~predicted).astype(np.float32), (predicted & ~truth).astype(np.float32)
    rows = []
    upper = np.triu(np.where(together >= FEWEST, deviations, 0), 1)
    for place in np.argsort(-upper, axis=None, kind="stable")[:count]:
        one, other = divmod(int(place), len(names))
        if upper[one, other] < STRIKING:
            break
        swapped = int(missed[:, one] @ claimed[:, other] + missed[:, other] @ claimed[:, one])
        chance = float(expected[one, other])
        times = float(together[one, other]) / chance
        rows.append((f"{names[one]}, {names[other]}", int(together[one, other]), f"{chance:.1f}", f"{times:.1f} ×", swapped))
    return Table(("classes", "images, both wrong", "by chance", "times", "one missed, the other claimed"), rows)
