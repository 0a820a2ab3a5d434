"""Objects for another process of this machine, pickled into memory that both processes have.

The receiver's arrays are views of that memory: none is copied, and the memory is freed once the last of them is collected. It
has no name and is not in /dev/shm: nothing is left of it, however a process ends, and a container's small /dev/shm suffices.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import socket
from typing import Any

from cluster.errors import UserError

ALIGNMENT = 64  # bytes, of each array: as SIMD instructions and numpy like it


def can_share_memory() -> bool:
    """Whether this system has anonymous shared memory: Linux has, macOS has not."""
    return hasattr(os, "memfd_create")


def require_shared_memory() -> None:
    """Check that this system has what `stream.execution=process` needs.

    Raises:
        UserError: it has not.
    """
    if not can_share_memory():
        raise UserError("stream.execution=process needs Linux's memfd_create, which this system lacks: set threads.")


def channel() -> tuple[socket.socket, socket.socket]:
    """Make the two ends of a channel between processes: it keeps the bounds of messages and tells when the other end closes."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send_object(sock: socket.socket, value: object, pickler: Any = pickle) -> None:
    """Send an object; its arrays, found anywhere in it, are written into shared memory beside the rest."""
    buffers: list[pickle.PickleBuffer] = []
    data = pickler.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(data), *(buffer.raw() for buffer in buffers)]
    memory = os.memfd_create("inkray")
    try:
        # Written, not mapped: a fault on each fresh page would take twice as long.
        with open(memory, "wb", closefd=False) as file:
            pickle.dump([part.nbytes for part in parts], file)
            for part in parts:
                file.seek(_aligned(file.tell()))
                file.write(part)
        socket.send_fds(sock, [b"!"], [memory])
    finally:
        os.close(memory)


def receive_object(sock: socket.socket) -> Any:
    """Receive an object that the other end has sent, a moment ago: it is unpickled, but never came from storage.

    As long as arrays of it live they keep one file descriptor of this process open.

    Raises:
        EOFError: the other end is closed.
    """
    message, descriptors, _, _ = socket.recv_fds(sock, 1, 1, socket.MSG_CMSG_CLOEXEC)
    if not message:
        raise EOFError
    if not descriptors:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    try:
        memory = mmap.mmap(descriptors[0], 0)
    finally:
        os.close(descriptors[0])
    sizes, view, end = pickle.load(memory), memoryview(memory), memory.tell()
    parts = []
    for size in sizes:
        first = _aligned(end)
        end = first + size
        parts.append(view[first:end])
    return pickle.loads(parts[0], buffers=parts[1:])


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
