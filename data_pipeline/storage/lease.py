"""Leases: claims of a folder on storage without locks (S3, sftp), as files that their writers renew.

A process that wants the folder writes a file of its own and then lists all. It holds the folder if there is no other file: of
two that begin at once at least one lists after both have written, so two never hold it. Of those that find each other before
either holds it, the one whose name sorts first waits and the others withdraw: one wins. Ages are differences between two times
of the storage's own clock. A holder that was suspended, or cut off, for longer than a lease lasts finds a rival and ends
(`lost`).
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from data_pipeline.storage.base import Storage, StorageError, storage_errors
from data_pipeline.storage.holder import Holder

FOLDER = ".claims"
RENEW_S = 15.0
DEAD_AFTER_S = 90.0
CONTEST_S = 10.0  # how long one of several that begin at once waits for the others to withdraw
LOOK_S = 0.2


@dataclass(frozen=True)
class _Entry:
    """The file of another process: its holder, whether it holds the folder or wants it, and its age."""

    token: str
    holder: Holder
    holding: bool
    age_s: float


class Lease:
    """A lease that a thread renews. `lost` names the process that took it over, if any; `dead` are the holders before."""

    def __init__(self, folder: Storage, holder: Holder, renew_s: float = RENEW_S, dead_after_s: float = DEAD_AFTER_S) -> None:
        self._folder, self._holder, self._token = folder.child(FOLDER), holder, uuid.uuid4().hex
        self._renew_s, self.dead_after_s = renew_s, dead_after_s
        self.dead: list[Holder] = []
        self.lost = ""
        self._beaten: set[str] = set()  # tokens of the dead: what they may still write counts for nothing
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="inkray-lease", daemon=True)

    def acquire(self) -> tuple[Holder | None, float]:
        """Acquire the folder: (None, 0) on success, else its holder and how many seconds ago that one last renewed its lease.

        Raises:
            StorageError: the storage cannot be read or written.
        """
        try:
            self._write(holding=False)
            rival = self._contest()
            if rival is None:
                self._write(holding=True)
                self._thread.start()
                return None, 0.0
        except BaseException:
            self._remove(self._token)
            raise
        self._remove(self._token)
        return rival.holder, rival.age_s

    def release(self) -> None:
        """Release the folder."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join(10)
        self._remove(self._token)

    def _contest(self) -> _Entry | None:
        """The entry that takes precedence, or None once there is no other."""
        deadline = time.monotonic() + CONTEST_S
        while True:
            entries = self._others()
            for entry in entries:
                if self._is_dead(entry):
                    self._beaten.add(entry.token)
                    self.dead += [entry.holder] if entry.holding else []
                    self._remove(entry.token)
            alive = [entry for entry in entries if entry.token not in self._beaten]
            if not alive:
                return None
            first = min(alive, key=lambda entry: (not entry.holding, entry.token))
            if first.holding or first.token < self._token or time.monotonic() > deadline:
                return first
            time.sleep(LOOK_S)

    def _is_dead(self, entry: _Entry) -> bool:
        return entry.age_s > self.dead_after_s or entry.holder.is_known_dead()

    def _renew(self) -> None:
        while not self._ended.wait(self._renew_s) and not self.lost:
            with contextlib.suppress(StorageError):  # it may come back before the lease is over
                entries = self._others()
                for entry in entries:
                    if entry.token in self._beaten:
                        self._remove(entry.token)
                    elif entry.holding:
                        self.lost = str(entry.holder)
                if not self.lost and not self._folder.child(self._token).exists():
                    self.lost = "another process, which has ended since"
                if not self.lost and not self._ended.is_set():
                    self._write(holding=True)

    def _write(self, holding: bool) -> None:
        content = self._holder.to_json(holding=holding, renewed=time.time())
        self._folder.child(self._token).write_bytes(content)

    def _remove(self, token: str) -> None:
        with contextlib.suppress(StorageError):
            self._folder.child(token).delete()

    def _others(self) -> list[_Entry]:
        with storage_errors(self._folder):
            selector = pafs.FileSelector(self._folder.path, allow_not_found=True)
            infos = [info for info in self._folder.filesystem.get_file_info(selector) if info.is_file]
        now = next((info.mtime_ns for info in infos if info.base_name == self._token), None)
        found = [self._entry(info, now) for info in infos if info.base_name != self._token and "." not in info.base_name]
        return [entry for entry in found if entry is not None]

    def _entry(self, info: pafs.FileInfo, now: int | None) -> _Entry | None:
        """Read the file of another process; None if it has gone since it was listed. By our clock, if the storage has none."""
        try:
            content: dict[str, Any] = json.loads(self._folder.child(info.base_name).read_bytes())
            holder, holding, renewed = Holder.from_json(content), bool(content["holding"]), float(content["renewed"])
        except StorageError as error:
            if error.missing:
                return None
            raise
        except (ValueError, TypeError, KeyError):
            # On storage that shows a file while it is written: of one who lives. It does not say that it holds the folder, else
            # all of several that begin at once could withdraw before each other.
            holder, holding, renewed = Holder("process", "unknown", 0, "unknown", "", 0.0), False, time.time()
        timed = now is not None and info.mtime_ns is not None
        age_s = (now - info.mtime_ns) / 1e9 if timed else time.time() - renewed
        return _Entry(info.base_name, holder, holding, max(0.0, age_s))
