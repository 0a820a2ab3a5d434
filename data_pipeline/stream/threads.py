"""The stream in threads: windows are read ahead, batches collated ahead, in order.

OpenCV and pyarrow release the interpreter's lock, so a few threads of a process read and decode in parallel: of the training
process, or of one beside it (`data_pipeline.stream.process`). What is held is bounded in bytes: half of `stream.memory_mb` for
encoded windows, the rest for batches.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from data_pipeline.stream.batch import CollatedRows
from data_pipeline.stream.plan import GlobalBatch, Plan, Window
from data_pipeline.stream.rows import RowRef, Rows
from data_pipeline.stream.spec import StreamSpec
from data_pipeline.stream.stats import StreamStats

LOCAL_READS, REMOTE_READS = 2, 16  # at a time: a disk answers at once, a network after a while
WINDOWS_SHARE, BATCHES_SHARE = 0.5, 0.4  # of the memory; the rest is for images that are being decoded


class LoadedWindow:
    """A window whose row groups are being read."""

    def __init__(self, plan: Plan, read: Callable[[int], Rows], pool: ThreadPoolExecutor, window: Window, first: int) -> None:
        self.window, self._order = window, plan.order(window)
        members = np.unique(self._order[max(0, first - window.start) :, 0])  # a resumed epoch begins amid a window
        self.bytes = int(plan.groups.bytes[window.groups[members]].sum())
        self._reads = {int(member): pool.submit(read, int(window.groups[member])) for member in members}

    @property
    def ready(self) -> bool:
        """Whether all of it has been read."""
        return all(read.done() for read in self._reads.values())

    def rows(self, first: int, last: int) -> list[RowRef]:
        """Its rows among the samples from `first` to before `last` of the epoch; waits until they are read."""
        part = self._order[max(0, first - self.window.start) : max(0, last - self.window.start)]
        return [(self._reads[member].result(), row) for member, row in part.tolist()]


class WindowLoader:
    """Loads windows in order, some ahead, as far as the memory allows."""

    def __init__(self, spec: StreamSpec) -> None:
        self._plan, self._reader = spec.plan, spec.reader
        self._max_windows, self._limit = 1 + spec.config.prefetch_windows, int(spec.config.memory_mb * 2**20 * WINDOWS_SHARE)
        self._pool = ThreadPoolExecutor(REMOTE_READS if spec.reader.remote else LOCAL_READS, "inkray-read")
        self._coming = spec.windows()
        self._next = next(self._coming, None)
        self._loaded: deque[LoadedWindow] = deque()
        self._stats, self._lock = StreamStats(), threading.Lock()

    def _read(self, number: int) -> Rows:
        rows, stats = self._reader.read(number)
        with self._lock:
            self._stats += stats
        return rows

    def _read_ahead(self) -> None:
        while self._next is not None and len(self._loaded) < self._max_windows:
            window, first = self._next
            held = sum(loaded.bytes for loaded in self._loaded)
            if self._loaded and held + int(self._plan.groups.bytes[window.groups].sum()) > self._limit:
                return
            self._loaded.append(LoadedWindow(self._plan, self._read, self._pool, window, first))
            self._next = next(self._coming, None)

    def _drop_before(self, epoch: int, first: int) -> None:
        while self._loaded and (self._loaded[0].window.epoch, self._loaded[0].window.end) <= (epoch, first):
            self._loaded.popleft()

    def ready(self, epoch: int, last: int) -> bool:
        """Whether the samples before `last` have been read."""
        self._read_ahead()
        for loaded in self._loaded:
            if not loaded.ready:
                return False
            if (loaded.window.epoch, loaded.window.end) >= (epoch, last):
                return True
        return False

    def rows(self, epoch: int, first: int, last: int) -> list[RowRef]:
        """The rows of these samples, which follow those of the calls before; waits for them."""
        self._drop_before(epoch, first)
        rows: list[RowRef] = []
        while first < last:
            self._read_ahead()
            loaded = next(item for item in self._loaded if item.window.epoch == epoch and item.window.end > first)
            rows += loaded.rows(first, last)
            first = loaded.window.end
            if first < last:  # the batch continues in the next window: this one is finished
                self._drop_before(epoch, first)
        return rows

    def take_stats(self) -> StreamStats:
        """What was read since the last call."""
        with self._lock:
            stats, self._stats = self._stats, StreamStats()
        return stats

    def close(self) -> None:
        """Stop reading."""
        self._reader.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def iter_threads(spec: StreamSpec, threads: int, in_flight: int = 0) -> Generator[tuple[GlobalBatch, CollatedRows], None, None]:
    """A rank's batches, collated by `threads` threads. `in_flight` bytes of batches that were yielded count as held, too."""
    loader = WindowLoader(spec)
    pool = ThreadPoolExecutor(threads, "inkray-decode")
    limit = int(spec.config.memory_mb * 2**20 * BATCHES_SHARE) - in_flight
    max_pending = spec.config.prefetch_batches + threads
    pending: deque[tuple[GlobalBatch, int, Future[CollatedRows]]] = deque()
    held = 0  # bytes of the images of the pending batches

    def oldest() -> tuple[GlobalBatch, CollatedRows]:
        nonlocal held
        batch, size, future = pending.popleft()
        held -= size
        rows = future.result()
        return batch, replace(rows, stats=rows.stats + loader.take_stats())

    try:
        coming = spec.global_batches()
        batch = next(coming, None)
        while batch is not None or pending:
            while batch is not None and (not pending or len(pending) < max_pending):
                first, last = batch.share(spec.rank, spec.world_size)
                if pending and not loader.ready(batch.epoch, last):
                    break
                count, refs = batch.rows_of_rank(spec.world_size), loader.rows(batch.epoch, first, last)
                size = int(np.prod(spec.collator.shape(count, refs)))
                while pending and held + size > limit:
                    yield oldest()
                pending.append((batch, size, pool.submit(spec.collator, batch.epoch, count, refs)))
                held += size
                del refs
                batch = next(coming, None)
            yield oldest()
    finally:
        loader.close()
        pool.shutdown(wait=False, cancel_futures=True)
