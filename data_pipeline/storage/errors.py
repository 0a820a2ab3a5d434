"""Errors of storage as one sentence that says the cause (endpoint, bucket, credentials, disk) and the remedy."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa
import pyarrow.fs as pafs

from cluster.errors import UserError
from cluster.redaction import redact

_NETWORK_ERRNOS = {
    getattr(errno, name)
    for name in ("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET", "ENETUNREACH", "ETIMEDOUT", "ECONNRESET")
}
_BUSY_S3 = ("SLOW_DOWN", "THROTTLING", "INTERNAL_ERROR", "INTERNAL_FAILURE", "SERVICE_UNAVAILABLE")


class Entry(Protocol):
    """What a message says of a file or directory on some storage; a `Storage` is one."""

    @property
    def filesystem(self) -> pafs.FileSystem:
        """The file system that it is in."""

    @property
    def path(self) -> str:
        """Its path in the file system."""

    @property
    def endpoint(self) -> str:
        """The S3 server, if it is not Amazon's."""

    @property
    def shown(self) -> str:
        """Its URI on one line."""


class StorageError(UserError):
    """Storage that cannot be read or written, with the reason and the remedy.

    `missing`: there is no such file. `transient`: the network failed or a server is overloaded, so a retry may succeed.
    """

    def __init__(self, message: str = "", missing: bool = False, transient: bool = False) -> None:
        super().__init__(message)
        self.missing, self.transient = missing, transient


@contextlib.contextmanager
def storage_errors(storage: Entry) -> Iterator[None]:
    """Turn what pyarrow and the operating system raise into a `StorageError` with the cause and the remedy."""
    try:
        yield
    except StorageError:
        raise
    except UnicodeError:
        raise StorageError(f"Cannot use '{storage.shown}': this storage takes no name that is not UTF-8.") from None
    except (OSError, pa.ArrowException) as error:
        raise _explain(storage, error) from error


def _explain(storage: Entry, error: BaseException) -> StorageError:
    text = str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"No space left while writing '{storage.shown}'. Free some, or choose another place.")
    if isinstance(storage.filesystem, pafs.S3FileSystem) and "AWS Error" in text:
        return _explain_s3(storage, text)
    if isinstance(error, FileNotFoundError):
        if lacks_bucket(storage):
            return StorageError(no_bucket(storage))
        return StorageError(f"'{storage.shown}' does not exist.", missing=True)
    if isinstance(error, FileExistsError | NotADirectoryError):
        return StorageError(
            f"Cannot use '{storage.shown}': a file stands where a folder of its path should be. Choose another place."
        )
    if isinstance(error, PermissionError):
        return StorageError(f"No permission for '{storage.shown}'. Check its owner and mode.")
    return StorageError(f"Cannot use '{storage.shown}': {_first_sentence(text)}", transient=_is_network(error))


def _is_network(error: BaseException) -> bool:
    if isinstance(error, (ConnectionError, TimeoutError)):
        return True
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return isinstance(error, OSError) and error.errno in _NETWORK_ERRNOS


def _explain_s3(storage: Entry, text: str) -> StorageError:
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
        return StorageError(no_bucket(storage))
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


def _where(storage: Entry) -> str:
    return f"'{storage.shown}' (endpoint {storage.endpoint or s3_endpoint() or 'of Amazon'})"


def _bucket(storage: Entry) -> str:
    return storage.path.partition("/")[0]


def no_bucket(storage: Entry) -> str:
    """The message that the bucket of `storage` does not exist."""
    return f"Bucket '{_bucket(storage)}' of {_where(storage)} does not exist. Check its name, or create it."


def lacks_bucket(storage: Entry) -> bool:
    """Whether the path is on S3 and its bucket is known to be missing; S3 itself reports a missing key for both."""
    if not isinstance(storage.filesystem, pafs.S3FileSystem):
        return False
    with contextlib.suppress(OSError):  # no right to ask about the bucket: it exists, or nobody can tell
        return bool(storage.filesystem.get_file_info(_bucket(storage)).type == pafs.FileType.NotFound)
    return False


def _first_sentence(text: str) -> str:
    return redact(text.strip().splitlines()[0])[:300] if text.strip() else "unknown error"


def s3_endpoint() -> str | None:
    """The S3 server that the environment names, if any."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
