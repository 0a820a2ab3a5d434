"""Rows to Parquet shards and back: image bytes, their size and origin, and the columns of the dataset's task."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.redaction import printable, redact
from data_pipeline.dataset.integrity import check_of, checked_columns, difference
from data_pipeline.dataset.manifest import Dataset, DatasetError, Extent, RowGroup, Shard, Split
from data_pipeline.dataset.schema import shard_schema
from data_pipeline.storage.base import Storage, storage_errors

REJECTED_SCHEMA = pa.schema([("id", pa.string()), ("split", pa.string()), ("path", pa.string()), ("reason", pa.string())])

# Small enough to shuffle by and to hold a window of in memory, large enough to read at speed.
ROWS_PER_GROUP = 64
HASHED_BYTES = 4 * 2**20  # of a file at a time
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
    inverted: bool = False  # from light ink on dark paper when it was prepared; counted, not stored


@dataclass(frozen=True)
class Rejected:
    """An input that could not be used, and why."""

    id: str
    split: str
    path: str
    reason: str


def write_shard(storage: Storage, file: str, rows: Sequence[Row], columns: Mapping[str, str]) -> Shard:
    """Write `rows` as the shard `file` below `storage`, sorted by size so that images of a row group pad little.

    `columns` are those of the dataset's task, as its manifest declares them.

    Raises:
        StorageError: it cannot be written.
    """
    schema = shard_schema(columns)
    ordered = sorted(rows, key=lambda row: (-(-row.height // _HEIGHT_CLASS), row.width, row.id))
    groups = _cut(ordered)
    buffer = io.BytesIO()
    # Images are compressed already; plain encoding keeps reading at the speed of memory. Statistics of images would stand in
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
    """The rows of `group` from `file`, which is `shard`, opened; checked against `group.check` if it has one.

    Raises:
        DatasetError: the shard is not the one that the manifest describes.
        StorageError: it cannot be read.
    """
    with storage_errors(shard):
        if group.index >= file.num_row_groups:
            raise _not_as_described(shard, f"{file.num_row_groups} row groups, number {group.index} is missing")
        stored = file.schema_arrow.names
        wanted = checked_columns(columns, stored) if group.check else columns
        if missing := [name for name in wanted if name not in stored]:
            raise _not_as_described(shard, f"it has no column '{printable(missing[0])}'")
        table = file.read_row_group(group.index, columns=wanted, use_threads=False)
    if table.num_rows != group.rows:
        raise _not_as_described(shard, f"{table.num_rows} rows in row group {group.index} instead of {group.rows}")
    if group.check and (problem := difference(table, group.check)):
        raise _not_as_described(shard, f"in row group {group.index}, {problem}")
    return table.select(columns)


def read_split(dataset: Dataset, split: str, columns: list[str]) -> pa.Table:
    """The columns of all rows of a split, in the order of the files, checked.

    Raises:
        DatasetError: there is no such split, it is empty, or a shard is not as the manifest describes it.
        StorageError: a shard is missing or cannot be read.
    """
    tables = []
    for shard in dataset.manifest.filled_split(split).shards:
        file = dataset.storage.child(shard.file)
        if not shard.checks:
            require_whole(file, shard.sha256)
        with storage_errors(file), dataset.storage.filesystem.open_input_file(file.path) as source:
            parquet = pq.ParquetFile(source, pre_buffer=True)
            if parquet.metadata.num_rows != shard.rows:
                raise _not_as_described(file, f"{parquet.metadata.num_rows} rows instead of {shard.rows}")
            groups = Split([shard]).row_groups()
            tables += [read_row_group(parquet, file, group, columns) for group in groups]
    return pa.concat_tables(tables)


_whole: set[tuple[str, str]] = set()  # shards that were found to be whole: URI, SHA-256
_hashing = threading.Lock()


def require_whole(shard: Storage, sha256: str, remote: bool = False) -> None:
    """Check the SHA-256 of a shard whose row groups have no digests, once in this process.

    All of it is read, so a shard that is not on this machine is checked only where that is asked for: `remote`.

    Raises:
        DatasetError: it is not the one that the manifest describes.
        StorageError: it cannot be read.
    """
    key = (shard.uri, sha256)
    if key in _whole or not (shard.is_local or remote):
        return
    with _hashing:
        if key in _whole:
            return
        with storage_errors(shard), shard.filesystem.open_input_stream(shard.path) as stream:
            state = hashlib.sha256()
            while block := stream.read(HASHED_BYTES):
                state.update(block)
        if state.hexdigest() != sha256:
            raise _not_as_described(shard, f"its SHA-256 is {state.hexdigest()}, expected is {sha256}")
        _whole.add(key)


def _not_as_described(shard: Storage, difference: str) -> DatasetError:
    return DatasetError(
        f"Shard '{shard.shown}' is not the one that the manifest describes: {difference}. It was damaged or replaced: copy it "
        "again from where the dataset is whole, with its dataset.json, or prepare the dataset again."
    )


def write_rejected(storage: Storage, rejected: Sequence[Rejected]) -> None:
    """Write the file of rejected inputs at `storage`, also when there are none; their reasons have no secrets."""
    columns = {name: [getattr(row, name) for row in rejected] for name in REJECTED_SCHEMA.names}
    columns["reason"] = [redact(reason) for reason in columns["reason"]]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=REJECTED_SCHEMA), buffer)
    storage.write_bytes(buffer.getvalue())
