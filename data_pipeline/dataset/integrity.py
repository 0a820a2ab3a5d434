"""Whether rows are those that were prepared: digests of a row group's contents, which `dataset.json` holds.

They are of the values, not of the file's bytes, so they hold wherever the rows lie: in a shard, in a cache, in memory. Images
have a digest of their own: who needs texts alone reads no images to check them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

IMAGE = "image"
REST = ("id", "width", "height", "text", "source")  # what else is read; the other columns are for people
DIGEST_BYTES = 16  # of each of the two, of SHA-256
CHECK_BYTES = 2 * DIGEST_BYTES


def check_of(table: pa.Table) -> bytes:
    """The digests of a row group: of its images, then of the columns `REST`."""
    return _digest(table, (IMAGE,)) + _digest(table, REST)


def checked_columns(columns: Sequence[str]) -> list[str]:
    """What has to be read of a row group to get `columns` checked."""
    return [*columns, *(name for name in REST if name not in columns)]


def difference(table: pa.Table, check: bytes) -> str:
    """How the rows of `table`, which has the columns `REST` and perhaps images, differ from those with this check.

    Empty where they are the same.
    """
    parts: list[tuple[str, tuple[str, ...], bytes]] = [("texts", REST, check[DIGEST_BYTES:])]
    if IMAGE in table.column_names:
        parts.append(("images", (IMAGE,), check[:DIGEST_BYTES]))
    for name, columns, expected in parts:
        found = _digest(table, columns)
        if found != expected:
            return f"its {name} have digest {found.hex()}, expected is {expected.hex()}"
    return ""


def _digest(table: pa.Table, columns: Sequence[str]) -> bytes:
    state = hashlib.sha256()
    for name in columns:
        column = table.column(name)
        array = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
        state.update(f"{name} {len(array)};".encode())
        for part in _parts(array):
            state.update(part)
    return state.digest()[:DIGEST_BYTES]


def _parts(column: pa.Array) -> list[Any]:
    """The values as bytes: lengths and contents of texts, numbers of 8 bytes; a null has the length -1, a number none."""
    valid, *rest = column.buffers()
    nulls = np.asarray(column.is_null()) if valid is not None and column.null_count else None
    if len(rest) == 1:
        numbers = np.asarray(column.fill_null(0) if nulls is not None else column).astype("<i8")
        return [numbers, nulls if nulls is not None else b""]
    offsets, values = rest
    if not len(column) or offsets is None:
        return []
    places = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    lengths = np.diff(places).astype("<i8")
    if nulls is not None:
        lengths[nulls] = -1
    return [lengths, memoryview(values)[places[0] : places[-1]] if values is not None else b""]
