"""The plan carried out by Ray Data: tasks on any machine read and decode, batches come through the object store.

Three stages. One task lists the windows of all epochs, as they are wanted. A task for each window reads its row groups and
sorts its rows into chunks: of some steps, for each rank, encoded. A task for each chunk decodes it. One execution goes through
all epochs and feeds all ranks: each window is read once, and an epoch's end costs nothing.

Blocks keep the order of the plan, and each is one row: Ray Data deals them to the ranks in turn, and every step is checked.
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

from data_pipeline.stream.batch import Decoded, Decoder, columns_of, joined
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.costs import Costs
from data_pipeline.stream.pace import Pace
from data_pipeline.stream.plan import Plan, Position, Step, Window
from data_pipeline.stream.read import RowGroupReader, Rows
from data_pipeline.stream.threads import REMOTE_READS

CHUNK_ROWS = 512  # of each rank: a task costs some milliseconds, whatever it does
CHUNKS_IN_MEMORY = 12  # that exist at a time, about: chunks are made smaller where they would not fit
LISTING_CPUS, READING_CPUS = 0.01, 0.25
_NO_IMAGES = np.empty(0, np.uint8)

Share = Callable[[Any], Any]  # rank 0 gives a value, every rank gets it


@dataclass(frozen=True)
class Piece:
    """A rank's rows of a step that lie in one window, `size` with padding. The `last` piece of a step has the padding."""

    epoch: int
    first: int
    size: int
    rows: int
    last: bool


def tasked(
    plan: Plan,
    reader: RowGroupReader,
    decoder: Decoder,
    config: StreamConfig,
    start: Position,
    epochs: int,
    rank: int = 0,
    world_size: int = 1,
    share: Share | None = None,
) -> Generator[tuple[Step, Decoded], None, None]:
    """A rank's batches from `start` to the end of epoch `epochs` - 1, decoded by tasks of the Ray cluster.

    Several ranks call this together, with `share` to bring rank 0's part of a common execution to the others.
    """
    if world_size == 1:
        source: Any = _dataset(plan, reader, decoder, config, start, epochs, 1)
    else:
        assert share is not None, "several ranks read one execution together"
        parts = None
        if rank == 0:
            parts = _dataset(plan, reader, decoder, config, start, epochs, world_size).streaming_split(world_size, equal=False)
        source = share(parts)[rank]
    chunks = iter(source.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1))
    pieces = _pieces(chunks)
    for epoch in range(start.epoch, epochs):
        for step in plan.steps(start if epoch == start.epoch else Position(epoch)):
            parts_of_step: list[tuple[Piece, Decoded]] = []
            while not parts_of_step or not parts_of_step[-1][0].last:
                following = next(pieces, None)
                if following is None:  # not a StopIteration: inside a generator that says nothing of what went wrong
                    raise RuntimeError(f"the reading tasks ended before sample {step.first} of epoch {step.epoch}")
                parts_of_step.append(following)
            first, last = step.share(rank, world_size)
            rows = sum(piece.rows for piece, _ in parts_of_step)
            if (
                any((piece.epoch, piece.first) != (step.epoch, step.first) for piece, _ in parts_of_step)
                or rows != last - first
            ):
                raise RuntimeError(f"stream out of order at sample {step.first} of epoch {step.epoch}, rank {rank}")
            yield step, joined([part for _, part in parts_of_step], decoder.policy, decoder.targets)


def _dataset(
    plan: Plan, reader: RowGroupReader, decoder: Decoder, config: StreamConfig, start: Position, epochs: int, ranks: int
) -> ray.data.Dataset:
    context = ray.data.DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=config.memory_mb * 2**20 * ranks)
    context.target_max_block_size = 1  # byte: a block ends with each row
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, Pace]
    context.raise_original_map_exception = True  # a missing shard is the user's to know by name, not an error of Ray's
    most_steps = _steps_of_a_chunk(plan, decoder, config, ranks)

    def list_windows(_: pa.Table) -> Iterator[pa.Table]:
        for epoch in range(start.epoch, epochs):
            origin = start.samples if epoch == start.epoch else 0
            for window in plan.windows(epoch):
                if window.end > origin:
                    yield _packed((window, origin))

    def read(block: pa.Table) -> Iterator[pa.Table]:
        window, origin = _unpacked(block)
        yield from _read(plan, reader, window, origin, ranks, most_steps)

    def decode(block: pa.Table) -> pa.Table:
        return _decode(decoder, block)

    options = {"batch_size": None, "batch_format": "pyarrow"}
    with ray.data.DataContext.current(context):
        # Another share of a CPU for each stage: else Ray Data makes one of them, which does one thing after the other.
        return (
            ray.data.from_blocks([pa.table({"start": [0]})])
            .map_batches(list_windows, num_cpus=LISTING_CPUS, **options)
            .map_batches(read, num_cpus=min(READING_CPUS, config.task_cpus / 2), **options)
            .map_batches(decode, num_cpus=config.task_cpus, zero_copy_batch=True, **options)
        )


def _steps_of_a_chunk(plan: Plan, decoder: Decoder, config: StreamConfig, ranks: int) -> int:
    """Steps of a chunk, at most: so many that all chunks that exist at a time fit the memory."""
    room = config.memory_mb * 2**20 / CHUNKS_IN_MEMORY
    batch = plan.most_pixels_of_a_batch() * decoder.policy.channels / ranks
    return max(1, int(room / max(batch, 1)))


def _read(plan: Plan, reader: RowGroupReader, window: Window, origin: int, ranks: int, most_steps: int) -> Iterator[pa.Table]:
    """A window's chunks, those of all ranks in turn, in order."""
    order = plan.order(window)
    places = np.unique(order[max(0, origin - window.start) :, 0])
    with ThreadPoolExecutor(REMOTE_READS if reader.remote else 1, "inkray-read") as pool:
        try:
            read = list(pool.map(reader.read, (int(window.groups[place]) for place in places)))
        except BaseException:
            reader.close()  # one has given up: the others do not begin to wait as long
            raise
    groups = {int(place): rows for place, (rows, _) in zip(places, read, strict=True)}
    costs = sum((its for _, its in read), Costs())
    steps: list[Step] = []
    rows = 0
    for step in plan.steps_over(window, origin):
        steps.append(step)
        rows += step.rows_of_rank(ranks)
        if rows >= CHUNK_ROWS or len(steps) == most_steps:
            yield from _chunks(steps, window, order, groups, ranks, costs)
            steps, rows, costs = [], 0, Costs()
    if steps:
        yield from _chunks(steps, window, order, groups, ranks, costs)


def _chunks(
    steps: list[Step], window: Window, order: np.ndarray, groups: dict[int, Rows], ranks: int, costs: Costs
) -> Iterator[pa.Table]:
    names = list(next(iter(groups.values())).columns)
    for rank in range(ranks):
        pieces, picked = [], []
        for step in steps:
            first, last = step.share(rank, ranks)
            part = order[max(0, first - window.start) : max(0, min(last, window.end) - window.start)]
            ends = window.start < last <= window.end
            if not len(part) and not ends:
                continue
            padding = step.rows_of_rank(ranks) - (last - first) if ends else 0
            pieces.append(Piece(step.epoch, step.first, len(part) + padding, len(part), ends))
            picked += [(groups[place], row) for place, row in part.tolist()]
        images = [np.frombuffer(rows.image(row), np.uint8) for rows, row in picked]
        meta = {
            "pieces": pieces,
            "offsets": np.cumsum([0, *map(len, images)]),
            "widths": np.array([rows.widths[row] for rows, row in picked], np.int64),
            "heights": np.array([rows.heights[row] for rows, row in picked], np.int64),
            "ids": [rows.ids[row] for rows, row in picked],
            "sources": [rows.sources[row] for rows, row in picked],
            "columns": columns_of(picked, names),
            "costs": costs if rank == 0 else Costs(),
        }
        yield _packed(meta, np.concatenate([np.empty(0, np.uint8), *images]))


def _decode(decoder: Decoder, block: pa.Table) -> pa.Table:
    """The batches of a chunk, their images one after the other in one piece of memory."""
    meta = _unpacked(block)
    pieces, costs = meta.pop("pieces"), meta.pop("costs")
    rows = Rows(data=_bytes(block), **meta)
    ends = np.cumsum([0, *(piece.rows for piece in pieces)])
    jobs = [(piece, [(rows, index) for index in range(*span)]) for piece, *span in zip(pieces, ends, ends[1:], strict=False)]
    shapes = [decoder.shape(piece.size, picked) for piece, picked in jobs]
    memory = _task_memory(sum(map(math.prod, shapes)))
    parts, place = [], 0
    for (piece, picked), shape in zip(jobs, shapes, strict=True):
        images = memory[place : place + math.prod(shape)].reshape(shape)
        decoded = decoder(piece.epoch, piece.size, picked, images)
        parts.append((piece, shape, replace(decoded, images=_NO_IMAGES, costs=decoded.costs + costs)))
        costs, place = Costs(), place + math.prod(shape)
    return _packed(parts, memory)


_memory = np.empty(0, np.uint8)


def _task_memory(size: int) -> np.ndarray:
    """Memory for the images of a task, the same for all tasks of this process: what one returns is in the object store before
    the next begins. To get fresh memory from the system each time took a twentieth of all the time.
    """
    global _memory
    if len(_memory) < size:
        _memory = np.empty(size, np.uint8)
    return _memory[:size]


def _pieces(chunks: Iterator[pa.Table]) -> Iterator[tuple[Piece, Decoded]]:
    for chunk in chunks:
        memory, place = _bytes(chunk), 0
        for piece, shape, decoded in _unpacked(chunk):
            images = memory[place : place + math.prod(shape)].reshape(shape)
            yield piece, replace(decoded, images=images)
            place += images.size


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
    # Not the scalar that stands there: asking for it copies.
    cell = block.column(column).chunk(0)
    _, ends, data = cell.buffers()
    first, last = np.frombuffer(ends, np.int64)[cell.offset : cell.offset + 2]
    return np.frombuffer(data or b"", np.uint8)[first:last]
