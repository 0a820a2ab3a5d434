"""What a task has measured of the targets of a split, joined over several splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def joined_stats(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The `target_stats` of several splits read as one.

    Numbers are extremes, such as `max_tokens`: the largest holds for all. Mappings of numbers are counts, such as the rows of
    each class: they are added by key, at any depth. What not all splits state, or state differently in another form, is not
    known of all of them, and left out.
    """
    common = [key for key in parts[0] if all(key in part for part in parts)] if parts else []
    joined = {key: _joined([part[key] for part in parts]) for key in common}
    return {key: value for key, value in joined.items() if value is not None}


def _joined(values: Sequence[Any]) -> Any:
    if all(isinstance(value, int | float) for value in values):
        return max(values)
    if all(isinstance(value, Mapping) for value in values):
        return _added(values)
    return values[0] if all(value == values[0] for value in values) else None


def _added(counts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for part in counts for key in part):
        values = [part[key] for part in counts if key in part]
        found[key] = _added(values) if isinstance(values[0], Mapping) else sum(values)
    return found
