"""A checkpoint judged on a split: every row once, through a pool of predictors."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from cluster.progress import progress
from data_pipeline.dataset.manifest import Dataset, Split
from data_pipeline.dataset.shards import read_row_group, read_split, require_whole
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.storage.base import storage_errors
from models import Decoding
from trainers.checkpoint.format import LoadedCheckpoint
from trainers.prediction.pool import predict_with_pool
from trainers.tasks.metrics.sequence import GroupedSums, reported_groups

MAX_READING_TASKS = 1000  # row groups share tasks beyond that


@dataclass(frozen=True)
class Judged:
    """Figures of a split, and the row of each prediction (id, source, text, prediction, error), sorted by id."""

    sums: GroupedSums
    rows: list[dict[str, Any]]


def judge_checkpoint(
    loaded: LoadedCheckpoint,
    dataset: Dataset,
    split: str,
    batch_size: int = 64,
    allow_unknown_tokens: bool = False,
    decoding: Decoding | None = None,
) -> Judged:
    """Predict every row of `split` of `dataset`, decoded as the checkpoint is configured or by `decoding`, and compare.

    Raises:
        DatasetError: there is no such split, or it is empty.
        VocabularyMismatch: the dataset has tokens that the checkpoint does not know.
        RuntimeError: the rows that came back are not the rows of the split, each once.
    """
    if not allow_unknown_tokens:
        theirs = Tokenizer(dataset.manifest.charset)
        loaded.task.tokenizer.require_covers(theirs, "the checkpoint", f"dataset '{dataset.storage.uri}'")
    part = dataset.manifest.filled_split(split)
    rows = part.rows
    images = read_rows(dataset, part, ["id", "image", "text", "source"])
    predicted: list[dict[str, Any]] = []
    with progress(rows, "images", f"evaluate {split}") as bar:
        for row in predict_with_pool(images, loaded.uri, batch_size, decoding).iter_rows():
            predicted.append(row)
            bar.update()
    if len(predicted) != rows or len({row["id"] for row in predicted}) != rows:
        raise RuntimeError(f"{len(predicted)} predictions for {rows} rows")
    predicted.sort(key=lambda row: row["id"])
    sources = Counter(row["source"] for row in predicted)
    sums = GroupedSums(reported_groups(sources, loaded.config.tracking.max_sources))
    for row in predicted:
        if row["error"]:
            sums.reject(row["source"])
        else:
            sums.add(row["prediction"], row["text"], row["source"])
    return Judged(sums, predicted)


def read_rows(dataset: Dataset, split: Split, columns: list[str]) -> ray.data.Dataset:
    """The rows of a split as a Ray Data dataset, read by row groups in parallel, and checked."""
    storage, groups = dataset.storage, split.row_groups()
    hashes = {shard.file: shard.sha256 for shard in split.shards}

    def read(batch: dict[str, Any]) -> Any:
        tables = []
        for place in batch["row_group"]:
            group = groups[place]
            shard = storage.child(group.file)
            if not group.check:
                require_whole(shard, hashes[group.file])
            with storage_errors(shard), storage.filesystem.open_input_file(shard.path) as file:
                tables.append(read_row_group(pq.ParquetFile(file), shard, group, columns))
        return pa.concat_tables(tables)

    items = [{"row_group": place} for place in range(len(groups))]
    blocks = min(len(items), MAX_READING_TASKS)
    return ray.data.from_items(items, override_num_blocks=blocks).map_batches(read, batch_size=None, num_cpus=0.5)


def commonest_answer(dataset: Dataset, train: str, test: str) -> tuple[str, GroupedSums]:
    """The text that occurs most in split `train`, and the figures of always answering it on split `test`.

    What a recognizer has to beat to have read anything.
    """
    counts = Counter(read_split(dataset, train, ["text"]).column("text").to_pylist())
    # Ties go to the alphabet, not to the order of the shards.
    answer = min(counts, key=lambda text: (-counts[text], text))
    sums = GroupedSums(())
    for text in read_split(dataset, test, ["text"]).column("text").to_pylist():
        sums.add(answer, text)
    return answer, sums
