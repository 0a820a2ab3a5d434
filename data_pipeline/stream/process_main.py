"""The process that decodes for a training worker: carries out a plan with threads and sends each batch that is asked for.

`data_pipeline.stream.process` starts it and gives it one end of a channel. It ends when the other end closes, whatever its
threads wait for: also when the training worker was killed.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
import threading
import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

from cluster.errors import UserError, user_error_in
from cluster.redacted_output import redact_output
from data_pipeline.stream.cache import leave_caches
from data_pipeline.stream.shared_memory import receive_object, send_object
from data_pipeline.stream.spec import StreamSpec
from data_pipeline.stream.threads import iter_threads


@dataclass(frozen=True)
class Order:
    """What to carry out, with how many threads; so many bytes of batches may be on their way to the training worker."""

    spec: StreamSpec
    threads: int
    in_flight: int


def main(descriptor: int) -> NoReturn:
    """Serve the channel with this file descriptor to its end."""
    redact_output()
    try:
        _serve(socket.socket(fileno=descriptor))
    except ConnectionError:
        _end(0)  # the other end was closed while something was being sent
    except BaseException:
        traceback.print_exc()
        _end(1)
    _end(0)


def _serve(channel: socket.socket) -> None:
    asked = threading.Semaphore(0)
    try:
        order: Order | UserError = receive_object(channel)
    except EOFError:
        return
    except Exception as error:  # a class of the user's that cannot be imported here
        order = UserError(
            f"The decoding process cannot load the dataset or the target encoder ({type(error).__name__}: {error}). What they "
            "are made of must be importable, not defined in the script that is run: or set stream.execution=threads."
        )
    listener = threading.Thread(target=_listen, args=(channel, asked), name="inkray-requests", daemon=True)
    listener.start()
    try:
        if isinstance(order, UserError):
            raise order
        batches = iter_threads(order.spec, order.threads, order.in_flight)
        while True:
            asked.acquire()
            batch = next(batches, None)
            send_object(channel, batch)
            if batch is None:
                break
            del batch  # not held while the next is waited for
    except Exception as error:
        send_object(channel, _sendable(error))
    # Until the other end is closed: it would lose what it has not read yet.
    listener.join()


def _listen(channel: socket.socket, asked: threading.Semaphore) -> None:
    """Count requests, and end this process with the channel."""
    try:
        while channel.recv(1):
            asked.release()
    except OSError:  # reset: the other end had not read everything
        pass
    _end(0)


def _end(status: int) -> NoReturn:
    """End at once: an exit would wait for threads, and they perhaps for a storage that does not answer."""
    leave_caches()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _sendable(error: Exception) -> Exception:
    """The user's mistake in `error`; or `error` itself with this process's traceback, as a note."""
    mistake = user_error_in(error)
    if mistake is not None:
        return mistake
    trace = "".join(traceback.format_exception(error))
    sent: Any = error
    try:
        sent = pickle.loads(pickle.dumps(error))
        assert type(sent) is type(error)
    except Exception:  # classes whose constructor takes more than a message
        sent = RuntimeError(f"{type(error).__name__}: {error}")
    sent.add_note(f"In the decoding process:\n{trace}")
    return sent
