"""Claims: the exclusive use of a folder. Of two processes that train, predict or write into one, the second is refused.

On a disk the claim is a lock that the operating system holds for a living process, so that what a killed one leaves can be
taken at once. Object stores and file servers get a lease (`data_pipeline.storage.lease`): a file that its holder renews,
and that is dead when it has not been renewed for a while.
"""

from __future__ import annotations

import contextlib
import errno
import json
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from cluster.errors import UserError
from data_pipeline.storage.base import Storage, storage_errors
from data_pipeline.storage.holder import Holder
from data_pipeline.storage.lease import Lease

INFO, LOCK = ".claim", ".claim.lock"  # of a folder on a disk: who holds it, and the lock itself
RETRY_S = 0.5  # between two attempts
_WITHOUT_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS}  # network disks that are mounted without


class InUse(UserError):
    """A folder that another living process uses."""


class Claim:
    """A claim of a folder. `taken_over` describes a previous holder that died without releasing it; empty if there was none."""

    def __init__(self, storage: Storage, taken_over: str = "", lease: Lease | None = None) -> None:
        self._storage, self._lease, self.taken_over = storage, lease, taken_over

    def check(self) -> None:
        """Check that the folder still belongs to this process: a lease is lost when it could not be renewed. Call it regularly.

        Raises:
            InUse: another process has taken it over.
        """
        if self._lease is not None and self._lease.lost:
            raise InUse(
                f"'{self._storage.uri}' was taken over by {self._lease.lost}: for {self._lease.dead_after_s:g} s this process "
                "could not show that it lives. It ends here, so that two do not work in one folder."
            )


@contextlib.contextmanager
def claim(storage: Storage, what: str, wait_s: float = 0.0) -> Iterator[Claim]:
    """Claim the folder `storage` for a `with` block; `what` names the use in messages to others, such as `training run`.

    Claims exclude each other, not readers, also within a process. They are released at the end of the block; the claim of a
    process that dies is taken over by the next, and `Claim.taken_over` says so. `wait_s` is how long to wait for another
    claim to end.

    Raises:
        InUse: a living process has it: who, since when, and what to do.
        StorageError: the storage cannot be written.
    """
    holder = Holder.this(what)
    taken = _taken(storage, holder, time.monotonic() + wait_s)
    if isinstance(taken, FileLock):
        with _held(taken, storage.child(INFO), holder) as dead:
            yield Claim(storage, _taken_over(storage, dead))
        return
    try:
        yield Claim(storage, _taken_over(storage, taken.dead), taken)
    finally:
        taken.release()


def _taken(storage: Storage, holder: Holder, deadline: float) -> FileLock | Lease:
    """Acquire the lock or the lease of a folder, trying until `deadline`."""
    while True:
        try:
            return _lock(storage) or _lease(storage, holder)
        except InUse:
            if time.monotonic() >= deadline:
                raise
        time.sleep(RETRY_S)


def _lease(storage: Storage, holder: Holder) -> Lease:
    lease = Lease(storage, holder)
    rival, age_s = lease.acquire()
    if rival is not None:
        raise InUse(
            f"{_in_use(storage, rival)} Its last sign of life is {age_s:.0f} s old. Wait for its end, or stop it there. "
            f"If it is gone already, start again in {max(1.0, lease.dead_after_s - age_s):.0f} s."
        )
    return lease


def _lock(storage: Storage) -> FileLock | None:
    """Acquire the lock of a folder on a disk; None where there are no locks, on a disk or elsewhere.

    The lock's file stays when the lock is released: one that is removed may be locked by some and made again by others.
    """
    if not storage.is_local:
        return None
    lock = FileLock(storage.child(LOCK).path, mode=0o666, thread_local=False)
    with storage_errors(storage):
        Path(storage.path).mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise InUse(f"{_in_use(storage, _read(storage.child(INFO), 1.0))} Wait for its end, or stop it.") from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise
            return None
    return lock


@contextlib.contextmanager
def _held(lock: FileLock, info: Storage, holder: Holder) -> Iterator[list[Holder]]:
    """Record in `info` who holds the lock; yields the previous holder if it died without releasing it."""
    try:
        dead = _read(info)
        info.write_bytes(holder.to_json())
        yield [dead] if dead else []
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone, or its disk; the lock ends anyway
            Path(info.path).unlink(missing_ok=True)
        lock.release()


def _read(info: Storage, patience_s: float = 0.0) -> Holder | None:
    """Read who holds a claim. It is written a moment after the lock is acquired; wait for it for up to `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        with contextlib.suppress(OSError, UserError, ValueError, TypeError, KeyError):
            return Holder.from_json(json.loads(Path(info.path).read_bytes()))
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.05)


def _in_use(storage: Storage, holder: Holder | None) -> str:
    return f"'{storage.uri}' is in use by {holder or 'another process'}."


def _taken_over(storage: Storage, dead: list[Holder]) -> str:
    """The message about holders that died without releasing a folder."""
    return f"'{storage.uri}' was left by {dead[-1]}, which has died: it is taken over." if dead else ""
