"""Words of a color each, wrapped into lines of a fixed number of characters for a monospaced font."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

Color = tuple[int, int, int]  # RGB, 0 to 255

INK: Color = (31, 36, 48)
MUTED: Color = (107, 114, 128)
ELLIPSIS = "…"


@dataclass(frozen=True)
class Word:
    """A text and how it is drawn."""

    text: str
    color: Color = INK
    bold: bool = False


Line = Sequence[Word]  # words one blank apart


def wrap(words: Sequence[Word], width: int, max_lines: int) -> list[list[Word]]:
    """At most `max_lines` lines of `width` characters, words one blank apart; a word longer than a line is broken.

    Text that does not fit is cut and an ellipsis ends the last line. Raises ValueError for a width below 2.
    """
    if width < 2 or max_lines < 1:
        raise ValueError(f"no room for text: {max_lines} lines of {width} characters")
    lines: list[list[Word]] = []
    room = 0  # characters that the last line has left
    for word in words:
        rest = printable(word.text)
        if not lines or len(rest) + 1 > room:
            lines.append([])
            room = width
        else:
            room -= 1
        while len(rest) > room:
            lines[-1].append(replace(word, text=rest[:room]))
            lines.append([])
            rest, room = rest[room:], width
        lines[-1].append(replace(word, text=rest))
        room -= len(rest)
    if len(lines) > max_lines:
        lines[max_lines - 1 :] = [_cut(lines[max_lines - 1], width)]
    return lines


def shorten(words: Line, width: int) -> list[Word]:
    """One line of at most `width` characters; where it is cut, an ellipsis ends it."""
    words = [replace(word, text=printable(word.text)) for word in words]
    return words if line_length(words) <= width else _cut(words, width)


def _cut(words: Line, width: int) -> list[Word]:
    """The beginning of a line with an ellipsis behind it, `width` characters together."""
    kept = list(words)
    while (excess := line_length(kept) - (width - 1)) > 0:
        last = kept.pop()
        if len(last.text) > excess:
            kept.append(replace(last, text=last.text[:-excess]))
    last = kept.pop() if kept else Word("")
    return [*kept, replace(last, text=last.text + ELLIPSIS)]


def line_length(words: Line) -> int:
    """Characters of a line, the blanks between its words included."""
    return sum(len(word.text) for word in words) + max(0, len(words) - 1)


def printable(text: str) -> str:
    """The text on one line: control characters, which have no glyph, become blanks."""
    return "".join(character if character.isprintable() else " " for character in text)
