"""Synthetic formulas, summed up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from data_pipeline.synthesis.formulas.sample import FormulaSample


def digest(samples: Iterable[FormulaSample]) -> str:
    """One digest over all that samples hold."""
    state = hashlib.sha256()
    for sample in samples:
        state.update(repr((sample.image.shape, sample.text, sample.source, sample.writer, sample.level)).encode())
        state.update(sample.image.tobytes())
    return state.hexdigest()
