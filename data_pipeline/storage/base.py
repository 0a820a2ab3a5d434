"""Storage of datasets, checkpoints and predictions: a directory behind a URI, on local disk, S3 or whatever fsspec opens.

A `Storage` is a file system of pyarrow and a path in it. It pickles, so tasks on other machines can open it. Its URI and its
path agree: `open_storage(storage.uri)` has the same path, whatever characters the names in it have
(`data_pipeline.storage.uris`).
On local disk, contents are flushed before they are seen under their name, so a machine that loses power leaves no file that is
empty or partial, and files appear in the order in which they were written.
A failure is one sentence that says what is wrong (endpoint, bucket, credentials, disk) and what to set.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import pyarrow.fs as pafs

from cluster.errors import UserError
from cluster.paths import absolute
from cluster.redaction import printable, redact
from data_pipeline.storage.durable import flush_folder, make_durable_folder, publish_file
from data_pipeline.storage.errors import StorageError, lacks_bucket, no_bucket, storage_errors
from data_pipeline.storage.fsspec_files import fsspec_filesystem, fsspec_of, rename, renaming
from data_pipeline.storage.s3 import s3_filesystem
from data_pipeline.storage.uris import Uri, decoded, invalid_name, is_uri, joined, parent_of, secret_in


@dataclass(frozen=True)
class Storage:
    """A directory or file: `path` of `filesystem`, which `uri` opens again anywhere.

    `uri` is what the user wrote; a path of this machine is made absolute, since other processes work in other folders.
    `endpoint` is an S3 server that is not Amazon's.
    """

    uri: str
    filesystem: pafs.FileSystem
    path: str
    endpoint: str = ""

    def child(self, *names: str) -> Storage:
        """The entry below this one; a name may hold any characters, and slashes between names.

        Raises:
            StorageError: a name that is absolute, or leads elsewhere (`..`).
        """
        for name in names:
            if problem := invalid_name(name):
                raise StorageError(f"'{printable(name)}' is no name below '{self.shown}': {problem}.")
        path = joined(self.path, names) if is_uri(self.path) else posixpath.join(self.path, *names)  # of http, a URI itself
        return Storage(joined(self.uri, names), self.filesystem, path, self.endpoint)

    def follow(self, reference: str) -> Storage:
        """The entry that `reference` names, as a file in this directory states it: a name below it, or with `..` beside it.

        On this machine a reference may be absolute, too.

        Raises:
            StorageError: it is absolute or leads above the root, on other storage.
        """
        absolute, parts = reference.startswith("/"), reference.split("/")
        if self.is_local and (absolute or ".." in parts):
            return open_storage(os.path.join(self.path, reference))
        found = self
        for part in [""] if absolute else parts:
            if part == ".." and found.parent is not found:
                found = found.parent
            elif part != ".":
                found = found.child(part)
        return found

    @property
    def parent(self) -> Storage:
        """The directory that holds this entry; of a root or a bucket, itself."""
        name = self.path.strip("/")
        if not name or (isinstance(self.filesystem, pafs.S3FileSystem) and "/" not in name):
            return self
        path = parent_of(self.path) if is_uri(self.path) else posixpath.dirname(self.path)
        return Storage(parent_of(self.uri), self.filesystem, path, self.endpoint)

    @property
    def shown(self) -> str:
        """The URI for messages, on one line."""
        return printable(self.uri)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether this is a path on this machine's disk."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def exists(self) -> bool:
        """Whether the file or directory exists.

        Raises:
            StorageError: the storage cannot be asked.
        """
        with storage_errors(self):
            if self.is_local:  # pyarrow takes no name that is not UTF-8
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    return bool(os.stat(self.path))
                return False
            return bool(self.filesystem.get_file_info(self.path).type != pafs.FileType.NotFound)

    def names(self) -> list[str]:
        """List the names of this directory's entries, sorted; empty if it does not exist.

        Raises:
            StorageError: the storage cannot be asked, or has no such bucket.
        """
        with storage_errors(self):
            if self.is_local:
                with contextlib.suppress(FileNotFoundError):
                    return sorted(os.listdir(self.path))
                return []
            infos = self.filesystem.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))
            if not infos and lacks_bucket(self):
                raise StorageError(no_bucket(self))
        return sorted(info.base_name for info in infos)

    def sizes(self) -> dict[str, int]:
        """List the files of this directory with their sizes in bytes; empty if it does not exist.

        Raises:
            StorageError: the storage cannot be asked.
        """
        with storage_errors(self):
            if self.is_local:  # pyarrow takes no name that is not UTF-8
                with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.path) as entries:
                    return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
                return {}
            infos = self.filesystem.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))
        return {info.base_name: info.size for info in infos if info.is_file}

    def read_bytes(self) -> bytes:
        """Read the whole file.

        Raises:
            StorageError: it does not exist or cannot be read.
        """
        with storage_errors(self):
            if self.is_local:
                return Path(self.path).read_bytes()
            with self.filesystem.open_input_stream(self.path) as stream:
                return bytes(stream.read())

    def write_bytes(self, data: bytes) -> None:
        """Write the whole file: a reader sees the old or the new one, never a part; on local disk also after a loss of power.

        Raises:
            StorageError: it cannot be written (no rights, no space).
        """
        self._write(data)

    def _write(self, data: bytes, durable_name: bool = True) -> None:
        with storage_errors(self):
            self.make_parent()
            if self.is_local:
                publish_file(Path(self.path), data, flush="name" if durable_name else "contents")
                return
            inner = renaming(self.filesystem)
            if inner is None:  # object stores publish on close
                with self.filesystem.open_output_stream(self.path) as stream:
                    stream.write(data)
                return
            partial = self.path.removesuffix(self.name) + f".{self.name}.{uuid.uuid4().hex[:8]}"
            try:
                with self.filesystem.open_output_stream(partial) as stream:
                    stream.write(data)
                rename(inner, partial, self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.filesystem.delete_file(partial)
                raise

    def make_parent(self) -> None:
        """Make the directory that holds this entry (object stores need none)."""
        parent = self.path.rpartition("/")[0]
        if self.is_local:
            try:
                make_durable_folder(Path(parent))
            except FileNotFoundError:  # /proc, say
                raise StorageError(f"Cannot write '{self.shown}': no folder can be made there. Choose another place.") from None
        elif parent and renaming(self.filesystem) is not None:
            self.filesystem.create_dir(parent, recursive=True)

    def delete(self) -> None:
        """Remove this directory or file, if it exists."""
        with storage_errors(self):
            if self.is_local:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    shutil.rmtree(self.path) if os.path.isdir(self.path) else os.unlink(self.path)
                return
            info = self.filesystem.get_file_info(self.path)
            if info.type == pafs.FileType.Directory:
                self.filesystem.delete_dir(self.path)
            elif info.type == pafs.FileType.File:
                self.filesystem.delete_file(self.path)

    def copy_to(self, folder: Path) -> Path:
        """Copy this directory into the local `folder` and return it."""
        with storage_errors(self):
            folder.mkdir(parents=True, exist_ok=True)
            pafs.copy_files(self.path, str(folder), source_filesystem=self.filesystem)
        return folder

    def copy_from(self, folder: Path) -> None:
        """Copy the files below the local `folder` to this directory; each appears whole."""
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        for file in files:
            self.child(*file.relative_to(folder).parts)._write(file.read_bytes(), durable_name=False)
        for parent in {file.relative_to(folder).parent for file in files} if self.is_local else ():
            flush_folder(Path(self.path) / parent)


_MISTYPED = re.compile(r"\s*(file|s3|sftp|ssh|gs|gcs|abfss?|hf|https?|memory|smb|hdfs|webdav):/", re.IGNORECASE)


def open_storage(uri: str | os.PathLike[str]) -> Storage:
    """Open a URI: a local path, `file://`, `s3://bucket/path[?endpoint_override=host:port&scheme=http]`, or any fsspec scheme.

    The endpoint of S3 is the query's `endpoint_override`, else `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, else Amazon's.
    A URI with a secret in it is refused, so that whatever holds or shows a URI holds and shows none.

    Raises:
        StorageError: an unknown scheme, a malformed URI, or one with a password or another secret in it, which is not repeated.
    """
    text = os.fspath(uri)
    if not is_uri(text):
        if mistyped := _MISTYPED.match(text):
            raise StorageError(f"'{printable(redact(text))}' is no URI: it has to begin with {mistyped[1]}://")
        return _open_local(text, text)
    scheme = text.partition("://")[0].rpartition("::")[2]
    if secret := secret_in(text):
        raise StorageError(
            f"A {scheme}:// URI with {secret} is not opened: URIs stand in logs, reports and checkpoints. "
            "Leave the secret out and use an SSH agent or key (sftp), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (S3), "
            f"or the environment (FSSPEC_{scheme.upper()}_PASSWORD). An @ in a path is written %40."
        )
    parts = Uri.parse(text)
    if scheme == "file":
        if parts.authority not in ("", "localhost"):
            raise StorageError(
                f"'{printable(text)}' names a host, '{printable(parts.authority)}'. Write file:///PATH, or the path alone."
            )
        if parts.query:
            raise StorageError(f"'{printable(text)}' has a query, which file:// has not. A ? in a path is written %3F.")
        return _open_local(decoded(parts.path) or "/", text)
    parts = parts.with_path(parts.path.rstrip("/"))
    if str(parts).startswith("s3://"):
        filesystem, endpoint = s3_filesystem(parts)
        return Storage(str(parts), filesystem, parts.authority + decoded(parts.path), endpoint)
    filesystem, path = fsspec_filesystem(parts)
    return Storage(str(parts), filesystem, path)


def _open_local(text: str, uri: str) -> Storage:
    if "\0" in text:
        raise StorageError(f"'{printable(text)}' is no path: it has a zero byte in it.")
    try:
        path = absolute(text, home=text == uri)
    except UserError as error:
        raise StorageError(str(error)) from None
    return Storage(str(path) if text == uri else uri, pafs.LocalFileSystem(), str(path))


__all__ = ["Storage", "StorageError", "fsspec_of", "open_storage", "storage_errors"]
