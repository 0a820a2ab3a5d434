"""Shards that a process keeps open, with their parsed footers, so that each is opened and parsed once."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict

import pyarrow as pa
import pyarrow.parquet as pq

# Limits: so many files, and so many bytes of footers.
MAX_OPEN_SHARDS, MAX_FOOTER_BYTES = 128, 64 * 2**20
COLUMN_CHUNK_BYTES = 1024  # of a parsed footer, about


class OpenShards:
    """An LRU cache of open shards by number. Any thread may use it."""

    def __init__(self) -> None:
        self._shards: OrderedDict[int, tuple[pa.NativeFile, pq.FileMetaData]] = OrderedDict()
        self._footers = 0  # bytes
        self._lock = threading.Lock()

    def get(self, shard: int) -> tuple[pa.NativeFile, pq.FileMetaData] | None:
        """The shard's file and footer, if it is open."""
        with self._lock:
            if shard in self._shards:
                self._shards.move_to_end(shard)
            return self._shards.get(shard)

    def put(self, shard: int, source: pa.NativeFile, metadata: pq.FileMetaData) -> None:
        """Keep a shard open; the least recently used ones are closed when there are too many."""
        with self._lock:
            self._drop(shard)  # if another thread was quicker
            self._shards[shard] = source, metadata
            self._footers += _footer_bytes(metadata)
            while len(self._shards) > 1 and (len(self._shards) > MAX_OPEN_SHARDS or self._footers > MAX_FOOTER_BYTES):
                self._drop(next(iter(self._shards)))

    def forget(self, shard: int) -> None:
        """Close a shard."""
        with self._lock:
            self._drop(shard)

    def clear(self) -> None:
        """Close all."""
        with self._lock:
            self._shards.clear()
            self._footers = 0

    def _drop(self, shard: int) -> None:
        _, metadata = self._shards.pop(shard, (None, None))
        self._footers -= _footer_bytes(metadata) if metadata else 0


@functools.lru_cache(maxsize=2)
def open_shards_of(token: str) -> OpenShards:
    """The open shards of this process for the reader with this token: a task finds what the one before it has opened."""
    return OpenShards()


def _footer_bytes(metadata: pq.FileMetaData) -> int:
    return COLUMN_CHUNK_BYTES * metadata.num_row_groups * metadata.num_columns
