"""Streams as the tests read them: small windows, one rank or several side by side."""

from __future__ import annotations

import hashlib
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.stream import Batch, StreamConfig, StreamPosition, TrainStream

CONFIG = StreamConfig(window_row_groups=2)
SEED = 3
BATCH = 32


def targets_of(dataset: Dataset, config: StreamConfig = CONFIG) -> TokenTargets:
    return TokenTargets(Tokenizer(dataset.manifest.charset), config.max_tokens)


def train_stream(dataset: Dataset, rank: int = 0, world_size: int = 1, config: StreamConfig = CONFIG) -> TrainStream:
    return TrainStream(
        dataset,
        "train",
        targets_of(dataset, config),
        config,
        seed=SEED,
        global_batch_size=BATCH,
        rank=rank,
        world_size=world_size,
    )


def of_all_ranks(
    dataset: Dataset,
    world_size: int,
    config: StreamConfig,
    start: StreamPosition,
    epochs: int,
    pause_s: float = 0.0,
) -> list[list[Batch]]:
    """The batches of every rank, each read in a thread of its own, as workers read side by side.

    Rank r pauses for `pause_s` r times after each batch.
    """
    box: queue.Queue[Any] = queue.Queue()

    def read(rank: int) -> list[Batch]:
        def share(value: Any) -> Any:
            if rank == 0:
                for _ in range(world_size):
                    box.put(value)
            return box.get()

        batches = []
        for batch in train_stream(dataset, rank, world_size, config).batches(start, epochs, share):
            batches.append(batch)
            time.sleep(pause_s * rank)
        return batches

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(read, range(world_size)))


def digests(batch: Batch) -> list[str]:
    """Id and pixels of each real sample, without what pads the batch."""
    images = [image[:, :h, :w].tobytes() for image, (h, w) in zip(batch.images, batch.sizes, strict=True)]
    return [f"{name} {hashlib.sha256(pixels).hexdigest()}" for name, pixels in zip(batch.ids, images, strict=False)]
