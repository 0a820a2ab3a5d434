"""File systems of fsspec (sftp, smb, http, memory, ...), wrapped for pyarrow, and what only some of them can do."""

from __future__ import annotations

import errno
import re
from typing import Any

import pyarrow.fs as pafs

from cluster.redaction import printable
from data_pipeline.storage.errors import StorageError
from data_pipeline.storage.uris import Uri, decoded


def fsspec_filesystem(parts: Uri) -> tuple[pafs.FileSystem, str]:
    """The file system for the URI with these parts, and the URI's path in it.

    Raises:
        StorageError: an unknown scheme, a host that cannot be reached, or a query that the scheme does not take.
    """
    import fsspec

    uri, shown = str(parts), printable(str(parts))
    web = parts.scheme in ("http", "https")  # their paths are URIs, which stay as they are
    escaped = bool(re.search("[%#]", parts.authority + parts.path)) and not web
    try:
        # fsspec takes paths as they are written: names that are not plain are decoded here.
        filesystem, path = fsspec.core.url_to_fs(str(parts.with_path("" if parts.authority else "/")) if escaped else uri)
    except (ValueError, ImportError) as error:
        raise StorageError(f"Cannot open '{shown}': scheme '{parts.scheme}://' is not available here ({error}).") from None
    except OSError as error:
        raise StorageError(f"Cannot reach '{shown}': {error}. Check the host and the credentials.") from None
    if "?" in path and not web:
        raise StorageError(f"'{shown}' has a query, which {parts.scheme}:// does not take. A ? in a path is written %3F.")
    path = path.rstrip("/")
    if escaped:
        path = decoded(path + parts.path)
    elif not path and filesystem._strip_protocol(f"{parts.scheme}://{parts.authority}/x").startswith("/"):
        path = "/"
    return pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path


def fsspec_of(filesystem: pafs.FileSystem) -> Any:
    """The fsspec file system below `filesystem`, or None."""
    return filesystem.handler.fs if isinstance(filesystem, pafs.PyFileSystem) else None


def renaming(filesystem: pafs.FileSystem) -> Any:
    """The fsspec file system below `filesystem` if it renames files (sftp, smb, local), or None: object stores only copy."""
    inner = fsspec_of(filesystem)
    if inner is None:
        return None
    from fsspec import AbstractFileSystem

    return None if type(inner).mv is AbstractFileSystem.mv else inner


def rename(filesystem: Any, source: str, target: str) -> None:
    """Rename over `target`, which some servers (SMB, HDFS) refuse to do, with an error or silently."""
    try:
        filesystem.mv(source, target)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    if filesystem.exists(source):
        filesystem.rm_file(target)
        filesystem.mv(source, target)
