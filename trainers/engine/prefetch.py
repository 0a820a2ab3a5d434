"""Batches on their way to the device: on a GPU the next ones are pinned and copied while the step works on this one."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import Any

import torch

from data_pipeline.stream import Batch
from trainers.tasks.device_batch import DeviceBatch, to_device

AHEAD = 2  # batches in pinned memory and on the device before they are asked for
STOP_TIMEOUT_S = 10

_END = object()


def prefetch_to_device(
    batches: Generator[Batch, None, None], device: torch.device, stop_reading: Callable[[], None] = lambda: None
) -> Generator[tuple[Batch, DeviceBatch], None, None]:
    """`batches` with their tensors on `device`. A consumer that stops early closes the generator, and with it `batches`.

    `stop_reading` may be called from any thread: what waits for a storage that fails then waits no longer.
    """
    if device.type == "cuda":
        copied = _copied_ahead(batches, device, stop_reading)
    else:
        copied = ((batch, to_device(batch, device)) for batch in batches)
    try:
        yield from copied
    finally:
        copied.close()
        if device.type != "cuda":  # there the thread that draws from them ends them
            batches.close()


def _copied_ahead(
    batches: Generator[Batch, None, None], device: torch.device, stop_reading: Callable[[], None]
) -> Generator[tuple[Batch, DeviceBatch], None, None]:
    """Pinning and copying in a thread and on a stream of their own; the step's stream waits for the copy, the host does not."""
    ready: queue.Queue[Any] = queue.Queue(maxsize=AHEAD)
    stop = threading.Event()
    stream = torch.cuda.Stream(device)

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
            torch.cuda.set_device(device)  # a thread begins on the first GPU, whichever is this worker's
            for batch in batches:
                with torch.cuda.stream(stream):
                    tensors = to_device(batch, device)
                    copied = stream.record_event()
                if not put((batch, tensors, copied)):
                    return
            put(_END)
        except BaseException as error:
            put(error)
        finally:
            batches.close()

    thread = threading.Thread(target=work, name="inkray-copy", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            batch, tensors, copied = item
            current = torch.cuda.current_stream(device)
            current.wait_event(copied)
            for tensor in tensors.tensors:
                tensor.record_stream(current)  # else its memory might be given away while the step still reads it
            yield batch, tensors
    finally:
        stop.set()
        stop_reading()
        thread.join(STOP_TIMEOUT_S)
