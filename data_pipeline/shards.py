"""Rows to Parquet shards and back. A row: id, image bytes, width, height, text, source, writer, level."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.manifest import Dataset, DatasetError, Extent, RowGroup, Shard
from data_pipeline.storage import Storage, storage_errors

SEQUENCE_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("writer", pa.string()),
        pa.field("level", pa.int32()),
    ]
)
REJECTED_SCHEMA = pa.schema([("id", pa.string()), ("split", pa.string()), ("path", pa.string()), ("reason", pa.string())])

# Small enough to shuffle by and to hold a window of in memory, large enough to read at speed.
ROWS_PER_GROUP = 64
BYTES_PER_GROUP = 4 * 2**20  # of encoded images; a larger image is a row group of its own
_HEIGHT_CLASS = 16  # pixels: rows are sorted by width inside classes of heights, as batches are padded to multiples of it


@dataclass(frozen=True)
class Row:
    """One image with its text. `width` and `height` in pixels are those of `image` (PNG or JPEG bytes)."""

    id: str
    image: bytes
    width: int
    height: int
    text: str
    source: str = ""
    writer: str = ""
    level: int = 0
    inverted: bool = False  # from light ink on dark paper when it was prepared; counted, not stored


@dataclass(frozen=True)
class Rejected:
    """An input that could not be used, and why."""

    id: str
    split: str
    path: str
    reason: str


def write_shard(storage: Storage, file: str, rows: Sequence[Row]) -> Shard:
    """Write `rows` as the shard `file` below `storage`, sorted by size so that images of a row group pad little.

    Raises:
        StorageError: it cannot be written.
    """
    ordered = sorted(rows, key=lambda row: (-(-row.height // _HEIGHT_CLASS), row.width, row.id))
    groups = _cut(ordered)
    buffer = io.BytesIO()
    # Images are compressed already; plain encoding keeps reading at the speed of memory. Statistics of images would stand in
    # the footer, which every reader of a row group reads first.
    options = {"compression": "none", "use_dictionary": ["source", "writer"], "write_statistics": False}
    with pq.ParquetWriter(buffer, SEQUENCE_SCHEMA, **options) as writer:
        for group in groups:
            columns = {name: [getattr(row, name) for row in group] for name in SEQUENCE_SCHEMA.names}
            writer.write_table(pa.table(columns, schema=SEQUENCE_SCHEMA), row_group_size=len(group))
    data = buffer.getvalue()
    storage.child(file).write_bytes(data)
    return Shard(file, [_extent(group) for group in groups], len(data), hashlib.sha256(data).hexdigest())


def _cut(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows as row groups of at most ROWS_PER_GROUP rows and BYTES_PER_GROUP bytes of images."""
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


def read_row_group(file: pq.ParquetFile, shard: Storage, group: RowGroup, columns: list[str]) -> pa.Table:
    """The rows of `group` from `file`, which is `shard`, opened.

    Raises:
        DatasetError: the shard is not the one that the manifest describes.
        StorageError: it cannot be read.
    """
    with storage_errors(shard):
        if group.index >= file.num_row_groups:
            raise _not_as_described(shard, f"{file.num_row_groups} row groups, number {group.index} is missing")
        table = file.read_row_group(group.index, columns=columns, use_threads=False)
    if table.num_rows != group.rows:
        raise _not_as_described(shard, f"{table.num_rows} rows in row group {group.index} instead of {group.rows}")
    return table


def read_split(dataset: Dataset, split: str, columns: list[str]) -> pa.Table:
    """The columns of all rows of a split, in the order of the files.

    Raises:
        DatasetError: there is no such split, it is empty, or a shard is not as the manifest describes it.
        StorageError: a shard is missing or cannot be read.
    """
    tables = []
    for shard in dataset.manifest.filled_split(split).shards:
        file = dataset.storage.child(shard.file)
        with storage_errors(file), dataset.storage.filesystem.open_input_file(file.path) as source:
            table = pq.read_table(source, columns=columns)
        if table.num_rows != shard.rows:
            raise _not_as_described(file, f"{table.num_rows} rows instead of {shard.rows}")
        tables.append(table)
    return pa.concat_tables(tables)


def _not_as_described(shard: Storage, difference: str) -> DatasetError:
    return DatasetError(
        f"Shard '{shard.uri}' is not the one that the manifest describes: {difference}. Build the dataset anew."
    )


def write_rejected(storage: Storage, rejected: Sequence[Rejected]) -> None:
    """Write the file of rejected inputs at `storage`, also when there are none."""
    columns = {name: [getattr(row, name) for row in rejected] for name in REJECTED_SCHEMA.names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=REJECTED_SCHEMA), buffer)
    storage.write_bytes(buffer.getvalue())
