"""Normalization of LaTeX: the tokens of a formula with one spelling for every way of writing the same formula."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, pairwise

from data_pipeline.importers.crohme.latex_commands import COMMANDS, LAYOUT, SYNONYMS

MAX_DEPTH = 60
"""Groups nested deeper than this are refused: no formula needs them, and they would exhaust the stack."""

_LEXEME = re.compile(r"\\[A-Za-z]+|\\.|\S", re.DOTALL)


class LatexError(ValueError):
    """LaTeX that is broken or says something that cannot be normalized; the message says what."""


def normalize_latex(source: str) -> list[str]:
    r"""The normalized tokens of a formula: joined by spaces they are LaTeX again, and normalizing that changes nothing.

    Braces stand around every script and argument and nowhere else, a subscript stands before its superscript, each
    character is a token, layout commands (`\left`, `\mbox`, `\!`, ...) are gone, synonyms have one spelling, and
    `\limits` stays after `\int` alone.

    Raises:
        LatexError: unbalanced braces, a missing argument, two subscripts on one symbol, an unknown command.
    """
    return _Parser(_lex(source)).sequence(closing=None, depth=0)


def _lex(source: str) -> list[str]:
    """Known commands and single characters, synonyms resolved and layout commands left out."""
    if not source.isascii():
        raise LatexError(f"a character outside ASCII: {next(c for c in source if not c.isascii())!r}")
    lexemes: list[str] = []
    for lexeme in _LEXEME.findall(source):
        known = not lexeme.startswith("\\") or lexeme in COMMANDS
        for part in [lexeme] if known else _split_command(lexeme):
            if part not in LAYOUT:
                lexemes.extend(SYNONYMS.get(part, (part,)))
    return lexemes


def _split_command(lexeme: str) -> list[str]:
    r"""A command that swallowed the letters after it (`\gtx`): the longest known command, then letters."""
    for end in range(len(lexeme) - 1, 1, -1):
        if lexeme[:end] in COMMANDS:
            return [lexeme[:end], *lexeme[end:]]
    raise LatexError(f"unknown command {lexeme}")


class _Parser:
    """Recursive descent over lexemes: a sequence is a list of items, an item a list of tokens.

    An item is a symbol, a script, a structure with its arguments, or a group in braces.
    """

    def __init__(self, lexemes: list[str]) -> None:
        self.lexemes = lexemes
        self.at = 0

    def peek(self) -> str | None:
        return self.lexemes[self.at] if self.at < len(self.lexemes) else None

    def sequence(self, closing: str | None, depth: int) -> list[str]:
        """The tokens up to `closing` (which is consumed) or, where it is None, to the end."""
        return [token for item in self.items(closing, depth) for token in item]

    def items(self, closing: str | None, depth: int) -> list[list[str]]:
        if depth > MAX_DEPTH:
            raise LatexError(f"groups nested deeper than {MAX_DEPTH}")
        items: list[list[str] | _Group] = []
        while (lexeme := self.peek()) != closing:
            if lexeme is None:
                raise LatexError(f"{closing} is missing")
            if lexeme == "{":
                self.at += 1
                items.append(_Group(self.items("}", depth + 1)))
            elif item := self.item(depth):
                items.append(item)
        self.at += 1
        return _arrange(items)

    def item(self, depth: int) -> list[str]:
        """One symbol, script or structure with its arguments; an empty script is no item."""
        lexeme = self.lexemes[self.at]
        self.at += 1
        if lexeme == "}":
            raise LatexError("} without {")
        if lexeme in ("&", "#", "%"):
            raise LatexError(f"{lexeme} without a backslash")
        if lexeme in ("_", "^"):
            content = self.argument(lexeme, depth)
            return [lexeme, "{", *content, "}"] if content else []
        if lexeme == r"\frac":
            return [lexeme, *self.filled_argument(lexeme, depth), *self.filled_argument(lexeme, depth)]
        if lexeme == r"\sqrt":
            return [lexeme, *self.root_index(depth), *self.filled_argument(lexeme, depth)]
        return [lexeme]

    def root_index(self, depth: int) -> list[str]:
        if self.peek() != "[":
            return []
        self.at += 1
        items = self.items("]", depth + 1)
        if ["]"] in items:
            raise LatexError(r"a ] inside the index of \sqrt")
        return ["[", *(token for item in items for token in item), "]"] if items else []

    def filled_argument(self, owner: str, depth: int) -> list[str]:
        content = self.argument(owner, depth)
        if not content:
            raise LatexError(f"an argument of {owner} is empty")
        return ["{", *content, "}"]

    def argument(self, owner: str, depth: int) -> list[str]:
        """The tokens of a group, or of the one item that stands where a group could."""
        lexeme = self.peek()
        if lexeme is None or lexeme in ("}", "_", "^", r"\limits"):
            raise LatexError(f"an argument of {owner} is missing")
        if lexeme == "{":
            self.at += 1
            return self.sequence("}", depth + 1)
        if depth > MAX_DEPTH:
            raise LatexError(f"groups nested deeper than {MAX_DEPTH}")
        return self.item(depth + 1)


@dataclass
class _Group:
    """What stood between grouping braces."""

    items: list[list[str]]


def _arrange(items: list[list[str] | _Group]) -> list[list[str]]:
    r"""Items without needless groups, `\limits` only after `\int`, each run of scripts in its order.

    A group is needed where its braces keep two scripts of a kind apart, as in `{ y ^ { \prime } } ^ { 2 }`.
    """
    flat: list[list[str]] = []
    for position, item in enumerate(items):
        if isinstance(item, _Group):
            if _has_double_script([*flat[-2:], *item.items, *_leading_scripts(items[position + 1 : position + 3])]):
                flat.append(["{", *(token for inner in item.items for token in inner), "}"])
            else:
                flat += item.items
        elif item != [r"\limits"] or (flat and flat[-1] == [r"\int"]):
            flat.append(item)
    if _has_double_script(flat):
        raise LatexError("two subscripts or two superscripts on one symbol")
    arranged: list[list[str]] = []
    for _, run in groupby(flat, key=_is_script):
        arranged += sorted(run, key=_order)
    return arranged


def _leading_scripts(items: Iterable[list[str] | _Group]) -> list[list[str]]:
    scripts: list[list[str]] = []
    for item in items:
        if isinstance(item, _Group) or not _is_script(item):
            break
        scripts.append(item)
    return scripts


def _is_script(item: list[str]) -> bool:
    return item[0] in ("_", "^")


def _order(item: list[str]) -> bool:
    return item[0] == "^"


def _has_double_script(items: list[list[str]]) -> bool:
    return any(_is_script(left) and left[0] == right[0] for left, right in pairwise(items)) or any(
        _is_script(a) and _is_script(b) and a[0] == c[0] for a, b, c in zip(items, items[1:], items[2:], strict=False)
    )
