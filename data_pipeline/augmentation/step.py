"""A step of an augmentation: a frozen dataclass whose fields are its arguments, called with an image and a generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from data_pipeline.augmentation.arguments import share


@dataclass(frozen=True)
class Step(ABC):
    """Changes an image: uint8 (H, W[, 3]) of any size from 1x1 on. The result has the same shape and type.

    A step does not write to the image that it is given; where nothing changes, it may return that image itself. Whatever is
    random about it is drawn from the generator. Its first line of documentation and its fields are docs/augmentation.md.
    """

    name: ClassVar[str]  # in a configuration
    holds_lock: ClassVar[bool] = False  # most of its time is spent in Python, where threads wait for each other

    @abstractmethod
    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image, changed as `rng` draws it."""

    def certain(self) -> Sequence[Step]:
        """The same without chance, for a check: steps that do what this one may do to an image."""
        return (self,)

    def require(self) -> None:  # noqa: B027  # most need nothing
        """Check that what the step needs is installed; raises UserError."""


@dataclass(frozen=True)
class RandomStep(Step):
    """A step that is taken with probability `p`."""

    p: float = share(0.5)

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image, changed with probability `p`."""
        return self.apply(pixels, rng) if rng.random() < self.p else pixels

    @abstractmethod
    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image, changed."""

    def certain(self) -> Sequence[Step]:
        """The step with probability 1."""
        return (replace(self, p=1.0),)
