"""Ids of files: a path as text that a table can hold and a terminal can show, and back again.

An id is the path as it is, but for three things that `path_of` takes back: a byte that is not UTF-8 is written `\\xNN`; a
backslash that would read as such an escape is written `\\x5c`; and the `#` of a name that ends like the id of a page
(`scan.tif#page=2`) is written `\\x23`. So no two files have one id.
"""

from __future__ import annotations

import re

from cluster.redaction import printable

_RAW_BYTE = re.compile("[\udc80-\udcff]")  # as `os.fsdecode` gives a byte that is not UTF-8
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")
_LIKE_AN_ESCAPE = re.compile(r"\\(?=x[0-9a-f]{2})")
_LIKE_A_PAGE = re.compile(r"#(?=page=[0-9]+\Z)")


def id_of(path: str) -> str:
    """The id of the file at `path`, which is relative to what was given and decoded as `os.fsdecode` does."""
    return written(_LIKE_AN_ESCAPE.sub(r"\\x5c", path))


def written(text: str) -> str:
    """A line of a list as an id: backslashes stay as they are written."""
    return _RAW_BYTE.sub(lambda match: f"\\x{ord(match[0]) - 0xDC00:02x}", _LIKE_A_PAGE.sub(r"\\x23", text))


def path_of(name: str) -> str:
    """The path of which `name` is the id; `os.fsencode` gives its bytes."""

    def character(match: re.Match[str]) -> str:
        code = int(match[1], 16)
        return chr(code if code < 0x80 else 0xDC00 + code)

    return _ESCAPE.sub(character, name)


def page_id(name: str, page: int) -> str:
    """The id of a page (from 1) of the file `name`: the first page has that of the file."""
    return name if page == 1 else f"{name}#page={page}"


def some(names: list[str], max_shown: int = 5) -> str:
    """The first few of `names`, as a message shows them."""
    return ", ".join(map(printable, names[:max_shown])) + (", ..." if len(names) > max_shown else "")
