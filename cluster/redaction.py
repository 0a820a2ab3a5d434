"""What leaves the process: `redact` takes secrets out of a text, `printable` makes its control characters visible.

Both are for texts that Inkray writes or prints: log lines, error messages, configurations, reports, trackers. A secret is
the userinfo of a URI with a password, or of one on the web, where a token may stand alone; the value of a query parameter whose
name says so (`token`, `secret_key`, `X-Amz-Signature`, `sig`, ...); and the value of an environment variable whose name says so
(`AWS_SECRET_ACCESS_KEY`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "***"
MIN_SECRET = 8  # characters of an environment's secret; a shorter one occurs in any text by chance

# The `::` of a chain of URIs (`filecache::s3://...`) is no colon of a password.
_COLON = r":(?!:[a-z][a-z0-9+.-]*(?:://|::))"
# A colon before the first slash and an @ anywhere behind it: a password may begin with digits and a slash, as a port does.
_USERINFO = re.compile(rf"://[^/:]*?(?:{_COLON}(?:[^/]*%40|.*@)|%3A.*@)", re.IGNORECASE | re.DOTALL)
# One slash or no scheme: a URI that was mistyped is shown, too.
_USERINFO_IN_TEXT = re.compile(
    rf"""(:/{{1,2}}|(?<![:/\w])//)(?!/)[^/:\s"<>]*?(?:{_COLON}(?:[^/\s"<>]*%40|[^\s"<>]*@)|%3A[^\s"<>]*@)""", re.IGNORECASE
)
# A token in the place of the user, as hosts of repositories take it.
_WEB_USER = re.compile(r"""\b(https?://)[^/?#@\s"<>]+@""", re.IGNORECASE)
# The value of a parameter that is a host with a password, without a scheme.
_HOST_USERINFO = re.compile(
    r"""([?&;][^=?&;#\s"'<>%]+(?:=|%3D))[^&;#/:@%\s"'<>]+(?::|%3A)[^&;#\s"'<>@]+?(?:@|%40)""", re.IGNORECASE
)
_ENCODED_USERINFO = re.compile(r"""(%3A%2F%2F)[^\s"<>&]*?%3A[^\s"<>&]*%40""", re.IGNORECASE)
# An apostrophe ends a value unless the value continues behind it: messages stand URIs between apostrophes.
_PARAMETER = re.compile(r"""([?&;#]|%3F|%26)([^=?&;#\s"'<>%]+)(=|%3D)((?:[^\s"'<>&;#]|'(?=\w))+)""", re.IGNORECASE)
# Names and values as they stand in messages of clients: `secret_key: x`, `'password': 'x'`, `AWS_SESSION_TOKEN=x`.
_ASSIGNED = re.compile(
    r"""((?:secret|access|api|account|private)[_-]?(?:access[_-]?)?key(?:[_-]?id)?|passw(?:or)?d|passphrase|client[_-]?secret"""
    r"""|(?:session|access|refresh|security|auth|sas)[_-]?token)(["']?\s*[:=]\s*["']?)([^\s"',;&<>{}\[\]()]+)""",
    re.IGNORECASE,
)
_ACCESS_KEY = re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])")
_AUTHORIZATION = re.compile(r"""(authorization["']?\s*[:=]\s*["']?[a-z]+\s+)[^\s"'<>,]+""", re.IGNORECASE)

_SECRET_PART = re.compile(
    r"token(?!s)|secret|passw|passphrase|pwd|signature|credential|(?:access|api|account|private|shared)[_-]?key", re.IGNORECASE
)
_SECRET_NAMES = {"sig", "sas", "key", "pass", "pw", "auth", "authorization", "code", "jwt"}
_SECRET_VARIABLE = re.compile(
    r"SECRET|PASSW|PASSPHRASE|TOKEN$|_PWD$|CREDENTIALS?$|(?:ACCESS|API|ACCOUNT|PRIVATE|SHARED)_?KEY(?:_ID)?$", re.IGNORECASE
)
_LOCATIONS = {"GOOGLE_APPLICATION_CREDENTIALS"}  # of a file with secrets: no secret


def redact(text: str) -> str:
    """`text` without its secrets, each replaced by `***`; a text that has none comes back as it is."""
    for value in _environment_secrets():
        text = text.replace(value, HIDDEN)
    text = _HOST_USERINFO.sub(rf"\1{HIDDEN}@", _WEB_USER.sub(rf"\1{HIDDEN}@", text))
    text = _ENCODED_USERINFO.sub(rf"\1{HIDDEN}%40", _USERINFO_IN_TEXT.sub(rf"\1{HIDDEN}@", text))
    text = _PARAMETER.sub(lambda m: m[1] + m[2] + m[3] + (HIDDEN if _is_secret(m[2]) else m[4]), text)
    text = _ASSIGNED.sub(rf"\1\2{HIDDEN}", text)
    return _AUTHORIZATION.sub(rf"\1{HIDDEN}", _ACCESS_KEY.sub(HIDDEN, text))


def redacted(value: Any) -> Any:
    """Plain values (dictionaries, lists, texts, numbers) with every text in them, keys included, redacted."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redacted(key): redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    return value


def redacted_values(value: Any, key: str = "") -> Any:
    """Plain values at `key` with every text in them redacted, but no key: keys are names, of fields and of what users named.

    A class may be called `password=x`, and a number is no secret. A text is one, whatever it is, whose key says so.
    """
    if isinstance(value, Mapping):
        return {name: redacted_values(item, str(name)) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted_values(item, key) for item in value]
    if isinstance(value, str):
        return HIDDEN if value and _says_secret(key) else redact(value)
    return value


def _says_secret(key: str) -> bool:
    """Whether `key: value` in a text would be taken for a secret, and not something in the key itself."""
    text = f"{key}: x"
    return any(match.end() == len(text) for match in _ASSIGNED.finditer(text))


def printable(text: str) -> str:
    """`text` on one line, with everything invisible as an escape: newlines, terminal sequences, text direction, bytes that
    are not UTF-8. Letters of all scripts and blanks stay.

    For ids, paths and names that come from data: none of them can end a line of the log, or change one.
    """
    return text if text.isprintable() else "".join(map(_visible, text))


def message(text: str) -> str:
    """A text of several lines for the log: each of them `printable`, those after the first indented, so that none of them
    looks like another message.
    """
    return "\n  ".join(map(printable, redact(text).rstrip("\n").split("\n")))


def has_password(uri: str) -> bool:
    """Whether the URI, or one in its query or chain, has a password before its host, or on the web a user, who may be a token.

    What may be one counts: behind `host:22/` an @ of the path is to be written `%40`.
    """
    texts = (uri, "?" + unquote(uri.partition("?")[2]))
    return any(pattern.search(text) for pattern in (_USERINFO, _WEB_USER, _HOST_USERINFO) for text in texts)


def secret_parameters(uri: str) -> list[str]:
    """The names of query parameters of the URI whose values are secrets, in order."""
    start = re.search("[?#]", uri)
    query = uri[start.start() :] if start else ""
    matches = [*_PARAMETER.finditer(query), *_PARAMETER.finditer(unquote(query))]
    return list(dict.fromkeys(match[2] for match in matches if _is_secret(match[2])))


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return bool(_SECRET_VARIABLE.search(name)) and name not in _LOCATIONS


def _is_secret(name: str) -> bool:
    plain = name.lower()
    return plain in _SECRET_NAMES or bool(_SECRET_PART.search(plain))


def _environment_secrets() -> list[str]:
    """Values of the environment's secrets, a longer one before those that it contains."""

    def found() -> Iterator[str]:
        for name, value in os.environ.items():
            if len(value) >= MIN_SECRET and is_secret_variable(name):
                yield value

    return sorted(set(found()), key=len, reverse=True)


def _visible(character: str) -> str:
    if character.isprintable() or character == "\u3000":  # the ideographic space
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
