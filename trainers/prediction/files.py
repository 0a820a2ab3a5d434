"""Files that prediction reads: where each is, which state of it was seen, and its bytes."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import pyarrow.fs as pafs

from data_pipeline.storage.base import Storage, StorageError, storage_errors
from trainers.prediction.names import some

_THREADS = 16  # a question to remote storage is waiting alone
# What file systems of fsspec call the state of a file, the surest first.
_STATES = (
    *("ETag", "etag", "md5Hash", "content_md5", "checksum"),
    *("mtime", "LastModified", "last_modified", "updated", "modified", "created"),
)
_T = TypeVar("_T")
_R = TypeVar("_R")


class SourceFile(NamedTuple):
    """A file to predict: its `id`, its path on `Listing.filesystems[at]` in bytes.

    `stamp` tells one state of it from another (size and time of change, or a hash); `problem` says why it is no image that can
    be read, where that is known already.
    """

    id: str
    path: bytes = b""
    stamp: str = ""
    problem: str = ""
    at: int = 0


class LeftOut(NamedTuple):
    """What is no input, and why: one of the reasons below."""

    path: str
    reason: str


NO_IMAGE, HIDDEN, SEEN, NO_FILE = "no image", "hidden folder", "link to a folder that is read already", "no file"
_SENTENCES = {
    NO_IMAGE: ("1 file is no image", "{} files are no images"),
    HIDDEN: ("1 hidden folder is not read", "{} hidden folders are not read"),
    SEEN: ("1 link leads to a folder that is read already", "{} links lead to folders that are read already"),
    NO_FILE: ("1 is no file (a pipe, a socket, a device)", "{} are no files (pipes, sockets, devices)"),
}


def described(left_out: Sequence[LeftOut]) -> list[str]:
    """What is left out, counted and named, a sentence for each reason."""
    sentences = []
    for reason, (one, many) in _SENTENCES.items():
        names = [entry.path for entry in left_out if entry.reason == reason]
        if names:
            sentences.append(f"{one if len(names) == 1 else many.format(f'{len(names):,}')}: {some(names)}")
    return sentences


@dataclass
class Listing:
    """The files of a folder or list, in order, and what of it is none."""

    files: list[SourceFile]
    filesystems: list[pafs.FileSystem]
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def is_local(filesystem: pafs.FileSystem) -> bool:
    """Whether paths are this machine's own."""
    return isinstance(filesystem, pafs.LocalFileSystem)


def stamp_of(info: os.stat_result | pafs.FileInfo | dict[str, Any]) -> str:
    """The state of a file, from what its listing says; S3 through pyarrow gives size and time of change, not the ETag."""
    if isinstance(info, os.stat_result):
        return f"{info.st_size}-{info.st_mtime_ns}"
    if isinstance(info, pafs.FileInfo):
        return f"{info.size}-{info.mtime_ns}"
    return f"{info.get('size')}-" + next((str(info[key]) for key in _STATES if info.get(key)), "")


def read_file(filesystem: pafs.FileSystem, path: bytes, max_bytes: int | None = None) -> bytes:
    """The bytes of a file, the first `max_bytes` of them or all.

    Raises:
        StorageError: it cannot be read.
    """
    text = path.decode(errors="surrogateescape")
    with storage_errors(Storage(text, filesystem, text)):
        if is_local(filesystem):
            with open(path, "rb") as file:
                return file.read(-1 if max_bytes is None else max_bytes)
        with filesystem.open_input_stream(text) as stream:
            return bytes(stream.read() if max_bytes is None else stream.read(max_bytes))


def read_or_problem(filesystem: pafs.FileSystem, path: bytes) -> tuple[bytes, str]:
    """The bytes of a file, or none of them and why: a row of its own with that as its error.

    Raises:
        StorageError: the network or an overloaded server; another attempt may succeed, so no row is made of that.
    """
    try:
        return read_file(filesystem, path), ""
    except StorageError as error:
        if error.transient:
            raise
        return b"", "does not exist" if error.missing else reason_of(error)


def reason_of(error: BaseException) -> str:
    """Why a file of this machine or of a server cannot be read, without its name, which stands beside it."""
    cause = error.__cause__ if isinstance(error, StorageError) and error.__cause__ is not None else error
    if isinstance(cause, PermissionError):
        return "no permission to read it"
    if isinstance(cause, IsADirectoryError):
        return "is a folder"
    if isinstance(cause, OSError) and cause.strerror:
        return f"cannot be read: {cause.strerror}"
    return f"cannot be read: {error}"


def in_threads(function: Callable[[_T], _R], items: Sequence[_T]) -> Iterable[_R]:
    """`function` of each item, in order; several at once where there are many."""
    if len(items) < 4:
        return map(function, items)
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, items, chunksize=1))


def joined(folder: str, name: str, filesystem: pafs.FileSystem) -> str:
    """The path of `name` in `folder`; a server knows no `.` and `..`, so they are worked out here."""
    path = posixpath.join(folder, name)
    return path if is_local(filesystem) else posixpath.normpath(path)
