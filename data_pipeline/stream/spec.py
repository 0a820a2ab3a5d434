"""Specification of a stream: what it takes to carry out a plan, by threads, a process or Ray tasks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from data_pipeline.stream.collator import Collator
from data_pipeline.stream.config import StreamConfig
from data_pipeline.stream.plan import GlobalBatch, Plan, StreamPosition, Window
from data_pipeline.stream.reader import RowGroupReader


@dataclass(frozen=True)
class StreamSpec:
    """A plan, who reads and collates its rows, from where to where, and for which rank.

    The stream begins at `start` and ends with epoch `epochs` - 1.
    """

    plan: Plan
    reader: RowGroupReader
    collator: Collator
    config: StreamConfig
    start: StreamPosition
    epochs: int
    rank: int = 0
    world_size: int = 1

    def windows(self) -> Iterator[tuple[Window, int]]:
        """The windows to read in order, each with the first sample of its epoch that is wanted."""
        for epoch in range(self.start.epoch, self.epochs):
            first = self.start.samples if epoch == self.start.epoch else 0
            yield from ((window, first) for window in self.plan.windows(epoch) if window.end > first)

    def global_batches(self) -> Iterator[GlobalBatch]:
        """The global batches of all ranks, in order."""
        for epoch in range(self.start.epoch, self.epochs):
            yield from self.plan.global_batches(self.start if epoch == self.start.epoch else StreamPosition(epoch))

    def after(self, batch: GlobalBatch) -> StreamPosition:
        """Where the stream stands once this batch is done."""
        done = batch.first + batch.size
        return StreamPosition(batch.epoch, done) if done < self.plan.rows else StreamPosition(batch.epoch + 1, 0)
