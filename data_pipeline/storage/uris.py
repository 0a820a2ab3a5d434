"""URIs of storage as text: what is a URI, what it may contain, and how names are encoded in it.

A path of this machine stands for itself, whatever characters it has. Everything with a scheme is
`scheme://authority/path[?query]`, percent-encoded on every scheme: in a path, `?`, `%` and what would be taken for a password
or a chain are written `%3F`, `%25`, `%40`, `%3A%3A`; `#` may stand for itself. A chain of fsspec (`zip://inner::s3://b/x.zip`)
has its path in the first link that has one.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from cluster.redaction import has_password, printable, secret_parameters

_URI = re.compile(r"((?:[a-z][a-z0-9+.-]*::)*)([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_ENCODED = re.compile(r"[%?#@\x00-\x20\x7f-\xa0\u2028\u2029\ud800-\udfff]|::+")


@dataclass(frozen=True)
class Uri:
    """The parts of a URI as they are written; `outer` and `inner`: links of a chain before and after the one with the path."""

    outer: str
    scheme: str
    authority: str
    path: str
    query: str
    inner: str

    @classmethod
    def parse(cls, text: str) -> Uri:
        """The parts of `text`, for which `is_uri` holds."""
        match = _URI.match(text)
        assert match is not None
        rest, inner = text[match.end() :], ""
        if match[2] not in ("file", "s3"):  # those are opened without fsspec, and cannot be a part of a chain
            rest, mark, after = rest.partition("::")
            inner = mark + after
        rest, mark, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        return cls(match[1], match[2], authority, slash + path, mark + query, inner)

    def __str__(self) -> str:
        return f"{self.outer}{self.scheme}://{self.authority}{self.path}{self.query}{self.inner}"

    def with_path(self, path: str) -> Uri:
        """The same URI with another encoded path."""
        return Uri(self.outer, self.scheme, self.authority, path, self.query, self.inner)


def is_uri(text: str) -> bool:
    """Whether `text` has a scheme; else it is a path of this machine."""
    return _URI.match(text) is not None


def secret_in(uri: str) -> str:
    """The kind of secret in the URI, never the secret itself; empty if there is none."""
    if has_password(uri):
        return "a password in it"
    names = secret_parameters(uri)
    return f"a secret in it (?{printable(names[0])}=)" if names else ""


def invalid_name(name: str) -> str:
    """Why `name` cannot name an entry below a directory; empty if it can."""
    parts = name.split("/")
    if "\0" in name:
        return "it has a zero byte in it"
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeError:
        text = ""
    if text != name:
        return "it is no text, and no bytes of a file's name either"
    if not parts[0] or not all(parts):
        return "it is empty, absolute, or has an empty part"
    return f"'{next(part for part in parts if part in ('.', '..'))}' leads elsewhere" if {".", ".."} & set(parts) else ""


def joined(uri: str, names: tuple[str, ...]) -> str:
    """The URI or path of the entry `names` below the directory `uri`."""
    if not is_uri(uri):
        return posixpath.join(uri, *names)
    parts, added = Uri.parse(uri), encoded("/".join(names))
    if not parts.authority and not parts.path and parts.scheme not in ("file", "s3"):
        authority, slash, path = added.partition("/")  # below the root of memory:// or zip://
        authority = authority.replace(":", "%3A")
        return str(Uri(parts.outer, parts.scheme, authority, slash + path, parts.query, parts.inner))
    return str(parts.with_path(f"{parts.path.rstrip('/')}/{added}"))


def parent_of(uri: str) -> str:
    """The URI or path of the directory that holds the entry `uri`, which is not a root."""
    if not is_uri(uri):
        return posixpath.dirname(uri)
    parts = Uri.parse(uri)
    path = parts.path.rstrip("/")
    if not path and parts.scheme not in ("file", "s3"):  # memory://a: a name below the root
        return str(Uri(parts.outer, parts.scheme, "", "", parts.query, parts.inner))
    return str(parts.with_path(path.rpartition("/")[0] or "/" * (not parts.authority)))


def encoded(name: str) -> str:
    """A name as it is written in the path of a URI."""
    return _ENCODED.sub(lambda match: quote(match[0], safe="", errors="surrogateescape"), name)


def decoded(path: str) -> str:
    """The name that is written as `path` in a URI."""
    return unquote(path, errors="surrogateescape")
