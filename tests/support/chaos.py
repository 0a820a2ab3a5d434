"""A server between a client and its S3 that makes requests fail: with 503, by hanging up, amid an answer, or slowly."""

from __future__ import annotations

import io
import random
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

CHUNK = 1 << 16


@dataclass
class Faults:
    """What share of the requests for objects (GET) fails, and how; this may be changed meanwhile. `counts`: how often each."""

    share: float = 0.0
    kinds: tuple[str, ...] = ("503", "500", "hang up", "cut")
    delay_s: float = 0.0
    seed: int = 0
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._random, self._lock = random.Random(self.seed), threading.Lock()

    def draw(self) -> str:
        """What to do with the next request: one of `kinds`, or "pass"."""
        with self._lock:
            kind = self._random.choice(self.kinds) if self._random.random() < self.share else "pass"
            self.counts[kind] += 1
            return kind


class _Handler(socketserver.StreamRequestHandler):
    """Relays requests of one connection, one after the other."""

    server: _Server

    def handle(self) -> None:
        upstream = None
        try:
            while (head := _read_head(self.rfile)) is not None:
                if upstream is None:
                    upstream = socket.create_connection(self.server.upstream)
                    answers = upstream.makefile("rb")
                kind = self.server.faults.draw() if head.startswith(b"GET") else "pass"
                if head.startswith(b"GET"):
                    time.sleep(self.server.faults.delay_s)
                if kind in ("500", "503"):
                    body = (
                        b"<Error><Code>SlowDown</Code></Error>"
                        if kind == "503"
                        else b"<Error><Code>InternalError</Code></Error>"
                    )
                    self.wfile.write(b"HTTP/1.1 %s Fault\r\nContent-Length: %d\r\n\r\n" % (kind.encode(), len(body)) + body)
                    continue
                if kind == "hang up":
                    return
                upstream.sendall(head)
                if _header(head, b"expect"):
                    self.wfile.write(_read_head(answers) or b"")
                _copy(self.rfile, upstream.makefile("wb"), int(_header(head, b"content-length") or 0))
                answer = _read_head(answers)
                if answer is None:
                    return
                self.wfile.write(answer)
                empty = head.startswith(b"HEAD") or answer.split()[1] in (b"204", b"304")
                length = 0 if empty else int(_header(answer, b"content-length") or -1)
                if kind == "cut":
                    _copy(answers, self.wfile, max(0, length // 2))
                    return
                if not empty and _header(answer, b"transfer-encoding"):
                    _copy_chunks(answers, self.wfile)
                else:
                    _copy(answers, self.wfile, length)
        except OSError:
            pass  # a client that has gone
        finally:
            if upstream is not None:
                upstream.close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, upstream: tuple[str, int], faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.faults = upstream, faults


@contextmanager
def failing(endpoint: str, faults: Faults) -> Iterator[str]:
    """An endpoint in front of `endpoint` that fails as `faults` says."""
    address = urlsplit(endpoint)
    server = _Server((str(address.hostname), int(address.port or 80)), faults)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def _read_head(stream: io.BufferedIOBase) -> bytes | None:
    """Up to the empty line, or None at the end."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline()
        if not line:
            return None
        head += line
    return head


def _header(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""


def _copy(source: io.BufferedIOBase, target: io.BufferedIOBase, length: int) -> None:
    """`length` bytes; all there are, if it is -1."""
    while length:
        data = source.read(CHUNK if length < 0 else min(CHUNK, length))
        if not data:
            return
        target.write(data)
        length -= len(data) if length > 0 else 0
    target.flush()


def _copy_chunks(source: io.BufferedIOBase, target: io.BufferedIOBase) -> None:
    while True:
        line = source.readline()
        target.write(line)
        size = int(line.split(b";")[0], 16)
        _copy(source, target, size + 2)
        if size == 0:
            return
