"""The stream in a process of its own beside the training worker: threads there read, decode and collate.

Threads of the training worker itself share the interpreter's lock with the loop that launches a GPU's kernels, and hold it up.
Here that loop only maps finished batches (`data_pipeline.stream.shared_memory`).
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Generator
from dataclasses import replace

from cluster.errors import UserError
from data_pipeline.storage.errors import StorageError
from data_pipeline.stream.batch import CollatedRows
from data_pipeline.stream.plan import GlobalBatch
from data_pipeline.stream.process_child import DecodingChild, Died
from data_pipeline.stream.process_main import Order
from data_pipeline.stream.spec import StreamSpec
from data_pipeline.stream.threads import BATCHES_SHARE

logger = logging.getLogger(__name__)

AHEAD = 2  # batches that are asked for before they are wanted
COPIES = 2  # of a batch on its way: the one that the training worker uses, and the one that is being sent
MAX_DEATHS = 3  # in a row


class DecodingProcess:
    """A rank's batches, collated by a process of its own. Should that die, another one continues after the last batch."""

    def __init__(self, spec: StreamSpec, threads: int) -> None:
        largest = spec.plan.max_batch_pixels() * spec.collator.policy.channels // spec.world_size  # bytes
        room = spec.config.memory_mb * 2**20 * BATCHES_SHARE
        self._ahead = AHEAD if largest * (AHEAD + COPIES + 1) <= room else 1
        self._order = Order(spec, threads, (self._ahead + COPIES) * largest)
        self._child: DecodingChild | None = None
        self._stopped = False

    def stop(self) -> None:
        """End waiting for a batch at once, with an error. May be called from any thread."""
        self._stopped = True
        if self._child is not None:
            self._child.hang_up()

    def batches(self) -> Generator[tuple[GlobalBatch, CollatedRows], None, None]:
        """Batches in order, to the end of the stream. Closing the generator ends the process.

        Raises:
            UserError: what the stream's threads raise there; or the process died several times in a row.
            StorageError: `stop` was called.
        """
        order, deaths = self._order, 0
        while True:
            try:
                with contextlib.closing(self._received(order)) as received:
                    for batch, rows in received:
                        deaths, order = 0, replace(order, spec=replace(order.spec, start=order.spec.after(batch)))
                        yield batch, rows
                return
            except Died as death:
                deaths += 1
                if self._stopped:
                    raise StorageError("Reading was stopped before the end of the stream.", transient=True) from None
                if deaths == MAX_DEATHS:
                    raise UserError(
                        f"The decoding process {death} {deaths} times in a row, before any batch: perhaps the machine's memory "
                        f"is full. Set stream.memory_mb (now {order.spec.config.memory_mb}) or stream.threads (now "
                        f"{order.threads}) lower, or stream.execution=threads."
                    ) from None
                logger.warning(f"The decoding process {death}; another one continues after the last batch.")

    def _received(self, order: Order) -> Generator[tuple[GlobalBatch, CollatedRows], None, None]:
        """What one process gives, from its start to its end."""
        child = self._child = DecodingChild(order)
        try:
            if self._stopped:
                child.hang_up()
            for _ in range(self._ahead):
                child.ask()
            while (answer := child.receive()) is not None:
                if isinstance(answer, Exception):
                    raise answer
                child.ask()
                yield answer
        finally:
            child.end()
