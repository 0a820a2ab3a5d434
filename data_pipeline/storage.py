"""Where datasets, checkpoints and predictions live: a directory behind a URI, on local disk, S3 or whatever fsspec opens.

A `Storage` is a file system of pyarrow and a path in it. It pickles, so tasks on other machines can open it.
Failures come out as one sentence that says what is wrong (endpoint, bucket, credentials, disk) and what to set.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import re
import socket
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.environment import set_environment_defaults
from cluster.errors import UserError
from cluster.paths import absolute

CONNECT_TIMEOUT_S = 5
REQUEST_TIMEOUT_S = 8  # without a byte; all attempts together stay below 30 s
MAX_ATTEMPTS = 3

# `user:password@` after any `://`, also in a query or a chain of URIs; a port and a path with an @ are not meant.
_PASSWORD = re.compile(r"://[^/@]*:(?!\d*/)[^@]*@")
_NETWORK_ERRNOS = {
    getattr(errno, name)
    for name in ("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET", "ENETUNREACH", "ETIMEDOUT", "ECONNRESET")
}
_BUSY_S3 = ("SLOW_DOWN", "THROTTLING", "INTERNAL_ERROR", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE")


class StorageError(UserError):
    """Storage that cannot be read or written, with the reason and the remedy.

    `missing`: there is no such file. `transient`: the network or an overloaded server, so another attempt may succeed.
    """

    def __init__(self, message: str = "", missing: bool = False, transient: bool = False) -> None:
        super().__init__(message)
        self.missing, self.transient = missing, transient


@dataclass(frozen=True)
class Storage:
    """A directory (or file) at `path` of `filesystem`, which `uri` opens again anywhere.

    `uri` is what the user wrote; a path of this machine is made absolute, since other processes work in other folders.
    `endpoint` is an S3 server that is not Amazon's.
    """

    uri: str
    filesystem: pafs.FileSystem
    path: str
    endpoint: str = ""

    def child(self, *names: str) -> Storage:
        """The entry below this one."""
        base, mark, query = self.uri.partition("?")
        uri = posixpath.join(base, *names) + mark + query
        return Storage(uri, self.filesystem, posixpath.join(self.path, *names), self.endpoint)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_local(self) -> bool:
        """Whether this is a path on this machine's disk."""
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def exists(self) -> bool:
        """Whether there is a file or directory here.

        Raises:
            StorageError: the storage cannot be asked.
        """
        with storage_errors(self):
            return bool(self.filesystem.get_file_info(self.path).type != pafs.FileType.NotFound)

    def names(self) -> list[str]:
        """The names of the entries of this directory, sorted; empty if it does not exist.

        Raises:
            StorageError: the storage cannot be asked, or has no such bucket.
        """
        with storage_errors(self):
            infos = self.filesystem.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))
            if not infos and _lacks_bucket(self):
                raise StorageError(_no_bucket(self))
        return sorted(info.base_name for info in infos)

    def sizes(self) -> dict[str, int]:
        """The files of this directory and their sizes in bytes; empty if it does not exist.

        Raises:
            StorageError: the storage cannot be asked.
        """
        with storage_errors(self):
            infos = self.filesystem.get_file_info(pafs.FileSelector(self.path, allow_not_found=True))
        return {info.base_name: info.size for info in infos if info.is_file}

    def read_bytes(self) -> bytes:
        """The whole file.

        Raises:
            StorageError: it is not there or cannot be read.
        """
        with storage_errors(self), self.filesystem.open_input_stream(self.path) as stream:
            return bytes(stream.read())

    def write_bytes(self, data: bytes) -> None:
        """Write the whole file: a reader sees the old or the new one, never a part.

        Raises:
            StorageError: it cannot be written (no rights, no space).
        """
        with storage_errors(self):
            self.make_parent()
            renaming = _renaming(self.filesystem)
            if not self.is_local and renaming is None:  # object stores publish on close
                with self.filesystem.open_output_stream(self.path) as stream:
                    stream.write(data)
                return
            partial = self.path.removesuffix(self.name) + f".{self.name}.{uuid.uuid4().hex[:8]}"
            try:
                if renaming is None:
                    Path(partial).write_bytes(data)
                    os.replace(partial, self.path)
                else:
                    with self.filesystem.open_output_stream(partial) as stream:
                        stream.write(data)
                    _rename(renaming, partial, self.path)
            except BaseException:
                with contextlib.suppress(OSError):
                    self.filesystem.delete_file(partial)
                raise

    def make_parent(self) -> None:
        """Make the directory that holds this entry (object stores need none)."""
        parent = self.path.rpartition("/")[0]
        if self.is_local:
            Path(parent).mkdir(parents=True, exist_ok=True)
        elif parent and _renaming(self.filesystem) is not None:
            self.filesystem.create_dir(parent, recursive=True)

    def delete(self) -> None:
        """Remove this directory or file, if it is there."""
        with storage_errors(self):
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
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.child(*file.relative_to(folder).parts).write_bytes(file.read_bytes())


def open_storage(uri: str | os.PathLike[str]) -> Storage:
    """Open a URI: a local path, `file://`, `s3://bucket/path[?endpoint_override=host:port&scheme=http]`, or any fsspec scheme.

    The endpoint of S3 is the query's `endpoint_override`, else `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, else Amazon's.

    Raises:
        StorageError: an unknown scheme, a malformed URI, or one with a password in it.
    """
    text = os.fspath(uri)
    scheme, separator, _ = text.partition("://")
    if _PASSWORD.search(text):
        raise StorageError(
            f"A {scheme}:// URI with a password in it is not opened: URIs stand in logs, reports and checkpoints. "
            "Leave the password out and use an SSH agent or key (sftp), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (S3), "
            f"or the environment (FSSPEC_{scheme.upper()}_PASSWORD)."
        )
    if not separator:
        path = str(absolute(text))
        return Storage(path, pafs.LocalFileSystem(), path)
    if scheme == "file":
        parts = urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise StorageError(f"'{text}' names a host, '{parts.netloc}'. Write file:///PATH, or the path alone.")
        return Storage(text, pafs.LocalFileSystem(), str(Path(unquote(parts.path)).resolve()))
    if scheme == "s3":
        return _open_s3(text)
    return _open_fsspec(text, scheme)


def _open_s3(uri: str) -> Storage:
    parts = urlsplit(uri)
    if not parts.netloc:
        raise StorageError(f"'{uri}' names no bucket. Write s3://BUCKET/PATH.")
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    endpoint = query.get("endpoint_override") or _s3_endpoint()
    options: dict[str, Any] = {}
    if endpoint:
        endpoint = endpoint if "://" in endpoint else f"{query.get('scheme', 'https')}://{endpoint}"
        address = urlsplit(endpoint)
        options = {"endpoint_override": address.netloc, "scheme": address.scheme}
        # Not Amazon's: its machines' own credentials are not there to be asked for, and asking takes seconds.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    region = query.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region or endpoint:
        options["region"] = region or "us-east-1"
    set_environment_defaults()
    filesystem = pafs.S3FileSystem(
        connect_timeout=CONNECT_TIMEOUT_S,
        request_timeout=REQUEST_TIMEOUT_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
        **options,
    )
    base, mark, rest = uri.partition("?")
    return Storage(base.rstrip("/") + mark + rest, filesystem, (parts.netloc + parts.path).rstrip("/"), endpoint or "")


def _s3_endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _open_fsspec(uri: str, scheme: str) -> Storage:
    import fsspec

    try:
        filesystem, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError) as error:
        raise StorageError(f"Cannot open '{uri}': scheme '{scheme}://' is not available here ({error}).") from None
    except OSError as error:
        raise StorageError(f"Cannot reach '{uri}': {error}. Check the host and the credentials.") from None
    return Storage(uri.rstrip("/"), pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path.rstrip("/"))


def _renaming(filesystem: pafs.FileSystem) -> Any:
    """The fsspec file system below `filesystem` if it renames files (sftp, smb, local); object stores only copy, it is None."""
    if not isinstance(filesystem, pafs.PyFileSystem):
        return None
    from fsspec import AbstractFileSystem

    inner = filesystem.handler.fs
    return None if type(inner).mv is AbstractFileSystem.mv else inner


def _rename(filesystem: Any, source: str, target: str) -> None:
    """Rename over `target`, which the rename of some servers (SMB, HDFS) refuses, by an error or in silence."""
    try:
        filesystem.mv(source, target)
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
    if filesystem.exists(source):
        filesystem.rm_file(target)
        filesystem.mv(source, target)


@contextlib.contextmanager
def storage_errors(storage: Storage) -> Iterator[None]:
    """Turn what pyarrow and the operating system raise into a `StorageError` with the cause and the remedy."""
    try:
        yield
    except StorageError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise _explain(storage, error) from error


def _explain(storage: Storage, error: BaseException) -> StorageError:
    text = str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"No space left while writing '{storage.uri}'. Free some, or choose another place.")
    if isinstance(storage.filesystem, pafs.S3FileSystem) and "AWS Error" in text:
        return _explain_s3(storage, text)
    if isinstance(error, FileNotFoundError):
        if _lacks_bucket(storage):
            return StorageError(_no_bucket(storage))
        return StorageError(f"'{storage.uri}' does not exist.", missing=True)
    if isinstance(error, PermissionError):
        return StorageError(f"No permission for '{storage.uri}'. Check its owner and mode.")
    return StorageError(f"Cannot use '{storage.uri}': {_first_sentence(text)}", transient=_is_network(error))


def _is_network(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return isinstance(error, OSError) and error.errno in _NETWORK_ERRNOS


def _explain_s3(storage: Storage, text: str) -> StorageError:
    bucket, where = _bucket(storage), _where(storage)
    code = (re.search(r"AWS Error ([A-Z_]+)", text) or ["", "UNKNOWN"])[1]
    if code == "UNKNOWN" and (
        named := re.search(r"\b([A-Z][A-Za-z]+(?:Bucket|Key|KeyId|Match|Denied|Down|Error|Unavailable|Timeout))\b", text)
    ):
        code = re.sub(r"(?<!^)(?=[A-Z])", "_", named[1]).upper()
    if "NETWORK_CONNECTION" in code or "TIMEOUT" in code:
        return StorageError(
            f"No answer for {where}: the endpoint cannot be reached. "
            "Check AWS_ENDPOINT_URL (scheme, host, port) and the network.",
            transient=True,
        )
    if code in _BUSY_S3 or re.search(r"HTTP status (429|500|502|503|504)\b", text):
        return StorageError(f"{where} cannot be served at the moment ({_first_sentence(text)}). Try again.", transient=True)
    if code == "NO_SUCH_BUCKET":
        return StorageError(_no_bucket(storage))
    if code in ("INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "INVALID_CLIENT_TOKEN_ID"):
        return StorageError(f"The credentials for {where} are refused. Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
    if code == "ACCESS_DENIED":
        return StorageError(
            f"Access to {where} is denied. Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY "
            f"and that they may use bucket '{bucket}'."
        )
    if code in ("NO_SUCH_KEY", "RESOURCE_NOT_FOUND"):
        return StorageError(f"{where} does not exist.", missing=True)
    if "HTTP status 411" in text:
        return StorageError(f"{where} refuses the client's checksums. Set AWS_REQUEST_CHECKSUM_CALCULATION=when_required.")
    return StorageError(f"Cannot use {where}: {_first_sentence(text)}")


def _where(storage: Storage) -> str:
    return f"'{storage.uri}' (endpoint {storage.endpoint or _s3_endpoint() or 'of Amazon'})"


def _bucket(storage: Storage) -> str:
    return storage.path.partition("/")[0]


def _no_bucket(storage: Storage) -> str:
    return f"Bucket '{_bucket(storage)}' of {_where(storage)} does not exist. Check its name, or create it."


def _lacks_bucket(storage: Storage) -> bool:
    """Whether the path is on S3 and its bucket is known not to be there; S3 itself says of both only that a key is missing."""
    if not isinstance(storage.filesystem, pafs.S3FileSystem):
        return False
    with contextlib.suppress(OSError):  # no right to ask about the bucket: then it is there, or nobody can tell
        return bool(storage.filesystem.get_file_info(_bucket(storage)).type == pafs.FileType.NotFound)
    return False


def _first_sentence(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else "unknown error"
