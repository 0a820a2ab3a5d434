"""The stream in a process of its own beside the training worker: threads there read, decode and collate.

Threads of the training worker itself share the interpreter's lock with the loop that launches a GPU's kernels, and hold it up.
Here that loop only maps finished batches (`data_pipeline.stream.shared_memory`).
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

from cluster.errors import UserError
from data_pipeline.storage.errors import StorageError
from data_pipeline.stream.batch import CollatedRows
from data_pipeline.stream.plan import GlobalBatch
from data_pipeline.stream.process_main import Order
from data_pipeline.stream.shared_memory import channel, receive_object, send_object
from data_pipeline.stream.spec import StreamSpec
from data_pipeline.stream.threads import BATCHES_SHARE

logger = logging.getLogger(__name__)

AHEAD = 2  # batches that are asked for before they are wanted
MAX_DEATHS = 3  # in a row
END_S = 5.0  # to end in, before it is killed: it may have a cache in memory to remove

_START = "import sys; sys.path[:] = {path}; from data_pipeline.stream.process_main import main; main({descriptor})"


class DecodingProcess:
    """A rank's batches, collated by a process of its own. Should that die, another one continues after the last batch."""

    def __init__(self, spec: StreamSpec, threads: int) -> None:
        largest = spec.plan.max_batch_pixels() * spec.collator.policy.channels // spec.world_size  # bytes
        room = spec.config.memory_mb * 2**20 * BATCHES_SHARE
        self._ahead = AHEAD if largest * (AHEAD + 1) <= room else 1
        self._order = Order(spec, threads, self._ahead * largest)
        self._child: _Child | None = None
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
            except _Died as death:
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
        child = self._child = _Child(order)
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


class _Died(Exception):
    """How the process came to its end."""


class _Child:
    """A process that was started, and our end of the channel to it."""

    def __init__(self, order: Order) -> None:
        self._channel, theirs = channel()
        descriptor = theirs.fileno()
        code = _START.format(path=[str(entry) for entry in sys.path], descriptor=descriptor)
        try:
            with theirs:
                _send_order(self._channel, order)
                with _interrupts_blocked():
                    self._process = subprocess.Popen(
                        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, pass_fds=[descriptor]
                    )
        except OSError as error:
            self._channel.close()
            raise UserError(f"The decoding process cannot be started ({error}). Set stream.execution=threads.") from None
        except BaseException:
            self._channel.close()
            raise

    def ask(self) -> None:
        """Ask for one more batch."""
        with contextlib.suppress(OSError):  # it is dead: `receive` says so
            self._channel.send(b"+")

    def receive(self) -> Any:
        """Wait for what it sends next: a batch, an exception, or None at the end of the stream.

        Raises:
            _Died: it has ended without a word, or was hung up on.
        """
        try:
            return receive_object(self._channel)
        except (EOFError, ConnectionError):
            raise _Died(_ending(self._wait())) from None

    def hang_up(self) -> None:
        """Close the channel for both ends, also for a thread that waits."""
        with contextlib.suppress(OSError):  # closed already
            self._channel.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End the process and wait for its end."""
        self.hang_up()
        self._wait()
        self._channel.close()

    def _wait(self) -> int:
        self.hang_up()
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may wait in the kernel, for a disk
            return self._process.wait(END_S)
        return -signal.SIGKILL


def _send_order(sock: socket.socket, order: Order) -> None:
    # Where Ray is loaded its pickler sends classes of `__main__` along, as it does to tasks.
    ray: Any = sys.modules.get("ray")
    pickler = ray.cloudpickle if ray is not None else pickle
    try:
        send_object(sock, order, pickler)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"The dataset or the target encoder cannot be sent to the decoding process ({error}). Set stream.execution=threads."
        ) from None


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Have a process that starts here ignore Ctrl-C, which goes to the whole terminal: this process decides what ends.

    Blocked in this thread, as a new process inherits it: a handler of its own would come after its first imports.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
