"""Reading row groups of a dataset as tables, one after the other, each checked to be the one that was prepared."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.redaction import printable
from data_pipeline.dataset.integrity import checked_columns, difference
from data_pipeline.dataset.manifest import DatasetError, RowGroup, Split
from data_pipeline.storage.base import Storage, storage_errors

HASHED_BYTES = 4 * 2**20  # of a file at a time


def iter_row_groups(
    storage: Storage, split: Split, columns: Sequence[str], indices: Sequence[int] | None = None
) -> Iterator[pa.Table]:
    """The columns of the row groups of a split, or of those with these `indices`, in order; memory holds one at a time.

    Raises:
        DatasetError: a shard is not as the manifest describes it.
        StorageError: a shard is missing or cannot be read.
    """
    groups = split.row_groups()
    return read_row_groups(storage, groups if indices is None else [groups[index] for index in indices], columns)


@contextlib.contextmanager
def open_shard(shard: Storage) -> Iterator[pq.ParquetFile]:
    """Open a shard for reading."""
    with shard.filesystem.open_input_file(shard.path) as source:
        yield pq.ParquetFile(source, pre_buffer=True)


Opener = Callable[[Storage], AbstractContextManager[pq.ParquetFile]]


def read_row_groups(
    storage: Storage,
    groups: Sequence[RowGroup],
    columns: Sequence[str],
    opener: Opener = open_shard,
    hash_remote: bool = False,
) -> Iterator[pa.Table]:
    """The `columns` of row groups of the dataset in `storage`, each checked against its digests.

    `opener` opens a shard. A shard whose row groups have no digests is hashed as a whole if it is on this machine, or if
    `hash_remote`.

    Raises:
        DatasetError: a shard is not the one that the manifest describes.
        StorageError: it is missing or cannot be read.
    """
    for name, members in itertools.groupby(groups, key=lambda group: group.file):
        shard, part = storage.child(name), list(members)
        if part[0].sha256 and not part[0].check:
            _require_whole(shard, part[0].sha256, hash_remote)
        with storage_errors(shard), opener(shard) as file:
            for group in part:
                yield _read_row_group(file, shard, group, list(columns))


def _read_row_group(file: pq.ParquetFile, shard: Storage, group: RowGroup, columns: list[str]) -> pa.Table:
    if group.index >= file.num_row_groups:
        raise _not_as_described(shard, f"{file.num_row_groups} row groups, number {group.index} is missing")
    stored = file.schema_arrow.names
    wanted = checked_columns(columns, stored) if group.check else columns
    if missing := [name for name in wanted if name not in stored]:
        raise _not_as_described(shard, f"it has no column '{printable(missing[0])}'")
    table = file.read_row_group(group.index, columns=wanted, use_threads=False)
    if table.num_rows != group.extent.rows:
        raise _not_as_described(shard, f"{table.num_rows} rows in row group {group.index} instead of {group.extent.rows}")
    if group.check and (problem := difference(table, group.check)):
        raise _not_as_described(shard, f"in row group {group.index}, {problem}")
    return table.select(columns)


_whole: set[tuple[str, str]] = set()  # shards that were found to be whole: URI, SHA-256
_hashing = threading.Lock()


def _require_whole(shard: Storage, sha256: str, remote: bool) -> None:
    """Check the SHA-256 of a shard whose row groups have no digests, once in this process.

    All of it is read, so a shard that is not on this machine is checked only if `remote`.

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
