"""Scratch folders of a process, gone with it: at its end, at an error, at Ctrl-C; after a kill the next command removes them.

All of a process lie in one folder of the system's temporary ones, whose file `owner` it keeps locked. A lock ends with its
process, however that ends: a folder whose lock is free has no owner any more.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from cluster.signals import before_a_sudden_end

PREFIX = "inkray-scratch-"
OWNER = "owner"
SHARED_MEMORY = Path("/dev/shm")
YOUNG_S = 60.0  # a folder without an owner may be about to get one

_lock = threading.Lock()
_roots: dict[int, Path] = {}  # of this process, by its number: a forked child has a root of its own


@contextlib.contextmanager
def scratch_folder(purpose: str) -> Iterator[Path]:
    """A fresh folder for the time of a `with`; its name tells its `purpose`."""
    folder = lasting_scratch(purpose)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def lasting_scratch(purpose: str) -> Path:
    """A fresh folder that lasts until it is removed, or to the end of this process."""
    return Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=_root()))


def sweep() -> None:
    """Remove what processes of this user left that are no more; what somebody else uses or owns stays.

    That are scratch folders, and the contents of the memory cache of `data_pipeline.stream.cache`.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(tempfile.gettempdir())):
            if entry.name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    _remove_if_left(Path(entry.path))
    with contextlib.suppress(OSError):
        _empty_if_left(SHARED_MEMORY / f"inkray-cache-{os.getuid()}")


def _root() -> Path:
    with _lock:
        root = _roots.get(os.getpid())
        if root is None or not root.is_dir():
            sweep()
            while True:
                root = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getuid()}-"))
                # Not closed: the lock lasts as long as this file is open.
                owner = os.open(root / OWNER, os.O_CREAT | os.O_RDWR, 0o600)
                fcntl.flock(owner, fcntl.LOCK_EX)
                if os.fstat(owner).st_nlink:
                    break
                os.close(owner)  # another's sweep came between the file and its lock: the folder is gone
            if not _roots:
                atexit.register(remove)
                before_a_sudden_end(remove)
            _roots[os.getpid()] = root
        return root


def remove() -> None:
    """Remove all scratch folders of this process."""
    root = _roots.pop(os.getpid(), None)
    if root is not None:
        shutil.rmtree(root, ignore_errors=True)


def _remove_if_left(root: Path) -> None:
    status = root.lstat()
    if status.st_uid != os.getuid() or root.is_symlink():
        return
    try:
        owner = os.open(root / OWNER, os.O_RDWR)
    except FileNotFoundError:
        # Its owner has yet to make the file, or ended before it could.
        if time.time() - status.st_mtime > YOUNG_S:
            shutil.rmtree(root, ignore_errors=True)
        return
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # it lives
    else:
        shutil.rmtree(root, ignore_errors=True)
    finally:
        os.close(owner)


def _empty_if_left(cache: Path) -> None:
    """Empty a folder whose file `users` each process that uses it keeps locked, if none does. It stays, for who comes now."""
    users = os.open(cache / "users", os.O_RDWR | os.O_NOFOLLOW)
    try:
        if os.fstat(users).st_uid != os.getuid():
            return
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for entry in cache.glob("??"):
            shutil.rmtree(entry, ignore_errors=True)
        (cache / "size").unlink(missing_ok=True)
    finally:
        os.close(users)
