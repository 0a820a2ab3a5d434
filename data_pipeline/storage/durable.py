"""Files of a local disk that appear whole and survive a loss of power: flushed before they are seen, names included."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import Literal

Flush = Literal["name", "contents", "no"]


def publish_file(path: Path, *contents: bytes | memoryview, flush: Flush = "name", mode: int | None = None) -> None:
    """Write `path` so that under its name the old or the new contents are found, never a part, whatever happens.

    `flush`: what survives a loss of power once this returns. The file under its name; or its contents, where the caller flushes
    the folder, once for many files; or nothing, for a file that can be replaced. `mode`: its permissions, whatever the umask.
    """
    # A name that nobody else has and that does not exist: no link is followed.
    partial = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            for content in contents:
                file.write(content)
            if flush != "no":
                file.flush()
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    if flush == "name":
        flush_folder(path.parent)


def make_durable_folder(folder: Path) -> None:
    """Make a folder and the missing ones above it; their names are on the disk when this returns."""
    missing = [folder, *folder.parents]
    missing = missing[: next(index for index, path in enumerate(missing) if path.is_dir() or path == path.parent)]
    folder.mkdir(parents=True, exist_ok=True)
    for made in reversed(missing):
        flush_folder(made.parent)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk, where the file system can do that for folders."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
