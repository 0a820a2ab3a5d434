"""Prediction in this process, without Ray: one predictor that reads while the next images are decoded."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.row_groups import iter_row_groups
from trainers.checkpoint.load import Checkpoint
from trainers.prediction.image_options import image_policy_of
from trainers.prediction.predictor import Predictor


def predict_split_here(
    checkpoint: Checkpoint, dataset: Dataset, split: str, batch_size: int, device: torch.device | None = None
) -> Iterator[dict[str, Any]]:
    """Rows of a split (id, source, the task's columns) with their predictions, in the order of the files."""
    predictor = Predictor(checkpoint, device=device, image=image_policy_of(checkpoint, [], prepared=True))
    columns = ["id", "image", "source", *checkpoint.task.columns]
    batches = _batches(dataset, split, columns, batch_size)
    with ThreadPoolExecutor(1, "inkray-decode") as decoding:
        following = decoding.submit(_prepared, predictor, batches)
        while (prepared := following.result()) is not None:
            following = decoding.submit(_prepared, predictor, batches)
            rows = predictor.predict_prepared(*prepared)
            for index in range(len(rows["id"])):
                yield {name: values[index] for name, values in rows.items()}


def _prepared(predictor: Predictor, batches: Iterator[dict[str, Any]]) -> Any:
    batch = next(batches, None)
    return None if batch is None else (batch, predictor.prepare_batch(batch))


def _batches(dataset: Dataset, split: str, columns: list[str], batch_size: int) -> Iterator[dict[str, Any]]:
    """Batches of `batch_size` rows, as Ray Data would give them."""
    waiting: pa.Table | None = None
    for table in iter_row_groups(dataset.storage, dataset.manifest.filled_split(split), columns):
        waiting = table if waiting is None else pa.concat_tables([waiting, table])
        while waiting.num_rows >= batch_size:
            yield _arrays(waiting.slice(0, batch_size))
            waiting = waiting.slice(batch_size)
    if waiting is not None and waiting.num_rows:
        yield _arrays(waiting)


def _arrays(table: pa.Table) -> dict[str, Any]:
    return {name: np.array(table.column(name).to_pylist(), dtype=object) for name in table.column_names}
