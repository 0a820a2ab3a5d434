"""Cache of row groups on a machine: in a folder of its disk, or of its memory. Many processes may use one folder at a time.

An entry is an Arrow file named after its contents: the digests of the row group in `dataset.json`, and the columns. It is
checked against them when it is read, so a file that was damaged is fetched again. (Entries of datasets without such digests are
named after the shard's SHA-256 and the row group, and begin with a checksum.) An entry appears whole, by a rename. A process
that lacks one takes a lock for it first, so that it is fetched once a machine. When the folder exceeds its limit, the least
recently used entries are removed.

Users share a folder as its permissions say, which everything in it has as well; a configured folder that does not exist is made
for all users of the machine.
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
from data_pipeline.storage.durable import publish_file
from data_pipeline.stream.config import CacheConfig

_CHECKSUM_BYTES = hashlib.sha256().digest_size
_LOCKS = 256
_KEPT_SHARE = 0.9  # of the limit, when entries are removed: not one at a time
SHARED_MEMORY = Path("/dev/shm")


Validity = Callable[[pa.Table], bool]


class Cache:
    """Row groups in `folder`, at most `limit` bytes of them. A missing folder is made with the permissions `mode`."""

    def __init__(self, folder: Path, limit: int, mode: int = 0o777) -> None:
        self.folder, self.limit = folder, limit
        try:
            if not folder.is_dir():
                if not folder.parent.exists():
                    folder.parent.mkdir(parents=True, exist_ok=True)
                self._make_folder(folder, mode)
            self._mode = folder.stat().st_mode & 0o7777
            self._make_folder(folder / "locks", self._mode)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(
                f"The cache cannot use '{folder}' ({error.strerror}). Set stream.cache.directory to a folder to write to."
            ) from None

    def get(self, key: str, fetch: Callable[[], pa.Table], is_valid: Validity | None = None) -> tuple[pa.Table, bool]:
        """The entry `key`, and whether it was cached; else it is fetched, once, and stored, unless the disk is full.

        `is_valid` tells of a cached table whether it is the one that `key` names.
        """
        table = self._load(key, is_valid)
        if table is not None:
            return table, True
        lock = self._lock(f"{int(key[:8], 16) % _LOCKS:02x}")
        try:
            lock.acquire()
        except (OSError, NotImplementedError):  # a full disk, or one without locks: do without the cache
            return fetch(), False
        with lock:
            lock.release()  # `with` has taken it once more
            table = self._load(key, is_valid)  # another process may have fetched it in the meantime
            if table is not None:
                return table, True
            table = fetch()
            with contextlib.suppress(OSError, NotImplementedError):
                self._store(key, table, checksummed=is_valid is None)
        return table, False

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.arrow"

    def _lock(self, name: str) -> FileLock:
        return FileLock(self.folder / "locks" / name, mode=self._mode & 0o666)

    def _load(self, key: str, is_valid: Validity | None) -> pa.Table | None:
        file = self._file(key)
        try:
            data = file.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # a file of another user that only this user may write
            os.utime(file)
        table = _table(key, data, is_valid)
        if table is None:
            with contextlib.suppress(OSError):
                file.unlink()
        return table

    def _store(self, key: str, table: pa.Table, checksummed: bool) -> None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        content = memoryview(sink.getvalue())
        size = _CHECKSUM_BYTES + len(content)
        if size > self.limit:
            return
        with self._lock("size"):
            self._make_room(size)
            file = self._file(key)
            self._make_folder(file.parent, self._mode)
            self._publish(file, _checksum(key, content) if checksummed else bytes(_CHECKSUM_BYTES), content)
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
            with contextlib.suppress(OSError):  # another user's may have to stay
                file.unlink(missing_ok=True)
                total -= bytes_
        self._write_size(total)

    def _size(self) -> int:
        try:
            return int((self.folder / "size").read_text())
        except (OSError, ValueError):  # the first entry; or a machine that lost power while it was written
            return sum(file.stat().st_size for file in self.folder.glob("??/*"))

    def _write_size(self, size: int) -> None:
        self._publish(self.folder / "size", str(size).encode())

    def _publish(self, file: Path, *contents: bytes | memoryview) -> None:
        """Write a file with the permissions of the cache. It may be lost with the machine's power: it is checked when read."""
        publish_file(file, *contents, flush="no", mode=self._mode & 0o666)

    @staticmethod
    def _make_folder(folder: Path, mode: int) -> None:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(mode)  # whatever the umask is


def _checksum(key: str, content: memoryview) -> bytes:
    state = hashlib.sha256(key.encode())
    state.update(content)
    return state.digest()


def _table(key: str, data: bytes, is_valid: Validity | None) -> pa.Table | None:
    """The table of an entry; None if it is damaged or of another key."""
    content = memoryview(data)[_CHECKSUM_BYTES:]
    if is_valid is None and _checksum(key, content) != data[:_CHECKSUM_BYTES]:
        return None
    try:
        table = pa.ipc.open_stream(pa.py_buffer(content)).read_all()
        if is_valid is None:
            return table
        table.validate(full=True)
        return table if is_valid(table) else None
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None


def entry_key(content: str, columns: list[str]) -> str:
    """The name of the entry that holds the columns of a row group; `content` is unique to it."""
    return hashlib.sha256(f"{content} {columns}".encode()).hexdigest()


_opened: dict[tuple[str, str, int], Cache | None] = {}
_leaving: list[Callable[[], None]] = []


def open_cache(config: CacheConfig) -> Cache | None:
    """The cache that `config` describes, one in each process; None if it is off.

    Raises:
        UserError: its folder cannot be used, or this system has no shared memory.
    """
    key = (config.location, config.directory, config.limit_mb)
    if key not in _opened:
        limit = config.limit_mb * 1_000_000
        match config.location:
            case "off":
                _opened[key] = None
            case "disk":
                folder = absolute(config.directory or "~/.cache/inkray")
                _opened[key] = Cache(folder, limit, 0o777 if config.directory else 0o700)
            case "memory":
                _opened[key] = _memory_cache(limit)
    return _opened[key]


@atexit.register
def leave_caches() -> None:
    """Empty caches in memory that no other process uses. A process that ends without an exit calls it itself."""
    for leave in _leaving:
        leave()


def _memory_cache(limit: int) -> Cache:
    """A cache in the machine's shared memory; it takes at most half of what is free, since Ray's object store is there as well.

    The last process that uses it empties it. One that was killed cannot: what it left is removed when the next run begins.
    """
    if not SHARED_MEMORY.is_dir():
        raise UserError(f"stream.cache.location=memory needs {SHARED_MEMORY}, which this system lacks. Use disk.")
    folder = SHARED_MEMORY / f"inkray-cache-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise UserError(f"The cache cannot use '{folder}' ({error.strerror}). Use stream.cache.location=disk.") from None
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UserError(
            f"The cache cannot use '{folder}': it belongs to another user. Remove it, or use stream.cache.location=disk."
        )
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

    _leaving.append(clear)
    return Cache(folder, min(limit, shutil.disk_usage(SHARED_MEMORY).free // 2))
