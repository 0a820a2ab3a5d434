"""Random draws that are cheap for a few choices (`Generator.choice` costs more than a whole formula)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each as likely as the others."""
    return options[int(rng.random() * len(options))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with a probability."""
    return bool(rng.random() < probability)


class Weighted(Generic[T]):
    """Options with weights, drawn by inverting their cumulative sum."""

    def __init__(self, weights: Mapping[T, float]) -> None:
        self.options = tuple(weights)
        self.cumulative = tuple(accumulate(weights.values()))

    def draw(self, rng: np.random.Generator) -> T:
        """One option, as likely as its share of the weights."""
        position = bisect_right(self.cumulative, rng.random() * self.cumulative[-1])
        return self.options[min(position, len(self.options) - 1)]
