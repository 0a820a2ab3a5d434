"""A dataset of another kind than sequences: a number for each image, with its target encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Dataset, Manifest, Split, open_dataset
from data_pipeline.dataset.shards import Row, write_shard
from data_pipeline.dataset.targets import UnusableTarget
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import open_storage

COLUMNS = {"count": "int64", "weights": "list<float>"}


class NumberTargets:
    """Encodes the column `count`: {"numbers": float32 (B,)}, NaN for a blank row. Numbers above `limit` cannot be used."""

    columns = ("count",)

    def __init__(self, limit: int = 1000) -> None:
        self.limit = limit

    def encode(self, row: Mapping[str, Any]) -> float:
        if row["count"] < 0:
            raise UserError(f"A count of {row['count']} is no count.")
        if row["count"] > self.limit:
            raise UnusableTarget(f"{row['count']} is above {self.limit}")
        return float(row["count"])

    def collate(self, targets: Sequence[Any | None], size: int) -> dict[str, np.ndarray]:
        numbers = np.full(size, np.nan, np.float32)
        for index, target in enumerate(targets):
            numbers[index] = np.nan if target is None else target
        return {"numbers": numbers}

    def concat(self, parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {"numbers": np.concatenate([part["numbers"] for part in parts])}


def number_row(number: int, count: int | None = None) -> Row:
    """An image whose pixels are its number, as its target is unless `count` is given."""
    image = encode_png(np.full((16, 24), number % 250, np.uint8))
    count = number if count is None else count
    return Row(f"row-{number:03d}", image, 24, 16, {"count": count, "weights": [float(count), 0.5]}, "made")


def number_manifest(splits: dict[str, Split], **changes: Any) -> Manifest:
    content = {"task": "count", "target": {"unit": "strokes"}, "columns": COLUMNS, "image": ImagePolicy(16, 24)}
    return Manifest(**{"name": "numbers", "splits": splits, "rejected": 0, "preparation": {}, **content, **changes})


def write_numbers(folder: Path, rows: Sequence[Row]) -> Dataset:
    """Rows in shards of 100 as the split `train`."""
    storage = open_storage(folder)
    files = {f"train/part-{first:05d}.parquet": rows[first : first + 100] for first in range(0, len(rows), 100)}
    shards = [write_shard(storage, file, part, COLUMNS) for file, part in files.items()]
    (folder / "dataset.json").write_bytes(number_manifest({"train": Split(shards)}).to_json())
    return open_dataset(str(folder))
