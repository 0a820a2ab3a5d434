"""Who writes into an output folder: one job at a time, also where two start in the same moment.

On this machine's disks, and on network disks that lock, the operating system holds a lock on `.job.lock` for as long as the
process lives: a job that was killed can start again at once. Where there is no lock (S3, servers that fsspec knows) each job
writes a claim of its own below `.claims` and then lists them all; of two that start at once at least one sees the other and
steps back. This needs a listing that shows what has been written, as S3's does, and no conditional write. A claim is written
again every few seconds. One that stands still for three of these intervals is that of a job that was killed, one of a dead
process of this machine is known at once; both are removed. A job whose claim was removed stops before it writes.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import psutil
from filelock import FileLock, Timeout

from cluster.errors import UserError
from data_pipeline.storage import Storage, StorageError
from trainers.prediction.files import fsspec_of

LOCK, CLAIMS = ".job.lock", ".claims"
BEAT_S = 5.0
_STILL = 3  # intervals without a sign of life
_ATTEMPTS = 20


@contextlib.contextmanager
def claimed(out: Storage) -> Iterator[Callable[[], None]]:
    """Own the folder `out` for the time of a `with`, made if it is not there. The function given raises once that is lost.

    Raises:
        UserError: another job owns it, or it cannot be written.
    """
    if not out.is_local:
        claim = Claim(out.child(CLAIMS), out.uri)
        claim.take()
        try:
            yield claim.require
        finally:
            claim.release()
        return
    lock = FileLock(os.path.join(out.path, LOCK), timeout=0)
    try:
        os.makedirs(out.path, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise _busy(out.uri) from None
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"Cannot write to '{out.uri}': there is a file in its place. Give a folder.") from None
    except OSError as error:
        raise UserError(f"Cannot write to '{out.uri}': {error.strerror or error}. Choose another place.") from None
    try:
        yield lambda: None
    finally:
        lock.release()


def _busy(uri: str, who: str = "") -> UserError:
    return UserError(f"Another job{who} writes predictions into '{uri}' now. Wait until it has ended, or choose another place.")


class Claim:
    """A claim on storage without locks, written again by a thread while it is held."""

    def __init__(self, folder: Storage, uri: str) -> None:
        self._folder, self._uri = folder, uri
        self._name = uuid.uuid4().hex
        self._state, self._beats, self._lost = "asks", 0, False
        self._ended = threading.Event()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name="claim", daemon=True)

    def take(self) -> None:
        """Become the owner.

        Raises:
            UserError: another job is, or it cannot be written here.
        """
        with self._writing:
            self._write()
        self._thread.start()
        try:
            for _ in range(_ATTEMPTS):
                living = self._living()
                if not living:
                    with self._writing:
                        self._state = "owns"
                        self._write()
                    return
                owner = next((claim for claim in living if claim.get("state") == "owns"), None)
                if owner:
                    raise _busy(self._uri, f" (process {owner.get('pid')} on {owner.get('host')})")
                with self._writing:  # both step back; whoever comes first after a pause of chance takes it
                    self._remove(self._name)
                    time.sleep(random.uniform(0.1, 1.5))
                    self._write()
            raise _busy(self._uri)
        except BaseException:
            self.release()
            raise

    def require(self) -> None:
        """Check that this job is still the owner.

        Raises:
            UserError: another job took its place.
        """
        if self._lost:
            raise UserError(
                f"'{self._uri}' was taken over by another job, which saw no sign of this one for a while. "
                "What was written is whole; start again when the other has ended."
            )

    def release(self) -> None:
        """Give the place back."""
        self._ended.set()
        with self._writing:
            self._remove(self._name)

    def _write(self) -> None:
        self._beats += 1
        content = {"state": self._state, "beats": self._beats, **_this_process()}
        self._folder.child(self._name).write_bytes(json.dumps(content).encode())

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with self._writing, contextlib.suppress(StorageError):  # storage that fails now may answer the next time
                if self._ended.is_set():
                    return
                if self._state == "owns" and self._name not in self._names():
                    self._lost = True
                    return
                self._write()

    def _names(self) -> list[str]:
        inner = fsspec_of(self._folder.filesystem)
        if inner is not None:
            inner.invalidate_cache()  # else it tells what it has listed before
        return self._folder.names()

    def _read(self, name: str) -> dict[str, object]:
        try:
            content = json.loads(self._folder.child(name).read_bytes())
        except (StorageError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _living(self) -> list[dict[str, object]]:
        """The claims of others that are alive; those of the dead are removed."""
        others = {name: self._read(name) for name in self._names() if name != self._name}
        for name in [name for name, claim in others.items() if _is_dead(claim)]:
            self._remove(name)
            del others[name]
        living, deadline = [], time.monotonic() + _STILL * BEAT_S
        here = _host()
        while others and time.monotonic() < deadline:
            for name, claim in list(others.items()):
                now = self._read(name)
                if not now:
                    del others[name]
                elif now != claim or now.get("host") == here:
                    living.append(now)
                    del others[name]
            if others and not living:
                time.sleep(BEAT_S / 5)
            elif living:
                return living
        for name in others:
            self._remove(name)
        return living

    def _remove(self, name: str) -> None:
        with contextlib.suppress(StorageError):
            self._folder.child(name).delete()


def _host() -> str:
    """This machine, and the container in it whose process ids ours is one of."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def _this_process() -> dict[str, object]:
    return {"host": _host(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def _is_dead(claim: dict[str, object]) -> bool:
    """Whether the process of a claim is known to have ended, being one of this machine's."""
    pid, started = claim.get("pid"), claim.get("started")
    if claim.get("host") != _host() or not isinstance(pid, int) or not isinstance(started, float):
        return False
    try:
        return abs(psutil.Process(pid).create_time() - started) > 1
    except psutil.NoSuchProcess:
        return True
