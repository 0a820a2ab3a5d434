"""Reading row groups from shards: retried while storage fails, from the cache if there is one, with statistics.

What is read is what was prepared: a row group is checked the first time that a process reads it, and whenever it enters a cache
or comes out of one.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.dataset.integrity import CHECK_BYTES, difference
from data_pipeline.dataset.manifest import Dataset, Extent, RowGroup
from data_pipeline.dataset.row_groups import read_row_groups
from data_pipeline.dataset.schema import streamed_columns
from data_pipeline.storage.base import Storage
from data_pipeline.storage.retry import with_retries
from data_pipeline.stream.cache import entry_key, open_cache
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.open_shards import open_shards_of
from data_pipeline.stream.row_groups import RowGroups
from data_pipeline.stream.rows import Rows, rows_of
from data_pipeline.stream.stats import StreamStats


@functools.lru_cache(maxsize=8)
def _verified(name: str, row_groups: int) -> bytearray:
    """Flags of this process for a split: which of its row groups were checked and found to be those that were prepared."""
    return bytearray(row_groups)


class RowGroupReader:
    """Reads the row groups of a plan by their numbers, from any thread. Pickled, it opens its shards again, once a process.

    `columns` are those of the task that its rows have. Whatever they are, all columns that a digest covers are read.
    """

    def __init__(
        self, dataset: Dataset, split: str, groups: RowGroups, config: StreamConfig, columns: Sequence[str] = ()
    ) -> None:
        self._storage, self._groups, self._config = dataset.storage, groups, config
        self.columns, self._stored = tuple(columns), streamed_columns(list(dataset.manifest.columns))
        shards = dataset.manifest.split(split).shards
        self._hashes = tuple(shard.sha256 for shard in shards)
        self._checks = tuple(bytes.fromhex(shard.checks) for shard in shards)  # of a shard's row groups, one after the other
        self._first = np.cumsum([0, *(len(shard.row_groups) for shard in shards)])
        self._name = f"{dataset.storage.uri} {dataset.manifest.digest} {split}"
        self._token = uuid.uuid4().hex
        self.__setstate__(vars(self))

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if name not in ("_open", "_closed", "_verified")}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._open, self._closed = open_shards_of(self._token), threading.Event()
        self._verified = _verified(self._name, int(self._first[-1]))

    def close(self) -> None:
        """Abandon what is being read: a storage that fails is not retried any more."""
        self._closed.set()
        self._open.clear()

    @property
    def remote(self) -> bool:
        """Whether reading waits for a network."""
        return not self._storage.is_local

    def read(self, number: int) -> tuple[Rows, StreamStats]:
        """The rows of row group `number`, and what reading them took.

        Raises:
            StorageError: a shard is missing, or its storage fails for longer than `stream.storage_timeout_s`.
            DatasetError: a shard is not as the manifest describes it, or not what was prepared, by name.
            UserError: the cache cannot be used.
        """
        stats = StreamStats()
        cache = open_cache(self._config.cache)
        group = self._group(number)
        index = int(self._first[self._groups.shard[number]]) + group.index  # in the whole split

        def fetch() -> pa.Table:
            expected = group if cache is not None or not self._verified[index] else group.unchecked()
            table, stats.retries = with_retries(
                lambda: self._read(int(self._groups.shard[number]), expected),
                self._config.storage_timeout_s,
                self._closed,
                "stream.storage_timeout_s",
            )
            stats.reads, stats.read_bytes = 1, table.nbytes
            self._verified[index] = True
            return table

        if cache is None:
            return rows_of(fetch(), self.columns), stats
        content = group.check.hex() or f"{group.sha256} {group.index}"
        is_valid = (lambda table: not difference(table, group.check)) if group.check else None
        table, hit = cache.get(entry_key(content, self._stored), fetch, is_valid)
        stats.cached = int(hit)
        return rows_of(table, self.columns), stats

    def _group(self, number: int) -> RowGroup:
        shard, index = int(self._groups.shard[number]), int(self._groups.index[number])
        check = self._checks[shard][CHECK_BYTES * index : CHECK_BYTES * (index + 1)]
        return RowGroup(self._groups.files[shard], index, Extent(int(self._groups.rows[number]), 0), self._hashes[shard], check)

    def _read(self, shard: int, group: RowGroup) -> pa.Table:
        @contextlib.contextmanager
        def opened(file: Storage) -> Iterator[pq.ParquetFile]:
            found = self._open.get(shard)
            if found is None:
                source = file.filesystem.open_input_file(file.path)
                found = source, pq.ParquetFile(source).metadata
                self._open.put(shard, *found)
            source, metadata = found
            yield pq.ParquetFile(source, metadata=metadata, pre_buffer=True)

        remote = self._config.cache.location != "off"
        try:
            return next(read_row_groups(self._storage, [group], self._stored, opened, remote))
        except BaseException:
            self._open.forget(shard)  # another attempt begins with a connection of its own
            raise
