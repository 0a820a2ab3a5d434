"""Arguments of a step as a configuration states them: fields of a dataclass with a default and a range, read and checked."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from cluster.yaml_text import shown

T = TypeVar("T")


def number(default: float | tuple[float, float], low: float, high: float) -> Any:
    """A field that takes numbers from `low` to `high`: whole ones if its type is int, a pair in order if it is a tuple."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def share(default: float) -> Any:
    """A field that takes a number from 0 to 1."""
    return number(default, 0, 1)


def read_arguments(kind: type[T], name: str, values: Any, key: str) -> tuple[T | None, list[str]]:
    """The dataclass `kind` with `values`, a mapping or None, written at `key`; None where anything is wrong, and what is.

    `name` is what messages call the dataclass.
    """
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        return None, [f"{key}={shown(values)}: the arguments of {name} are a mapping, as in {{{name}: {{p: 0.5}}}}"]
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]  # a type can be hashed
    problems, read = [], {}
    for argument, value in values.items():
        if argument not in fields:
            problems.append(f"{key}.{shown(argument)}: {unknown('argument', argument, fields, name)}")
            continue
        read[argument], reason = _read(value, hints[argument], fields[argument].metadata)
        if reason:
            problems.append(f"{key}.{argument}={shown(value)}: {reason}")
    return (None if problems else kind(**read)), problems


def unknown(what: str, given: Any, valid: Iterable[str], of: str = "") -> str:
    """That there is no such thing, with the names that are near, or all of them where none is."""
    names = list(valid)
    near = difflib.get_close_matches(str(given), names, n=3, cutoff=0.6)
    known = f"Did you mean {' or '.join(near)}?" if near else f"Valid: {', '.join(names)}"
    return f"there is no such {what}{f' of {of}' if of else ''}. {known}"


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(value: Any, hint: Any, limits: Mapping[str, float]) -> tuple[Any, str]:
    """`value` as a field of this type holds it, and what is wrong with it."""
    if get_origin(hint) is Literal:
        return value, "" if value in get_args(hint) else f"one of {', '.join(get_args(hint))}"
    if hint is bool:
        return value, "" if isinstance(value, bool) else "true or false"
    low, high = limits["low"], limits["high"]
    if get_origin(hint) is tuple:
        pair = tuple(value) if isinstance(value, list | tuple) else ()
        fits = len(pair) == 2 and all(map(_is_number, pair)) and low <= pair[0] <= pair[1] <= high
        return tuple(map(float, pair)) if fits else pair, "" if fits else f"two numbers, in order, from {low:g} to {high:g}"
    whole = hint is int
    if not (isinstance(value, int) and not isinstance(value, bool) if whole else _is_number(value)):
        return value, "a whole number" if whole else "a number"
    return hint(value), "" if low <= value <= high else f"from {low:g} to {high:g}"  # NaN is not, either


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
