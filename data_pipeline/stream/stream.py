"""The plan carried out by Ray Data: windows are the dataset, reading tasks map over them, batches come out in the plan's order.

Each rank runs its own execution over its own share of the plan, so its order holds by construction, however the others fare.
One execution goes through all epochs of a run: an epoch's end costs nothing.
"""

from __future__ import annotations

import pickle
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data

from data_pipeline.manifest import Dataset, RowGroup
from data_pipeline.stream.batch import Batch, collate
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.pace import Pace
from data_pipeline.stream.plan import Position, Share, Window, epoch_windows, sequential_windows
from data_pipeline.stream.tasks import DECODED_SCHEMA, ReadWindow
from data_pipeline.tokenizer import Tokenizer


class _Stream:
    """What the streams share: the row groups of a split, and whose part of them is read."""

    def __init__(
        self, dataset: Dataset, split: str, tokenizer: Tokenizer, config: StreamConfig, rank: int, world_size: int
    ) -> None:
        self._dataset, self._tokenizer, self._config = dataset, tokenizer, config
        self._groups = dataset.manifest.split(split).row_groups()
        self._rows = sum(group.rows for group in self._groups)
        self._rank, self._world = rank, world_size

    @property
    def rows(self) -> int:
        """Rows of the split, over all ranks: the samples of an epoch."""
        return self._rows

    def _collate(self, table: pa.Table, size: int, position: Position, global_size: int) -> Batch:
        return collate(table, size, self._dataset.manifest.image, self._tokenizer, position, global_size)


class TrainStream(_Stream):
    """Batches of one rank, epoch after epoch, from any position on.

    Two streams with the same dataset, seed and window give the same samples in the same order, whatever the number of ranks.
    """

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        tokenizer: Tokenizer,
        config: StreamConfig,
        *,
        seed: int,
        global_batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(dataset, split, tokenizer, config, rank, world_size)
        self._seed, self._size = seed, global_batch_size

    @property
    def steps_per_epoch(self) -> int:
        """Steps in a whole epoch, the same on every rank."""
        return -(-self._rows // self._size)

    def _share(self, start: int) -> Share:
        return Share(self._rows, start, self._size, self._world, self._rank)

    def batches(self, start: Position, epochs: int) -> Iterator[Batch]:
        """Batches from `start` to the end of epoch `epochs` - 1, made ready by a background thread."""
        return prefetched(self._batches(start, epochs), self._config.prefetch_batches)

    def _batches(self, start: Position, epochs: int) -> Generator[Batch, None, None]:
        reader = ReadWindow(
            self._dataset.storage, self._dataset.manifest.image, self._seed, self._config.augmentation, shuffle=True
        )
        entries = []
        for epoch in range(start.epoch, epochs):
            share = self._share(start.samples if epoch == start.epoch else 0)
            windows = epoch_windows(self._groups, self._seed, epoch, self._config.window_row_groups)
            entries += [(window, share) for window in windows if share.touches(window)]
        rows = _Rows(_execute(entries, reader, self._config))
        for epoch in range(start.epoch, epochs):
            share = self._share(start.samples if epoch == start.epoch else 0)
            for step in range(share.steps):
                size, per_rank, real = share.batch_rows(step)
                done = min(share.start + (step + 1) * self._size, self._rows)
                position = Position(epoch, done) if done < self._rows else Position(epoch + 1, 0)
                table = rows.take(real)
                _require_order(table, share, step, per_rank)
                yield self._collate(table, per_rank, position, size)


class EvaluationStream(_Stream):
    """Every row of a split exactly once, in batches of `batch_size`; ranks may differ in their number of batches."""

    def __init__(
        self,
        dataset: Dataset,
        split: str,
        tokenizer: Tokenizer,
        config: StreamConfig,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__(dataset, split, tokenizer, config, rank, world_size)
        self._batch_size = batch_size

    def batches(self) -> Iterator[Batch]:
        """This rank's batches."""
        return prefetched(self._batches(), self._config.prefetch_batches)

    def _batches(self) -> Generator[Batch, None, None]:
        reader = ReadWindow(self._dataset.storage, self._dataset.manifest.image, 0, "none", shuffle=False)
        # A row group goes to one rank whole: nothing is read twice, and similar widths stay together.
        groups: Sequence[RowGroup] = self._groups[self._rank :: self._world]
        windows = sequential_windows(groups, max(1, self._config.window_row_groups // 4))
        total = sum(group.rows for group in groups)
        share = Share(total, 0, max(total, 1), 1, 0)
        rows = _Rows(_execute([(window, share) for window in windows], reader, self._config))
        for first in range(0, total, self._batch_size):
            size = min(self._batch_size, total - first)
            position = Position(0, first + size)
            yield self._collate(rows.take(size), size, position, size)


def _execute(entries: Sequence[tuple[Window, Share]], reader: ReadWindow, config: StreamConfig) -> Iterator[pa.Table]:
    """Run the reading tasks over `entries` in parallel and give their tables in order."""
    if not entries:
        return iter(())
    # A task gets its own entry and no other; pickled by this process a moment ago, never read from storage.
    blocks = [pa.table({"entry": pa.array([pickle.dumps(entry)], pa.binary())}) for entry in entries]

    def read(block: pa.Table) -> pa.Table:
        return pa.concat_tables([reader(*pickle.loads(entry)) for entry in block.column("entry").to_pylist()])

    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, Pace]
    context.raise_original_map_exception = True  # a missing shard is the user's to know by name, not an error of Ray's
    with ray.data.DataContext.current(context):
        # Blocks, not `range`: its blocks would be tasks of their own, which take the place of reading at the start.
        dataset = ray.data.from_blocks(blocks).map_batches(
            read, batch_size=None, batch_format="pyarrow", num_cpus=config.task_cpus
        )
        batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=config.prefetch_windows)
    return iter(batches)


class _Rows:
    """Rows taken off a sequence of tables, as many at a time as asked for."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables, self._current = tables, DECODED_SCHEMA.empty_table()

    def take(self, count: int) -> pa.Table:
        parts = []
        while count:
            if not self._current.num_rows:
                table = next(self._tables, None)
                if table is None:  # not a StopIteration: inside a generator that says nothing of what went wrong
                    raise RuntimeError(f"the reading tasks ended {count} rows early")
                self._current = table
            part = self._current.slice(0, count)
            self._current = self._current.slice(part.num_rows)
            parts.append(part)
            count -= part.num_rows
        return pa.concat_tables(parts) if parts else DECODED_SCHEMA.empty_table()


def _require_order(table: pa.Table, share: Share, step: int, per_rank: int) -> None:
    """The order is a contract: a stream that broke it must not go on."""
    first = share.start + step * share.global_batch_size + share.rank * per_rank
    expected = np.arange(first, first + table.num_rows)
    if not np.array_equal(table.column("sample").to_numpy(), expected):
        raise RuntimeError(f"stream out of order at sample {first} of rank {share.rank}")


_END = object()
STOP_TIMEOUT_S = 10  # a thread that waits for Ray notices the end when Ray answers


def prefetched(batches: Generator[Batch, None, None], depth: int) -> Iterator[Batch]:
    """Draw from `batches` in a background thread, at most `depth` ahead; what it raises is raised here.

    Whoever stops early closes the iterator: then the thread ends, and with it the execution behind `batches`.
    """
    ready: queue.Queue[Any] = queue.Queue(maxsize=max(1, depth))
    stop = threading.Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for batch in batches:
                if not put(batch):
                    return
            put(_END)
        except BaseException as error:
            put(error)
        finally:
            batches.close()

    thread = threading.Thread(target=work, name="inkray-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join(STOP_TIMEOUT_S)
