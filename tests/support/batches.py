"""Batches of random images with given texts, as the stream makes them."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.stream.batch import Batch
from data_pipeline.stream.plan import StreamPosition

TOKENIZER = Tokenizer(["a", "b", "c", "d"])
BRACES = Tokenizer(["a", "b", "{", "}"])  # has groups


def text_batch(
    texts: list[str],
    weights: list[float] | None = None,
    seed: int = 0,
    tokenizer: Tokenizer = TOKENIZER,
    size: tuple[int, int] = (32, 64),
) -> Batch:
    """A batch of `texts` beside noise of `size` (height, width)."""
    rng = np.random.default_rng(seed)
    encoder = TokenTargets(tokenizer)
    return Batch(
        images=rng.integers(0, 256, (len(texts), 1, *size), dtype=np.uint8),
        sizes=np.tile(size, (len(texts), 1)),
        targets=encoder.collate([encoder.encode({"text": text}) for text in texts], len(texts)),
        weights=np.array(weights or [1.0] * len(texts), np.float32),
        ids=[str(i) for i in range(len(texts))],
        sources=[""] * len(texts),
        columns={"text": texts},
        position=StreamPosition(),
        global_size=len(texts),
    )


def rows_of(batch: Batch, rows: slice | list[int]) -> Batch:
    """Some rows of a batch, padded as they are."""
    chosen = list(range(len(batch.ids)))[rows] if isinstance(rows, slice) else rows
    return dataclasses.replace(
        batch,
        images=batch.images[chosen],
        sizes=batch.sizes[chosen],
        targets={name: values[chosen] for name, values in batch.targets.items()},
        weights=batch.weights[chosen],
        ids=[batch.ids[row] for row in chosen],
        sources=[batch.sources[row] for row in chosen],
        columns={name: [values[row] for row in chosen] for name, values in batch.columns.items()},
    )
