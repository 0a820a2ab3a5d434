"""The plan carried out by threads of the process that trains: windows are read ahead, batches decoded ahead, in order.

OpenCV and pyarrow let go of the interpreter's lock, so a few threads read and decode in parallel; no pixel is ever copied to
another process. What is held is bounded in bytes: half of `stream.memory_mb` for encoded windows, the rest for batches.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from data_pipeline.stream.batch import Decoded, Decoder, Picked
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.costs import Costs
from data_pipeline.stream.plan import Plan, Position, Step, Window
from data_pipeline.stream.read import RowGroupReader, Rows

LOCAL_READS, REMOTE_READS = 2, 16  # at a time: a disk answers at once, a network after a while
WINDOWS_SHARE, BATCHES_SHARE = 0.5, 0.4  # of the memory; the rest is for images that are being decoded


class LoadedWindow:
    """A window whose row groups are being read."""

    def __init__(self, plan: Plan, read: Callable[[int], Rows], pool: ThreadPoolExecutor, window: Window, first: int) -> None:
        self.window, self._order = window, plan.order(window)
        places = np.unique(self._order[max(0, first - window.start) :, 0])  # a resumed epoch begins amid a window
        self.bytes = int(plan.groups.bytes[window.groups[places]].sum())
        self._reads = {int(place): pool.submit(read, int(window.groups[place])) for place in places}

    @property
    def ready(self) -> bool:
        """Whether all of it has been read."""
        return all(read.done() for read in self._reads.values())

    def picked(self, first: int, last: int) -> list[Picked]:
        """Its rows among the samples from `first` to before `last` of the epoch; waits until they are read."""
        part = self._order[max(0, first - self.window.start) : max(0, last - self.window.start)]
        return [(self._reads[place].result(), row) for place, row in part.tolist()]


class WindowLoader:
    """Windows in order, some read ahead, as far as memory goes."""

    def __init__(self, plan: Plan, reader: RowGroupReader, config: StreamConfig, start: Position, epochs: int) -> None:
        self._plan, self._reader = plan, reader
        self._most, self._limit = 1 + config.prefetch_windows, int(config.memory_mb * 2**20 * WINDOWS_SHARE)
        self._pool = ThreadPoolExecutor(REMOTE_READS if reader.remote else LOCAL_READS, "inkray-read")
        self._coming = self._windows(start, epochs)
        self._next = next(self._coming, None)
        self._loaded: deque[LoadedWindow] = deque()
        self._costs, self._lock = Costs(), threading.Lock()

    def _read(self, number: int) -> Rows:
        rows, costs = self._reader.read(number)
        with self._lock:
            self._costs += costs
        return rows

    def _windows(self, start: Position, epochs: int) -> Iterator[tuple[Window, int]]:
        for epoch in range(start.epoch, epochs):
            first = start.samples if epoch == start.epoch else 0
            yield from ((window, first) for window in self._plan.windows(epoch) if window.end > first)

    def _read_ahead(self) -> None:
        while self._next is not None and len(self._loaded) < self._most:
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

    def picked(self, epoch: int, first: int, last: int) -> list[Picked]:
        """The rows of these samples, which come after those of the calls before; waits for them."""
        self._drop_before(epoch, first)
        rows: list[Picked] = []
        while first < last:
            self._read_ahead()
            loaded = next(item for item in self._loaded if item.window.epoch == epoch and item.window.end > first)
            rows += loaded.picked(first, last)
            first = loaded.window.end
            if first < last:  # the batch goes on in the next window: this one is done with
                self._drop_before(epoch, first)
        return rows

    def take_costs(self) -> Costs:
        """What was read since the last call."""
        with self._lock:
            costs, self._costs = self._costs, Costs()
        return costs

    def close(self) -> None:
        """Read no more."""
        self._reader.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def threaded(
    plan: Plan,
    reader: RowGroupReader,
    decoder: Decoder,
    config: StreamConfig,
    threads: int,
    start: Position,
    epochs: int,
    rank: int = 0,
    world_size: int = 1,
) -> Generator[tuple[Step, Decoded], None, None]:
    """A rank's batches from `start` to the end of epoch `epochs` - 1, decoded by `threads` threads."""
    loader = WindowLoader(plan, reader, config, start, epochs)
    pool = ThreadPoolExecutor(threads, "inkray-decode")
    limit = int(config.memory_mb * 2**20 * BATCHES_SHARE)
    most = config.prefetch_batches + threads
    pending: deque[tuple[Step, int, Future[Decoded]]] = deque()
    held = 0
    try:
        coming = _steps(plan, start, epochs)
        step = next(coming, None)
        while step is not None or pending:
            while step is not None and (not pending or len(pending) < most):
                first, last = step.share(rank, world_size)
                if pending and not loader.ready(step.epoch, last):
                    break
                size, picked = step.rows_of_rank(world_size), loader.picked(step.epoch, first, last)
                bytes_ = int(np.prod(decoder.shape(size, picked)))
                while pending and held + bytes_ > limit:
                    done, its, decoded = _oldest(pending)
                    held -= its
                    yield done, _with(decoded, loader)
                pending.append((step, bytes_, pool.submit(decoder, step.epoch, size, picked)))
                held += bytes_
                del picked
                step = next(coming, None)
            done, its, decoded = _oldest(pending)
            held -= its
            yield done, _with(decoded, loader)
    finally:
        loader.close()
        pool.shutdown(wait=False, cancel_futures=True)


def _oldest(pending: deque[tuple[Step, int, Future[Decoded]]]) -> tuple[Step, int, Decoded]:
    step, size, future = pending.popleft()
    return step, size, future.result()


def _with(decoded: Decoded, loader: WindowLoader) -> Decoded:
    costs = decoded.costs + loader.take_costs()
    return Decoded(**{**vars(decoded), "costs": costs})


def _steps(plan: Plan, start: Position, epochs: int) -> Iterator[Step]:
    for epoch in range(start.epoch, epochs):
        yield from plan.steps(start if epoch == start.epoch else Position(epoch))
