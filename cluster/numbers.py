"""Rules that every number of a configuration has to follow: it is finite and not too large."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

MAX_INT = 2**31 - 1


def number_problems(config: Any, key: str = "") -> dict[str, str]:
    """What is wrong, by key, with the numbers of a dataclass, whatever they are for: NaN, infinity, over 31 bits."""
    found = {name: (value, _number_problem(value)) for name, value in _numbers(config, key)}
    return {name: f"{name}={value}: {problem}" for name, (value, problem) in found.items() if problem}


def with_number_problems(config: Any, found: list[str], key: str = "") -> list[str]:
    """`found`, which says what is wrong with the values of `config` by key, and what is wrong with its numbers as such.

    Where a number is NaN, say, no other rule is reported.
    """
    numbers = number_problems(config, key)
    return [*numbers.values(), *(message for message in found if not message.startswith(tuple(f"{name}=" for name in numbers)))]


def _number_problem(value: float) -> str:
    if isinstance(value, int):
        return "" if abs(value) <= MAX_INT else f"a whole number, at most {MAX_INT}"
    return "" if math.isfinite(value) else "a finite number"


def _numbers(value: Any, key: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        yield key, value
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _numbers(getattr(value, field.name), f"{key}.{field.name}" if key else field.name)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _numbers(item, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _numbers(item, f"{key}[{index}]")
