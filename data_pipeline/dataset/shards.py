"""Rows of a dataset and their Parquet shards: image bytes, their size and origin, and the columns of the dataset's task."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.redaction import redact
from data_pipeline.dataset.integrity import check_of
from data_pipeline.dataset.manifest import Dataset, Extent, Shard
from data_pipeline.dataset.row_groups import read_row_groups
from data_pipeline.dataset.schema import shard_schema
from data_pipeline.storage.base import Storage

REJECTED_SCHEMA = pa.schema([("id", pa.string()), ("split", pa.string()), ("path", pa.string()), ("reason", pa.string())])

# Small enough to shuffle by and to hold a window of in memory, large enough to read at speed.
ROWS_PER_GROUP = 64
BYTES_PER_GROUP = 4 * 2**20  # of encoded images; a larger image is a row group of its own
_HEIGHT_CLASS = 16  # pixels: rows are sorted by width inside classes of heights, as batches are padded to multiples of it


@dataclass(frozen=True)
class Row:
    """One image and its target: the values of the task's columns, such as {"text": "a b"}.

    `width` and `height` in pixels are those of `image` (PNG or JPEG bytes).
    """

    id: str
    image: bytes
    width: int
    height: int
    target: dict[str, Any]
    source: str = ""
    writer: str = ""
    level: int = 0
    inverted: bool = False  # whether preparation inverted light ink on dark paper; counted, not stored


@dataclass(frozen=True)
class Rejected:
    """An input that could not be used, and why."""

    id: str
    split: str
    path: str
    reason: str


def write_shard(storage: Storage, file: str, rows: Sequence[Row], columns: Mapping[str, str]) -> Shard:
    """Write `rows` as the shard `file` below `storage`, sorted by size so that images of a row group pad little.

    Images that are all of one size stay in the order of `rows`: sorted by id, those of one class might lie together.

    `columns` are those of the dataset's task, as its manifest declares them.

    Raises:
        StorageError: it cannot be written.
    """
    schema = shard_schema(columns)
    if len({(row.height, row.width) for row in rows}) > 1:
        rows = sorted(rows, key=lambda row: (-(-row.height // _HEIGHT_CLASS), row.width, row.id))
    groups = _cut(rows)
    buffer = io.BytesIO()
    # Images are compressed already; with plain encoding, reading is as fast as memory. Statistics of images would be part of
    # the footer, which every reader of a row group reads first.
    options = {"compression": "none", "use_dictionary": ["source", "writer"], "write_statistics": False}
    checks = ""
    with pq.ParquetWriter(buffer, schema, **options) as writer:
        for group in groups:
            values = {
                name: [row.target[name] if name in columns else getattr(row, name) for row in group] for name in schema.names
            }
            table = pa.table(values, schema=schema)
            checks += check_of(table).hex()
            writer.write_table(table, row_group_size=len(group))
    data = buffer.getvalue()
    storage.child(file).write_bytes(data)
    return Shard(file, [_extent(group) for group in groups], len(data), hashlib.sha256(data).hexdigest(), checks)


def _cut(rows: Sequence[Row]) -> list[list[Row]]:
    """Cut rows into row groups of at most ROWS_PER_GROUP rows and BYTES_PER_GROUP bytes of images."""
    groups: list[list[Row]] = []
    size = 0
    for row in rows:
        if not groups or len(groups[-1]) == ROWS_PER_GROUP or size + len(row.image) > BYTES_PER_GROUP:
            groups.append([])
            size = 0
        groups[-1].append(row)
        size += len(row.image)
    return groups


def _extent(group: Sequence[Row]) -> Extent:
    return Extent(
        rows=len(group),
        width=max(row.width for row in group),
        height=max(row.height for row in group),
        bytes=sum(len(row.image) for row in group),
    )


def read_split(dataset: Dataset, split: str, columns: list[str]) -> pa.Table:
    """The columns of all rows of a split, in the order of the files, checked.

    Raises:
        DatasetError: there is no such split, it is empty, or a shard is not as the manifest describes it.
        StorageError: a shard is missing or cannot be read.
    """
    groups = dataset.manifest.filled_split(split).row_groups()
    return pa.concat_tables(read_row_groups(dataset.storage, groups, columns))


def write_rejected(storage: Storage, rejected: Sequence[Rejected]) -> None:
    """Write the file of rejected inputs at `storage`, also when there are none; their reasons have no secrets."""
    columns = {name: [getattr(row, name) for row in rejected] for name in REJECTED_SCHEMA.names}
    columns["reason"] = [redact(reason) for reason in columns["reason"]]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=REJECTED_SCHEMA), buffer)
    storage.write_bytes(buffer.getvalue())
