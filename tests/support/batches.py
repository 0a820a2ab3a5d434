"""Batches of text that tests make themselves, without a dataset."""

from __future__ import annotations

import numpy as np

from data_pipeline.dataset.token_targets import TEXT, TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.stream.batch import Batch
from data_pipeline.stream.plan import StreamPosition

TOKENIZER = Tokenizer(["a", "b", "c", "d"])


def batch_of(texts: list[str], weights: list[float] | None = None, seed: int = 0) -> Batch:
    """Images of noise, 32x64, with these texts."""
    rng = np.random.default_rng(seed)
    encoder = TokenTargets(TOKENIZER)
    targets = encoder.collate([encoder.encode({TEXT: text}) for text in texts], len(texts))
    return Batch(
        images=rng.integers(0, 256, (len(texts), 1, 32, 64), dtype=np.uint8),
        sizes=np.tile([32, 64], (len(texts), 1)),
        targets=targets,
        weights=np.array(weights or [1.0] * len(texts), np.float32),
        ids=[str(i) for i in range(len(texts))],
        sources=[""] * len(texts),
        columns={TEXT: texts},
        position=StreamPosition(),
        global_size=len(texts),
    )
