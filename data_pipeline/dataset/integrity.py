"""Digests of a row group's contents, stored in `dataset.json`, which show whether rows are those that were prepared.

A digest covers values, not the bytes of a file, so it holds wherever the rows are: in a shard, in a cache, in memory. Images
have their own digest, so that the other columns can be checked without reading images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.dataset.schema import FIXED_COLUMNS, IMAGE, UNCHECKED

DIGEST_BYTES = 16  # of each of the two, of SHA-256
CHECK_BYTES = 2 * DIGEST_BYTES


def check_of(table: pa.Table) -> bytes:
    """The digests of a row group: of its images, then of its other checked columns."""
    return _digest(table, (IMAGE,)) + _digest(table, _others(table.column_names))


def checked_columns(columns: Sequence[str], stored: Sequence[str]) -> list[str]:
    """The columns to read of a row group that has the columns `stored`, so that `columns` can be checked."""
    return [*columns, *(name for name in _others(stored) if name not in columns)]


def difference(table: pa.Table, check: bytes) -> str:
    """How the rows of `table` differ from those with this check; empty if they do not.

    `table` has all checked columns, with or without images.
    """
    parts: list[tuple[str, Sequence[str], bytes]] = [("values", _others(table.column_names), check[DIGEST_BYTES:])]
    if IMAGE in table.column_names:
        parts.append(("images", (IMAGE,), check[:DIGEST_BYTES]))
    for name, columns, expected in parts:
        found = _digest(table, columns)
        if found != expected:
            return f"its {name} have digest {found.hex()}, expected is {expected.hex()}"
    return ""


def _others(names: Sequence[str]) -> list[str]:
    """The checked columns besides the image, in the order in which the digest covers them."""
    task = sorted(name for name in names if name not in FIXED_COLUMNS)
    return [name for name in ("id", "width", "height", *task, "source") if name not in UNCHECKED]


def _digest(table: pa.Table, columns: Sequence[str]) -> bytes:
    state = hashlib.sha256()
    for name in columns:
        column = table.column(name)
        array = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [pa.array([], column.type)])
        state.update(f"{name} {len(array)};".encode())
        for part in _parts(array):
            state.update(part)
    return state.digest()[:DIGEST_BYTES]


def _parts(column: pa.Array) -> Iterator[Any]:
    """The values as bytes: numbers as 8 bytes each, texts and lists as their lengths and contents; a null has the length -1."""
    nulls = np.asarray(column.is_null()) if column.null_count else None
    if pa.types.is_list(column.type):
        lengths = np.asarray(column.value_lengths().fill_null(-1)).astype("<i8")
        yield lengths
        yield from _parts(column.flatten())
    elif pa.types.is_floating(column.type):
        yield np.asarray(column.fill_null(0) if nulls is not None else column).astype("<f8")
        yield nulls if nulls is not None else b""
    elif pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        yield np.asarray(column.fill_null(0) if nulls is not None else column).astype("<i8")
        yield nulls if nulls is not None else b""
    else:
        _, offsets, values = column.buffers()
        if len(column) and offsets is not None:
            ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
            lengths = np.diff(ends).astype("<i8")
            if nulls is not None:
                lengths[nulls] = -1
            yield lengths
            yield memoryview(values)[ends[0] : ends[-1]] if values is not None else b""
