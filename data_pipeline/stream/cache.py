"""Row groups kept on a machine: in a folder of its disk, or of its memory. Many processes may use one folder at a time.

An entry is an Arrow file named after its contents: the digests that `dataset.json` has of the row group, and the columns. What
comes out is checked against them, so whatever happened to a file, it is fetched again rather than believed. (Entries of
datasets without such digests are named after the shard's SHA-256 and the row group, and have a checksum in front.) An entry
appears whole, by a rename. Whoever lacks one takes a lock for it first, so that it is fetched once a machine. When the folder
grows over its limit, what was used longest ago goes.

Users share a folder as its permissions say, which all that is in it has, too; one that is named and does not exist is made for
all users of the machine.
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


Test = Callable[[pa.Table], bool]


class Cache:
    """Row groups in `folder`, `limit` bytes of them at most. A folder that is missing is made with the permissions `mode`."""

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

    def get(self, key: str, fetch: Callable[[], pa.Table], good: Test | None = None) -> tuple[pa.Table, bool]:
        """The entry `key`, and whether it was here; else it is fetched, once, and kept, unless the disk is full.

        `good` says of a table that was here whether it is the one that `key` names.
        """
        table = self._load(key, good)
        if table is not None:
            return table, True
        lock = self._lock(f"{int(key[:8], 16) % _LOCKS:02x}")
        try:
            lock.acquire()
        except (OSError, NotImplementedError):  # a disk without room, or one that cannot lock: do without
            return fetch(), False
        with lock:
            lock.release()  # `with` has taken it once more
            table = self._load(key, good)  # another process may have fetched it in the meantime
            if table is not None:
                return table, True
            table = fetch()
            with contextlib.suppress(OSError, NotImplementedError):
                self._store(key, table, summed=good is None)
        return table, False

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.arrow"

    def _lock(self, name: str) -> FileLock:
        return FileLock(self.folder / "locks" / name, mode=self._mode & 0o666)

    def _load(self, key: str, good: Test | None) -> pa.Table | None:
        file = self._file(key)
        try:
            data = file.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # a file of another user, who keeps it to be written by nobody else
            os.utime(file)
        table = _table(key, data, good)
        if table is None:
            with contextlib.suppress(OSError):
                file.unlink()
        return table

    def _store(self, key: str, table: pa.Table, summed: bool) -> None:
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
            self._publish(file, _checksum(key, content) if summed else bytes(_CHECKSUM_BYTES), content)
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
            with contextlib.suppress(OSError):  # one that is another user's may have to stay
                file.unlink(missing_ok=True)
                total -= bytes_
        self._write_size(total)

    def _size(self) -> int:
        try:
            return int((self.folder / "size").read_text())
        except (OSError, ValueError):  # the first entry; or a machine that went down while it was written
            return sum(file.stat().st_size for file in self.folder.glob("??/*"))

    def _write_size(self, size: int) -> None:
        self._publish(self.folder / "size", str(size).encode())

    def _publish(self, file: Path, *contents: bytes | memoryview) -> None:
        """A file that appears whole, with the permissions of the cache. Its first name is nobody's: no link is followed."""
        descriptor, partial = tempfile.mkstemp(dir=file.parent, prefix=f"{file.stem[:8]}.")
        try:
            with open(descriptor, "wb") as stream:
                os.fchmod(descriptor, self._mode & 0o666)
                for content in contents:
                    stream.write(content)
            os.rename(partial, file)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(partial)
            raise

    @staticmethod
    def _make_folder(folder: Path, mode: int) -> None:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            folder.chmod(mode)  # whatever the umask


def _checksum(key: str, content: memoryview) -> bytes:
    state = hashlib.sha256(key.encode())
    state.update(content)
    return state.digest()


def _table(key: str, data: bytes, good: Test | None) -> pa.Table | None:
    """The table of an entry; None if it is damaged or another one."""
    content = memoryview(data)[_CHECKSUM_BYTES:]
    if good is None and _checksum(key, content) != data[:_CHECKSUM_BYTES]:
        return None
    try:
        table = pa.ipc.open_stream(pa.py_buffer(content)).read_all()
        if good is None:
            return table
        table.validate(full=True)
        return table if good(table) else None
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None


def entry_key(content: str, columns: list[str]) -> str:
    """The name of the entry that holds the columns of a row group; `content` is what no other has."""
    return hashlib.sha256(f"{content} {columns}".encode()).hexdigest()


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
                folder = absolute(config.directory or "~/.cache/inkray")
                _opened[key] = Cache(folder, limit, 0o777 if config.directory else 0o700)
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
