"""Glyphs from a CSV: one a row, the letter and then 784 pixels.

Two layouts are read: with a header and a column `letter` (`id,digit,letter,0,...,783`, or without `digit`), whose letters are A
to Z; and EMNIST's, without a header or with one that begins with `label`, whose first column is the number of the letter, 1 to
26, and whose images are stored transposed.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.synthesis.letters.glyphs import GLYPH_SIDE, LETTERS

_PIXELS = GLYPH_SIDE * GLYPH_SIDE
_LAYOUTS = "columns id, letter and 784 pixels with a header, or EMNIST's number of the letter (1 to 26) and 784 pixels"


def read_table(path: Path) -> dict[str, list[np.ndarray]]:
    """Read the glyphs of each letter, uint8 (28, 28).

    Raises:
        UserError: it cannot be read, is of another layout, or has a row that is wrong; the message names the row.
    """
    lines = _lines(path)
    number, header = next(lines, (0, ""))
    names = [_unquoted(name).lower() for name in header.split(",")]
    emnist = "letter" not in names
    before = 1 if emnist else len(names) - _PIXELS  # columns in front of the pixels
    column = 0 if emnist else names.index("letter")
    if len(names) != before + _PIXELS or column >= before or (emnist and names[0] != "label" and not names[0].isdecimal()):
        raise UserError(f"Glyphs '{path}': {len(names)} columns, the first '{printable(names[0][:40])}'. Wanted: {_LAYOUTS}.")
    glyphs: dict[str, list[np.ndarray]] = {letter: [] for letter in LETTERS}
    if emnist and names[0] != "label":
        lines = _with(number, header, lines)
    for number, line in lines:
        where = f"Glyphs '{path}', line {number}"
        if (columns := line.count(",") + 1) != before + _PIXELS:
            raise UserError(f"{where}: {columns} columns, not the {before + _PIXELS} of the first line.")
        fields = line.split(",", before)
        name = _unquoted(fields[column])
        letter = _letter(name, emnist)
        if letter is None:
            wanted = "a number from 1 to 26" if emnist else "one of A to Z"
            raise UserError(f"{where}: the letter is '{printable(name)}'. Wanted: {wanted}.")
        pixels = _pixels(fields[before], where)
        glyphs[letter].append(pixels.T.copy() if emnist else pixels)
    return glyphs


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not empty and their numbers, from 1; without a byte order mark."""
    try:
        with path.open(encoding="utf-8-sig") as file:  # which reads CRLF as well
            for number, line in enumerate(file, 1):
                if line := line.strip():
                    yield number, line
    except UnicodeDecodeError:
        raise UserError(f"Glyphs '{path}': not a CSV in UTF-8. Unpack it if it is an archive.") from None
    except OSError as error:
        raise UserError(f"Glyphs '{path}' cannot be read ({error.strerror or error}).") from None


def _with(number: int, line: str, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    yield number, line
    yield from lines


def _unquoted(field: str) -> str:
    return field.strip().strip('"').strip()


def _letter(field: str, numbered: bool) -> str | None:
    if numbered:
        number = int(field) if field.isascii() and field.isdecimal() and len(field) < 5 else 0
        return LETTERS[number - 1] if 1 <= number <= len(LETTERS) else None
    return field.lower() if field.lower() in LETTERS else None


def _pixels(text: str, where: str) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # older NumPy's way of saying that a text is not all numbers
        try:
            values = np.fromstring(text, np.float64, sep=",")
        except (ValueError, DeprecationWarning):
            values = np.zeros(0)
    fine = len(values) == _PIXELS and bool(((values >= 0) & (values <= 255) & (values == np.floor(values))).all())
    if not fine:
        place, field = next((place, field) for place, field in enumerate(text.split(",")) if not _is_level(field))
        raise UserError(f"{where}: pixel {place} is '{printable(field.strip())}'. Wanted: whole numbers from 0 to 255.")
    return values.astype(np.uint8).reshape(GLYPH_SIDE, GLYPH_SIDE)


def _is_level(field: str) -> bool:
    if "_" in field or not field.isascii():  # which Python takes, and NumPy does not
        return False
    try:
        value = float(field)
    except ValueError:
        return False
    return 0 <= value <= 255 and value == int(value)
