"""Row groups from shards: tried again when storage fails, from the cache where there is one, and with what it took.

What is read is what was prepared: a row group is checked the first time that a process reads it, and whenever it goes into a
cache or comes from one.
"""

from __future__ import annotations

import functools
import threading
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.dataset.integrity import CHECK_BYTES, difference
from data_pipeline.dataset.manifest import Dataset, RowGroup
from data_pipeline.dataset.schema import streamed_columns
from data_pipeline.dataset.shards import read_row_group, require_whole
from data_pipeline.storage.base import storage_errors
from data_pipeline.stream.cache import entry_key, open_cache
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.costs import Costs
from data_pipeline.stream.plan import RowGroups
from data_pipeline.stream.retry import retried

# Shards that a reader keeps open, their footers read once: so many files, and so many bytes of footers.
OPEN_SHARDS, FOOTER_BYTES = 128, 64 * 2**20
COLUMN_CHUNK_BYTES = 1024  # of a parsed footer, about


@dataclass(frozen=True)
class Rows:
    """Encoded rows. `data` (bytes) holds the images one after the other, number i from `offsets[i]` to `offsets[i + 1]`;
    `widths` and `heights` are their sizes in pixels: int64 (n,). `columns` are those that the target encoder reads, by name.
    """

    data: np.ndarray
    offsets: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    ids: list[str]
    sources: list[str]
    columns: dict[str, list[Any]]

    def image(self, index: int) -> memoryview:
        """The bytes of an image."""
        return self.data[self.offsets[index] : self.offsets[index + 1]].data


def rows_of(table: pa.Table, columns: Sequence[str]) -> Rows:
    """The rows of a row group, with the task's `columns`. Nothing of the images is copied."""
    images = table.column("image").combine_chunks()
    if isinstance(images, pa.ChunkedArray):  # of a table without rows
        images = pa.array([], pa.binary())
    buffers = images.buffers()
    offsets = np.frombuffer(buffers[1], np.int32)[images.offset : images.offset + len(images) + 1] if buffers[1] else [0]
    return Rows(
        data=np.frombuffer(buffers[2] or b"", np.uint8),
        offsets=np.asarray(offsets, np.int64),
        widths=table.column("width").to_numpy().astype(np.int64),
        heights=table.column("height").to_numpy().astype(np.int64),
        ids=table.column("id").to_pylist(),
        sources=[source or "" for source in table.column("source").to_pylist()],
        columns={name: table.column(name).to_pylist() for name in columns},
    )


class _OpenShards:
    """Shards that are open, by number, with their footers; those used longest ago are let go."""

    def __init__(self) -> None:
        self._shards: OrderedDict[int, tuple[pa.NativeFile, pq.FileMetaData]] = OrderedDict()
        self._footers = 0  # bytes
        self._lock = threading.Lock()

    def get(self, shard: int) -> tuple[pa.NativeFile, pq.FileMetaData] | None:
        with self._lock:
            if shard in self._shards:
                self._shards.move_to_end(shard)
            return self._shards.get(shard)

    def put(self, shard: int, source: pa.NativeFile, metadata: pq.FileMetaData) -> None:
        with self._lock:
            self._drop(shard)  # if another thread was quicker
            self._shards[shard] = source, metadata
            self._footers += _footer_bytes(metadata)
            while len(self._shards) > 1 and (len(self._shards) > OPEN_SHARDS or self._footers > FOOTER_BYTES):
                self._drop(next(iter(self._shards)))

    def forget(self, shard: int) -> None:
        with self._lock:
            self._drop(shard)

    def clear(self) -> None:
        with self._lock:
            self._shards.clear()
            self._footers = 0

    def _drop(self, shard: int) -> None:
        _, metadata = self._shards.pop(shard, (None, None))
        self._footers -= _footer_bytes(metadata) if metadata else 0


@functools.lru_cache(maxsize=8)
def _found_good(name: str, row_groups: int) -> bytearray:
    """Of this process, for a split: which of its row groups were checked and found to be those that were prepared."""
    return bytearray(row_groups)


@functools.lru_cache(maxsize=2)
def _open_shards(token: str) -> _OpenShards:
    """Of this process, for the reader with this token: a task finds what the one before it has opened."""
    return _OpenShards()


class RowGroupReader:
    """Reads the row groups of a plan by their numbers, from any thread; pickled, it opens its shards again, once a process.

    `columns` are those of the task that its rows have. Whatever they are, all columns that a digest covers are read.
    """

    def __init__(
        self, dataset: Dataset, split: str, groups: RowGroups, config: StreamConfig, columns: Sequence[str] = ()
    ) -> None:
        self._storage, self._groups, self._config = dataset.storage, groups, config
        self._columns, self._stored = tuple(columns), streamed_columns(list(dataset.manifest.columns))
        shards = dataset.manifest.split(split).shards
        self._hashes = tuple(shard.sha256 for shard in shards)
        self._checks = tuple(bytes.fromhex(shard.checks) for shard in shards)  # of a shard's row groups, one after the other
        self._first = np.cumsum([0, *(len(shard.row_groups) for shard in shards)])
        self._name = f"{dataset.storage.uri} {dataset.manifest.digest} {split}"
        self._token = uuid.uuid4().hex
        self.__setstate__(vars(self))

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in ("_open", "_closed", "_found_good")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._open, self._closed = _open_shards(self._token), threading.Event()
        self._found_good = _found_good(self._name, int(self._first[-1]))

    def close(self) -> None:
        """Nobody waits for what is being read: a storage that fails is not asked again."""
        self._closed.set()
        self._open.clear()

    @property
    def remote(self) -> bool:
        """Whether reading waits for a network."""
        return not self._storage.is_local

    def read(self, number: int) -> tuple[Rows, Costs]:
        """The rows of row group `number`, and what reading them took.

        Raises:
            StorageError: a shard is missing, or its storage fails for longer than `stream.storage_timeout_s`.
            DatasetError: a shard is not as the manifest describes it, or not what was prepared, by name.
            UserError: the cache cannot be used.
        """
        costs = Costs()

        cache = open_cache(self._config.cache)
        place = int(self._first[self._groups.shard[number]] + self._groups.index[number])

        def fetch() -> pa.Table:
            check = cache is not None or not self._found_good[place]
            table, costs.retries = retried(lambda: self._read(number, check), self._config.storage_timeout_s, self._closed)
            costs.reads, costs.read_bytes = 1, table.nbytes
            self._found_good[place] = True
            return table

        if cache is None:
            return rows_of(fetch(), self._columns), costs
        group = self._group(number)
        content = group.check.hex() or f"{self._hashes[self._groups.shard[number]]} {group.index}"
        good = (lambda table: not difference(table, group.check)) if group.check else None
        table, hit = cache.get(entry_key(content, self._stored), fetch, good)
        costs.cached = int(hit)
        return rows_of(table, self._columns), costs

    def _group(self, number: int, check: bool = True) -> RowGroup:
        shard, index = int(self._groups.shard[number]), int(self._groups.index[number])
        expected = self._checks[shard][CHECK_BYTES * index : CHECK_BYTES * (index + 1)] if check else b""
        return RowGroup(self._groups.files[shard], index, int(self._groups.rows[number]), 0, check=expected)

    def _read(self, number: int, check: bool) -> pa.Table:
        shard = int(self._groups.shard[number])
        group = self._group(number, check)
        file = self._storage.child(group.file)
        if check and not group.check:
            require_whole(file, self._hashes[shard], remote=self._config.cache.place != "off")
        try:
            with storage_errors(file):
                source, metadata = self._opened(shard)
                parquet = pq.ParquetFile(source, metadata=metadata, pre_buffer=True)
            return read_row_group(parquet, file, group, self._stored)
        except BaseException:
            self._open.forget(shard)  # another attempt begins with a connection of its own
            raise

    def _opened(self, shard: int) -> tuple[pa.NativeFile, pq.FileMetaData]:
        there = self._open.get(shard)
        if there is None:
            source = self._storage.filesystem.open_input_file(self._storage.child(self._groups.files[shard]).path)
            there = source, pq.ParquetFile(source).metadata
            self._open.put(shard, *there)
        return there


def _footer_bytes(metadata: pq.FileMetaData) -> int:
    return COLUMN_CHUNK_BYTES * metadata.num_row_groups * metadata.num_columns
