"""Values of label columns as names of classes: what is missing, what is a number, what is 0 or 1."""

from __future__ import annotations

import ast
import io
import itertools
import json
import math
import re
import tokenize
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
    if isinstance(value, float) and value.is_integer() and names:  # indices become floats where one was missing
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and names:
        return names[value] if 0 <= value < len(names) else "" if value == -1 else str(value)
    text = name_of(value)
    return "" if text.lower() == "nan" and text not in declared else text


def name_of(value: Any) -> str:
    """A value as a text, empty if it is missing: `nan` may be a name."""
    if is_missing(value):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return f"{value:.1f}"  # never with an exponent
    return str(value).strip()


def names_of(column: str, values: Sequence[Any], shown: Sequence[str]) -> list[str]:
    """What a column names of each row, such as its group or its id; empty where it is missing.

    Whole numbers lose the `.0` that a column of numbers gets when some value of it was missing; other texts stay.

    Raises:
        UserError: `1` is beside `1.0`.
    """
    texts = [name_of(value) for value in values]
    whole = [_without_point(text) for text in texts]
    if all(whole[i] or not text for i, text in enumerate(texts)):
        return whole
    plain = {text: i for i, text in enumerate(texts)}
    for i, text in enumerate(whole):
        if text in plain and text:
            raise UserError(
                f"Column '{printable(column)}' holds '{printable(text)}' ({shown[plain[text]]}) beside '{printable(texts[i])}' "
                f"({shown[i]}), which may be one name or two. Write them alike."
            )
    return texts


def require_single(column: str, value: Any, shown: str) -> None:
    """Check that a value is a text, a number or missing.

    Raises:
        UserError: it is a list, an image or a structure.
    """
    if isinstance(value, list | dict | tuple):
        kind = "a list" if isinstance(value, list) else "an image or a structure"
        raise UserError(
            f"Column '{printable(column)}' holds {kind} ({shown}), "
            "not one name. A column of lists of labels is named by --labels."
        )


def _without_point(text: str) -> str:
    """A whole number that is written with a decimal point, without that; empty for everything else."""
    if not _DECIMAL.fullmatch(text):
        return ""
    whole, _, fraction = text.partition(".")
    digits = whole.lstrip("+-").lstrip("0") or "0"
    return "" if fraction.strip("0") else "-" * (whole[0] == "-" and digits != "0") + digits


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
        if text and not _without_point(text):
            beside = f"beside '{printable(texts[first])}' ({shown[first]})" if i != first else "with a fraction"
            raise UserError(
                f"Column '{printable(column)}' holds '{printable(text)}' ({shown[i]}) {beside}: numbers with and without a "
                "decimal point may mean one class or two. Write whole numbers, or texts; or declare all of them by --classes."
            )
    return [_without_point(text) for text in texts]


def flag_of(value: Any) -> bool | None:
    """Whether a value is 1 and not 0; None if it is neither."""
    if isinstance(value, bool | int | float):
        return bool(value) if value in (0, 1) else None
    return _FLAGS.get(value.strip()) if isinstance(value, str) else None


def flags_of(values: Sequence[Any]) -> list[bool | None]:
    """`flag_of` each value: at once, as tables have millions of them, where none has blanks around it or is neither 0 nor 1."""
    try:
        flags = list(map(_FLAGS.get, values))
    except TypeError:  # a list
        flags = [None]
    return [flag_of(value) for value in values] if None in flags else flags


def list_of(value: Any, separator: str) -> list[Any] | None:
    """The labels of a value: those of a list, or of a text that separates them or spells a list; None if it is neither.

    No labels are written `[]`: an empty text is a label that is missing.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):  # as tables of lists are saved
        try:
            return list(json.loads(text))
        except (ValueError, RecursionError):
            return _python_list(text)
    return [part for part in text.split(separator) if part.strip()] or None


def _python_list(text: str) -> list[Any] | None:
    """A list as Python writes it; None if it is none, or one of NumPy, which puts no commas between texts."""
    try:
        found = ast.literal_eval(text)
        kinds = [token.type for token in tokenize.generate_tokens(io.StringIO(text).readline)]
    except (ValueError, SyntaxError, MemoryError, RecursionError, tokenize.TokenError):
        return None
    joined = any(first == second == tokenize.STRING for first, second in itertools.pairwise(kinds))
    return list(found) if isinstance(found, list) and not joined else None
