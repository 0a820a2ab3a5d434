"""A chain of steps: the augmentation of an image as a function of (seed, epoch, id), so that it depends on nothing else."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from data_pipeline.augmentation.step import Step

# How far a step's stream of random numbers lies behind that of the step before: the golden ratio of the period, as in
# numpy's `PCG64.jumped`.
_STRIDE, _PERIOD = 210306068529402873165736369884012333109, 2**128


@dataclass(frozen=True)
class Chain:
    """Steps, taken in order. Each draws from a stream of its own: a step more changes nothing for those before it."""

    steps: tuple[Step, ...] = ()

    def __call__(self, pixels: np.ndarray, seed: int, epoch: int, sample_id: str) -> np.ndarray:
        """Augment a uint8 image (H, W[, 3]), keeping its size. The draw is made from (seed, epoch, sample_id) alone."""
        if not self.steps:
            return pixels
        bits = np.random.PCG64(np.random.SeedSequence([seed, epoch, zlib.crc32(sample_id.encode())]))
        rng, start = np.random.Generator(bits), bits.state
        for index, step in enumerate(self.steps):
            if index:  # cheaper than a generator for each step, which would take longer than many a step
                bits.state = start
                bits.advance(index * _STRIDE % _PERIOD)
            pixels = step(pixels, rng)
        return pixels

    @property
    def holds_lock(self) -> bool:
        """Whether threads that run it wait for each other, and for others, as most of its time is spent in Python."""
        return any(step.holds_lock for step in self.steps)

    def require(self) -> None:
        """Check that all that its steps need is installed; raises UserError."""
        for step in self.steps:
            step.require()
