"""Marked tokens laid out in lines of a fixed number of characters, for a font of one width."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainers.report.figure import printable
from trainers.report.token_diff import Token

ELLIPSIS = "…"


@dataclass(frozen=True)
class Piece:
    """Characters that stand together: the line and the column where they begin, and whether they are wrong."""

    line: int
    column: int
    text: str
    wrong: bool


def lay_out(tokens: Sequence[Token], width: int, max_lines: int) -> list[Piece]:
    """Tokens one blank apart in at most `max_lines` lines of `width` characters; a longer token is broken.

    What does not fit is cut and an ellipsis stands in the last column. Raises ValueError for a width below 2.
    """
    if width < 2 or max_lines < 1:
        raise ValueError(f"no room for text: {max_lines} lines of {width} characters")
    pieces: list[Piece] = []
    line, column = 0, 0
    for token in tokens:
        rest = printable(token.text)
        if column and column + 1 + len(rest) > width:
            line, column = line + 1, 0
        elif column:
            column += 1
        while rest:
            part, rest = rest[: width - column], rest[width - column :]
            pieces.append(Piece(line, column, part, token.wrong))
            column += len(part)
            if rest:
                line, column = line + 1, 0
    shown = [piece for piece in pieces if piece.line < max_lines]
    if len(shown) < len(pieces):
        last = shown[-1]
        shown[-1] = replace(last, text=last.text[: width - 1 - last.column])
        shown.append(Piece(last.line, min(last.column + len(last.text), width - 1), ELLIPSIS, False))
    return [piece for piece in shown if piece.text]


def line_count(pieces: Sequence[Piece]) -> int:
    """How many lines the pieces take; at least one."""
    return max((piece.line for piece in pieces), default=0) + 1
