"""How much each head counts in the joint class of a multi-task classifier with attention over its heads.

Legend: N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainers.tasks.presentation import Matrix

LEGEND = "The mean weight of each head over the images of a class; weights of an image add up to 1. The darker, the larger."


def attention_matrix(
    heads: Sequence[str], groups: Sequence[str], of: Sequence[str], weights: NDArray[np.floating[Any]]
) -> Matrix:
    """The mean of weights (N, heads) over the rows of each of `groups`, which `of` names for each row, and over all rows.

    A group without rows is left out.
    """
    names = np.array(list(of))
    means = {group: weights[names == group].mean(0) for group in groups if (names == group).any()}
    values = np.array([*means.values(), weights.mean(0)])
    return Matrix("Attention over heads", [*means, "(all)"], heads, values, values, LEGEND, "truth", "head", ".2f")
