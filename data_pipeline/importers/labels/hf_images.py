"""Hugging Face's metadata of Parquet files: which column holds images, and the names of classes that are stored as numbers."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pyarrow as pa


class Feature(NamedTuple):
    """What the metadata says of a column: `image`, `class` (the index of a name) or `classes` (a list); and the names."""

    kind: str
    names: tuple[str, ...] = ()


def features_of(schema: pa.Schema) -> dict[str, Feature]:
    """The features of a Parquet file's columns that concern images and classes; none if it has no such metadata."""
    try:
        declared = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        found = {str(name): _feature(declared[name]) for name in declared}
    except (KeyError, TypeError, ValueError):
        return {}
    return {name: feature for name, feature in found.items() if feature is not None and name in schema.names}


def _feature(declared: Any) -> Feature | None:
    if isinstance(declared, list) and len(declared) == 1:  # an older way to write a sequence
        declared = {"_type": "Sequence", "feature": declared[0]}
    if not isinstance(declared, dict):
        return None
    kind = declared.get("_type")
    if kind == "Image":
        return Feature("image")
    if kind == "ClassLabel":
        return Feature("class", tuple(map(str, declared.get("names") or ())))
    if kind in ("Sequence", "List", "LargeList"):
        inner = _feature(declared.get("feature"))
        return Feature("classes", inner.names) if inner and inner.kind == "class" else None
    return None
