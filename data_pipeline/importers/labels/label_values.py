"""Values of label columns as names of classes: what is missing, what is a number, what is 0 or 1."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from cluster.errors import UserError
from cluster.redaction import printable

_DECIMAL = re.compile(r"[+-]?[0-9]+\.[0-9]*")
_FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "0.": False, "1.": True}


def is_missing(value: Any) -> bool:
    """Whether a value is none: null, NaN, or an empty text."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or (isinstance(value, str) and not value.strip())


def text_of(value: Any, names: Sequence[str] = (), declared: Collection[str] = ()) -> str:
    """The name of a class that a value of a column is; empty if it is missing.

    `names` are those of a column that holds their indices, in which -1 stands for no label. The text `nan`, which tables get
    from empty fields, is missing unless it is a `declared` class.
    """
    if is_missing(value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and names:
        return names[value] if 0 <= value < len(names) else "" if value == -1 else str(value)
    text = str(value).strip()
    return "" if text.lower() == "nan" and text not in declared else text


def whole_numbers(column: str, texts: Sequence[str], shown: Sequence[str], declared: Collection[str] = ()) -> list[str]:
    """The names of a column's classes without the `.0` that a column of numbers gets when some value of it was missing.

    `texts` may be empty where a value is missing; `shown` says where each is.

    Raises:
        UserError: some values have a decimal point and others have none, or a fraction: `1` and `1.0` must not be two classes,
            nor become one unnoticed.
    """
    first = next((i for i, text in enumerate(texts) if _DECIMAL.fullmatch(text)), None)
    if first is None or (declared and all(text in declared for text in texts if text)):
        return list(texts)
    for i, text in enumerate(texts):
        if text and not (_DECIMAL.fullmatch(text) and float(text).is_integer()):
            beside = f"beside '{printable(texts[first])}' ({shown[first]})" if i != first else "with a fraction"
            raise UserError(
                f"Column '{printable(column)}' holds '{printable(text)}' ({shown[i]}) {beside}: numbers with and without a "
                "decimal point may mean one class or two. Write whole numbers, or texts; or declare all of them by --classes."
            )
    return [str(int(float(text))) if text else "" for text in texts]


def flag_of(value: Any) -> bool | None:
    """Whether a value is 1 and not 0; None if it is neither."""
    if isinstance(value, bool | int | float):
        return bool(value) if value in (0, 1) else None
    return _FLAGS.get(value.strip()) if isinstance(value, str) else None


def list_of(value: Any, separator: str) -> list[Any] | None:
    """The labels of a value: those of a list, or of a text that separates them or spells a list; None if it is neither."""
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):  # as tables of lists are saved
        try:
            found = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
        return list(found) if isinstance(found, list) else None
    return [part for part in text.split(separator) if part.strip()]
