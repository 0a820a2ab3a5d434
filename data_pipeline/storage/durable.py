"""Files of a local disk that survive a loss of power: flushed before they are seen, and their names with them."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path


def publish_file(path: Path, data: bytes, durable_name: bool = True) -> None:
    """Write `path` so that under its name the old or the new contents are found, never a part, whatever happens.

    Without `durable_name` the caller flushes the folder, once for many files.
    """
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if durable_name:
        flush_folder(path.parent)


def make_durable_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing; their names are on the disk when this returns."""
    missing = [folder, *folder.parents]
    missing = missing[: next(index for index, path in enumerate(missing) if path.is_dir() or path == path.parent)]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        flush_folder(made.parent)


def flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk; on a file system that cannot do this for folders, as well as it does itself."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
