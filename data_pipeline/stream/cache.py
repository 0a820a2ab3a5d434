"""Row groups kept on a machine: in a folder of its disk, or of its memory. Many processes may use one folder at a time.

An entry is an Arrow file named after its contents (the shard's SHA-256, the row group, the columns), with a checksum in
front. It appears whole, by a rename. Whoever lacks one takes a lock for it first, so that it is fetched once a machine. When
the folder grows over its limit, what was used longest ago goes.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from filelock import FileLock

from cluster.errors import UserError
from cluster.paths import absolute
from data_pipeline.stream.config import CacheConfig

_CHECKSUM_BYTES = hashlib.sha256().digest_size
_LOCKS = 256
_KEPT_SHARE = 0.9  # of the limit, once something has to go: not one entry at a time
SHARED_MEMORY = Path("/dev/shm")


class Cache:
    """Row groups in `folder`, `limit` bytes of them at most."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        try:
            (folder / "locks").mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(
                f"The cache cannot use '{folder}' ({error.strerror}). Set stream.cache.directory to a folder to write to."
            ) from None

    def get(self, key: str, fetch: Callable[[], pa.Table]) -> tuple[pa.Table, bool]:
        """The entry `key`, and whether it was here; else it is fetched, once, and kept, unless the disk is full."""
        table = self._load(key)
        if table is not None:
            return table, True
        lock = FileLock(self.folder / "locks" / f"{int(key[:8], 16) % _LOCKS:02x}", mode=0o666)
        try:
            lock.acquire()
        except (OSError, NotImplementedError):  # a disk without room, or one that cannot lock: do without
            return fetch(), False
        with lock:
            lock.release()  # `with` has taken it once more
            table = self._load(key)  # another process may have fetched it in the meantime
            if table is not None:
                return table, True
            table = fetch()
            with contextlib.suppress(OSError, NotImplementedError):
                self._store(key, table)
        return table, False

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.arrow"

    def _load(self, key: str) -> pa.Table | None:
        file = self._file(key)
        try:
            data = file.read_bytes()
            os.utime(file)
        except OSError:
            return None
        content = memoryview(data)[_CHECKSUM_BYTES:]
        if hashlib.sha256(content).digest() != data[:_CHECKSUM_BYTES]:
            with contextlib.suppress(OSError):
                file.unlink()
            return None
        return pa.ipc.open_stream(pa.py_buffer(content)).read_all()

    def _store(self, key: str, table: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        content = memoryview(sink.getvalue())
        checksum, size = hashlib.sha256(content).digest(), _CHECKSUM_BYTES + len(content)
        if size > self.limit:
            return
        with FileLock(self.folder / "locks" / "size", mode=0o666):
            self._make_room(size)
            file = self._file(key)
            file.parent.mkdir(exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}")
            try:
                with partial.open("wb") as stream:
                    stream.write(checksum)
                    stream.write(content)
                partial.rename(file)
            except OSError:
                partial.unlink(missing_ok=True)
                raise
            self._write_size(self._size() + size)

    def _make_room(self, size: int) -> None:
        if self._size() + size <= self.limit:
            return
        entries = []
        for file in self.folder.glob("??/*"):
            with contextlib.suppress(OSError):
                status = file.stat()
                entries.append((status.st_mtime_ns, status.st_size, file))
        total = sum(entry[1] for entry in entries)
        for _, bytes_, file in sorted(entries):
            if total + size <= self.limit * _KEPT_SHARE:
                break
            file.unlink(missing_ok=True)
            total -= bytes_
        self._write_size(total)

    def _size(self) -> int:
        try:
            return int((self.folder / "size").read_text())
        except (OSError, ValueError):  # the first entry; or a machine that went down while it was written
            return sum(file.stat().st_size for file in self.folder.glob("??/*"))

    def _write_size(self, size: int) -> None:
        (self.folder / "size").write_text(str(size))


def entry_key(sha256: str, row_group: int, columns: list[str]) -> str:
    """The name of a row group's entry."""
    return hashlib.sha256(f"{sha256} {row_group} {columns}".encode()).hexdigest()


_opened: dict[tuple[str, str, int], Cache | None] = {}


def open_cache(config: CacheConfig) -> Cache | None:
    """The cache that `config` describes, one for each process; None if it is off.

    Raises:
        UserError: its folder cannot be used, or this system has no shared memory.
    """
    key = (config.place, config.directory, config.limit_mb)
    if key not in _opened:
        limit = config.limit_mb * 1_000_000
        match config.place:
            case "off":
                _opened[key] = None
            case "disk":
                _opened[key] = Cache(absolute(config.directory or "~/.cache/inkray"), limit)
            case "memory":
                _opened[key] = _memory_cache(limit)
    return _opened[key]


def _memory_cache(limit: int) -> Cache:
    """A folder of the machine's shared memory, of which it takes half of what is free at most: Ray's object store lies there.

    The last process that uses it clears it. One that was killed cannot: what is left then goes when the next run begins.
    """
    if not SHARED_MEMORY.is_dir():
        raise UserError(f"stream.cache.place=memory needs {SHARED_MEMORY}, which this system lacks. Use disk.")
    folder = SHARED_MEMORY / f"inkray-cache-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError(f"The cache cannot use '{folder}' ({error.strerror}). Use stream.cache.place=disk.") from None
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(f"The cache cannot use '{folder}': it is somebody else's. Remove it, or use stream.cache.place=disk.")
    users = (folder / "users").open("a")

    def clear() -> None:
        """Empty the folder, if no other process uses it."""
        with contextlib.suppress(OSError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for entry in folder.glob("??"):
                shutil.rmtree(entry, ignore_errors=True)
            (folder / "size").unlink(missing_ok=True)

    clear()
    fcntl.flock(users, fcntl.LOCK_SH)

    atexit.register(clear)
    return Cache(folder, min(limit, shutil.disk_usage(SHARED_MEMORY).free // 2))
