"""The stream in Ray Data: tasks on any machine read and collate, batches come through the object store.

Three stages. One task lists the windows of all epochs, as they are wanted. A task for each window reads its row groups and
sorts its rows into chunks: of some global batches, for each rank, encoded. A task for each chunk collates it. One execution
goes through all epochs and feeds all ranks: each window is read once, and the end of an epoch costs nothing.

Blocks keep the order of the plan, and each is one row: Ray Data deals them to the ranks in turn, and every batch is checked.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray.data
from ray.data import ExecutionResources

from data_pipeline.stream.batch import CollatedRows, concat
from data_pipeline.stream.collator import Collator
from data_pipeline.stream.plan import GlobalBatch, Window
from data_pipeline.stream.rows import RowRef, Rows, columns_of
from data_pipeline.stream.spec import StreamSpec
from data_pipeline.stream.stats import StreamStats
from data_pipeline.stream.threads import REMOTE_READS
from data_pipeline.stream.throttle import SchedulerThrottle

CHUNK_ROWS = 512  # of each rank: a task costs some milliseconds, whatever it does
CHUNKS_IN_MEMORY = 12  # that exist at a time, about: chunks are made smaller where they would not fit
LISTING_CPUS, READING_CPUS = 0.01, 0.25
_NO_IMAGES = np.empty(0, np.uint8)

Share = Callable[[Any], Any]  # rank 0 gives a value, every rank gets it


@dataclass(frozen=True)
class Piece:
    """A rank's rows of a global batch that lie in one window, `size` with padding. The `last` piece has the padding."""

    epoch: int
    first: int
    size: int
    rows: int
    last: bool


def iter_ray(spec: StreamSpec, share: Share | None = None) -> Generator[tuple[GlobalBatch, CollatedRows], None, None]:
    """A rank's batches, collated by tasks of the Ray cluster.

    Several ranks call this together, with `share` to bring rank 0's part of a common execution to the others.
    """
    if spec.world_size == 1:
        source: Any = _dataset(spec)
    else:
        assert share is not None, "several ranks read one execution together"
        splits = _dataset(spec).streaming_split(spec.world_size, equal=False) if spec.rank == 0 else None
        source = share(splits)[spec.rank]
    chunks = iter(source.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1))
    pieces = _pieces(chunks)
    for batch in spec.global_batches():
        parts: list[tuple[Piece, CollatedRows]] = []
        while not parts or not parts[-1][0].last:
            part = next(pieces, None)
            if part is None:  # not a StopIteration, which inside a generator would not say what went wrong
                raise RuntimeError(f"the reading tasks ended before sample {batch.first} of epoch {batch.epoch}")
            parts.append(part)
        first, last = batch.share(spec.rank, spec.world_size)
        in_order = all((piece.epoch, piece.first) == (batch.epoch, batch.first) for piece, _ in parts)
        if not in_order or sum(piece.rows for piece, _ in parts) != last - first:
            raise RuntimeError(f"stream out of order at sample {batch.first} of epoch {batch.epoch}, rank {spec.rank}")
        yield batch, concat([rows for _, rows in parts], spec.collator.policy, spec.collator.targets)


def _dataset(spec: StreamSpec) -> ray.data.Dataset:
    """The execution that feeds all ranks."""
    config, collator = spec.config, spec.collator
    memory = config.memory_mb * 2**20 * spec.world_size
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=memory)
    context.target_max_block_size = 1  # byte: a block ends with each row
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, SchedulerThrottle]
    context.raise_original_map_exception = True  # a missing shard is the user's to know by name, not an error of Ray's
    max_batches = _max_chunk_batches(spec)

    def list_windows(_: pa.Table) -> Iterator[pa.Table]:
        yield from map(_packed, spec.windows())

    def read(block: pa.Table) -> Iterator[pa.Table]:
        window, origin = _unpacked(block)
        yield from _read(spec, window, origin, max_batches)

    def collate(block: pa.Table) -> pa.Table:
        return _collate(collator, block)

    options = {"batch_size": None, "batch_format": "pyarrow"}
    with ray.data.DataContext.current(context):
        # Each stage has its own share of a CPU: Ray Data would fuse stages of equal shares into one, which does one thing
        # after the other.
        return (
            ray.data.from_blocks([pa.table({"start": [0]})])
            .map_batches(list_windows, num_cpus=LISTING_CPUS, **options)
            .map_batches(read, num_cpus=min(READING_CPUS, config.task_cpus / 2), **options)
            .map_batches(collate, num_cpus=config.task_cpus, zero_copy_batch=True, **options)
        )


def _max_chunk_batches(spec: StreamSpec) -> int:
    """The most global batches of a chunk: all chunks that exist at a time fit the memory."""
    memory = spec.config.memory_mb * 2**20 / CHUNKS_IN_MEMORY
    batch = spec.plan.max_batch_pixels() * spec.collator.policy.channels / spec.world_size
    return max(1, int(memory / max(batch, 1)))


def _read(spec: StreamSpec, window: Window, origin: int, max_batches: int) -> Iterator[pa.Table]:
    """A window's chunks, those of all ranks in turn, in order."""
    order, reader = spec.plan.order(window), spec.reader
    members = np.unique(order[max(0, origin - window.start) :, 0])
    with ThreadPoolExecutor(REMOTE_READS if reader.remote else 1, "inkray-read") as pool:
        try:
            read = list(pool.map(reader.read, (int(window.groups[member]) for member in members)))
        except BaseException:
            reader.close()  # one has given up: the others do not begin to wait as long
            raise
    groups = {int(member): rows for member, (rows, _) in zip(members, read, strict=True)}
    stats = sum((part for _, part in read), StreamStats())

    def chunks(batches: list[GlobalBatch], stats: StreamStats) -> Iterator[pa.Table]:
        for rank in range(spec.world_size):
            pieces, refs = _rank_rows(batches, window, order, groups, rank, spec.world_size)
            yield _chunk(pieces, refs, reader.columns, stats if rank == 0 else StreamStats())

    batches: list[GlobalBatch] = []
    rows = 0
    for batch in spec.plan.global_batches_over(window, origin):
        batches.append(batch)
        rows += batch.rows_of_rank(spec.world_size)
        if rows >= CHUNK_ROWS or len(batches) == max_batches:
            yield from chunks(batches, stats)
            batches, rows, stats = [], 0, StreamStats()
    if batches:
        yield from chunks(batches, stats)


def _rank_rows(
    batches: list[GlobalBatch], window: Window, order: np.ndarray, groups: dict[int, Rows], rank: int, world_size: int
) -> tuple[list[Piece], list[RowRef]]:
    """The rows of a window that a rank gets of these global batches, and how they are cut into pieces."""
    pieces: list[Piece] = []
    refs: list[RowRef] = []
    for batch in batches:
        first, last = batch.share(rank, world_size)
        part = order[max(0, first - window.start) : max(0, min(last, window.end) - window.start)]
        ends = window.start < last <= window.end
        if not len(part) and not ends:
            continue
        padding = batch.rows_of_rank(world_size) - (last - first) if ends else 0
        pieces.append(Piece(batch.epoch, batch.first, len(part) + padding, len(part), ends))
        refs += [(groups[member], row) for member, row in part.tolist()]
    return pieces, refs


def _chunk(pieces: list[Piece], refs: list[RowRef], columns: tuple[str, ...], stats: StreamStats) -> pa.Table:
    """Pieces of a rank with their encoded rows."""
    images = [np.frombuffer(rows.image(row), np.uint8) for rows, row in refs]
    meta = {
        "pieces": pieces,
        "stats": stats,
        "offsets": np.cumsum([0, *map(len, images)]),
        "widths": np.array([rows.widths[row] for rows, row in refs], np.int64),
        "heights": np.array([rows.heights[row] for rows, row in refs], np.int64),
        "ids": [rows.ids[row] for rows, row in refs],
        "sources": [rows.sources[row] for rows, row in refs],
        "columns": columns_of(refs, columns),
    }
    return _packed(meta, np.concatenate([np.empty(0, np.uint8), *images]))


def _collate(collator: Collator, block: pa.Table) -> pa.Table:
    """The collated pieces of a chunk, their images one after the other in one piece of memory."""
    meta = _unpacked(block)
    pieces, stats = meta.pop("pieces"), meta.pop("stats")
    rows = Rows(data=_bytes(block), **meta)
    ends = np.cumsum([0, *(piece.rows for piece in pieces)])
    jobs = [(piece, [(rows, index) for index in range(*span)]) for piece, *span in zip(pieces, ends, ends[1:], strict=False)]
    shapes = [collator.shape(piece.size, refs) for piece, refs in jobs]
    memory = _task_memory(sum(map(math.prod, shapes)))
    parts, offset = [], 0
    for (piece, refs), shape in zip(jobs, shapes, strict=True):
        images = memory[offset : offset + math.prod(shape)].reshape(shape)
        collated = collator(piece.epoch, piece.size, refs, images)
        parts.append((piece, shape, replace(collated, images=_NO_IMAGES, stats=collated.stats + stats)))
        stats, offset = StreamStats(), offset + math.prod(shape)
    return _packed(parts, memory)


_memory = np.empty(0, np.uint8)


def _task_memory(size: int) -> np.ndarray:
    """Memory for the images of a task, the same for all tasks of this process.

    What a task returns is in the object store before the next begins. Fresh memory from the system for each took a twentieth
    of all the time.
    """
    global _memory
    if len(_memory) < size:
        _memory = np.empty(size, np.uint8)
    return _memory[:size]


def _pieces(chunks: Iterator[pa.Table]) -> Iterator[tuple[Piece, CollatedRows]]:
    for chunk in chunks:
        memory, offset = _bytes(chunk), 0
        for piece, shape, collated in _unpacked(chunk):
            images = memory[offset : offset + math.prod(shape)].reshape(shape)
            yield piece, replace(collated, images=images)
            offset += images.size


def _packed(meta: object, data: np.ndarray | None = None) -> pa.Table:
    """One row: an object of ours, pickled, and bytes that are not copied."""
    data = np.empty(0, np.uint8) if data is None else data
    ends = pa.py_buffer(np.array([0, len(data)], np.int64))
    column = pa.Array.from_buffers(pa.large_binary(), 1, [None, ends, pa.py_buffer(data)])
    return pa.table({"meta": pa.array([pickle.dumps(meta, protocol=5)], pa.large_binary()), "data": column})


def _unpacked(block: pa.Table) -> Any:
    # Pickled by the stage before, a moment ago: never read from storage.
    return pickle.loads(_bytes(block, "meta").data)


def _bytes(block: pa.Table, column: str = "data") -> np.ndarray:
    # Not through the cell's scalar: asking for it copies.
    cell = block.column(column).chunk(0)
    _, ends, data = cell.buffers()
    first, last = np.frombuffer(ends, np.int64)[cell.offset : cell.offset + 2]
    return np.frombuffer(data or b"", np.uint8)[first:last]
