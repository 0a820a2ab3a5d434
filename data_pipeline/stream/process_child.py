"""The training worker's handle of a decoding process: starts it, asks it for batches, and sees to its end."""

from __future__ import annotations

import contextlib
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from cluster.errors import UserError
from data_pipeline.stream.process_main import Order
from data_pipeline.stream.shared_memory import channel, receive_object, send_object

END_S = 5.0  # to end in, before it is killed: it may have a cache in memory to remove

_START = "import sys; sys.path[:] = {path}; from data_pipeline.stream.process_main import main; main({descriptor})"


class Died(Exception):
    """How the process came to its end."""


class DecodingChild:
    """A process that was started, and our end of the channel to it."""

    def __init__(self, order: Order) -> None:
        self._channel, theirs = channel()
        descriptor = theirs.fileno()
        code = _START.format(path=[str(entry) for entry in sys.path], descriptor=descriptor)
        try:
            with theirs:
                _send_order(self._channel, order)
                with _signals_blocked():
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
            Died: it has ended without a word, or was hung up on.
        """
        try:
            return receive_object(self._channel)
        except (EOFError, ConnectionError):
            raise Died(_ending(self._wait())) from None

    def hang_up(self) -> None:
        """Close the channel for both ends, also for a thread that waits."""
        with contextlib.suppress(OSError):  # closed already
            self._channel.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """End the process and wait for its end."""
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
def _signals_blocked() -> Iterator[None]:
    """Have a process that starts here ignore Ctrl-C and SIGTERM, which may go to a whole group: this process decides what ends.

    Blocked in this thread, as a new process inherits it: a handler of its own would come after its first imports.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
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
