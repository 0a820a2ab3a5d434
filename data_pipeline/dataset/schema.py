"""Columns of a shard: the fixed ones, and in the middle those of the dataset's task, which only the task understands."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

IMAGE = "image"
_BEFORE = [
    pa.field("id", pa.string(), nullable=False),
    pa.field(IMAGE, pa.binary(), nullable=False),
    pa.field("width", pa.int32(), nullable=False),
    pa.field("height", pa.int32(), nullable=False),
]
_AFTER = [pa.field("source", pa.string()), pa.field("writer", pa.string()), pa.field("level", pa.int32())]
FIXED_COLUMNS = tuple(field.name for field in [*_BEFORE, *_AFTER])
UNCHECKED = ("writer", "level")  # for people: never streamed, so no digest covers them


def shard_schema(columns: Mapping[str, str]) -> pa.Schema:
    """The Arrow schema of a shard with these task columns (name to Arrow type).

    Raises:
        ValueError: a type that a task column cannot have, or the name of a fixed column.
    """
    if taken := [name for name in columns if name in FIXED_COLUMNS]:
        raise ValueError(f"column '{taken[0]}' is one that every dataset has")
    return pa.schema([*_BEFORE, *(pa.field(name, arrow_type(kind), nullable=False) for name, kind in columns.items()), *_AFTER])


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type called `name`: a number, bool, string or binary, or `list<TYPE>` of one.

    Raises:
        ValueError: there is no such type, or a column cannot have it.
    """
    if match := re.fullmatch(r"list<(.+)>", name):
        return pa.list_(arrow_type(match[1]))
    kind = pa.type_for_alias(name)
    if (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or kind in (pa.string(), pa.binary())
    ):
        return kind
    raise ValueError(f"a column cannot have the type {name}")


def streamed_columns(columns: Sequence[str]) -> list[str]:
    """What the stream reads of a shard whose task columns are `columns`."""
    return [*(field.name for field in _BEFORE), *columns, "source"]
