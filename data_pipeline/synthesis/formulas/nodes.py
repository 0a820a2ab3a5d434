"""The tree of a formula, and its LaTeX tokens in the conventions of the CROHME captions.

Braces always stand around scripts, subscripts come before superscripts, and every digit is a token of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

STRUCTURE_TOKENS = ("\\frac", "\\sqrt", "^", "_", "{", "}")
"""Tokens that draw nothing of their own: they say how the others stand to each other."""


@dataclass(frozen=True)
class Symbol:
    """One visible token, such as `x`, `\\alpha` or `\\sin`."""

    token: str


@dataclass(frozen=True)
class Row:
    """Parts that stand side by side on one baseline."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Group:
    """A row between two delimiters, which grow with it."""

    left: str
    body: Node
    right: str


@dataclass(frozen=True)
class Script:
    """A base with a subscript, a superscript or both; on `\\sum` and `\\lim` they are the limits."""

    base: Node
    sub: Node | None = None
    sup: Node | None = None


@dataclass(frozen=True)
class Fraction:
    """A numerator above a denominator."""

    numerator: Node
    denominator: Node


@dataclass(frozen=True)
class Root:
    """A radical sign over a body, with an optional degree."""

    body: Node
    degree: Node | None = None


Node = Symbol | Row | Group | Script | Fraction | Root


def row(*parts: Node) -> Node:
    """Set parts side by side; rows among them are taken apart, and a single part stays what it is."""
    flat: list[Node] = []
    for part in parts:
        flat.extend(part.parts if isinstance(part, Row) else (part,))
    return flat[0] if len(flat) == 1 else Row(tuple(flat))


def tokens(node: Node) -> list[str]:
    """LaTeX tokens of a formula, in reading order."""
    return list(_tokens(node))


def _tokens(node: Node) -> Iterator[str]:
    match node:
        case Symbol(token):
            yield token
        case Row(parts):
            for part in parts:
                yield from _tokens(part)
        case Group(left, body, right):
            yield left
            yield from _tokens(body)
            yield right
        case Script(base, sub, sup):
            yield from _tokens(base)
            if sub is not None:
                yield "_"
                yield from _braced(sub)
            if sup is not None:
                yield "^"
                yield from _braced(sup)
        case Fraction(numerator, denominator):
            yield "\\frac"
            yield from _braced(numerator)
            yield from _braced(denominator)
        case Root(body, degree):
            yield "\\sqrt"
            if degree is not None:
                yield "["
                yield from _tokens(degree)
                yield "]"
            yield from _braced(body)


def _braced(node: Node) -> Iterator[str]:
    yield "{"
    yield from _tokens(node)
    yield "}"


def children(node: Node) -> tuple[Node, ...]:
    """The nodes directly inside a node."""
    match node:
        case Symbol():
            return ()
        case Row(parts):
            return parts
        case Group(_, body, _):
            return (body,)
        case Script(base, sub, sup):
            return tuple(part for part in (base, sub, sup) if part is not None)
        case Fraction(numerator, denominator):
            return (numerator, denominator)
        case Root(body, degree):
            return (body,) if degree is None else (body, degree)


def walk(node: Node) -> Iterator[Node]:
    """A node and everything inside it, outermost first."""
    yield node
    for child in children(node):
        yield from walk(child)


def depth(node: Node) -> int:
    """How many structures (scripts, fractions, roots) lie inside each other at most; 0 for a plain row."""
    below = max((depth(child) for child in children(node)), default=0)
    return below + isinstance(node, Script | Fraction | Root)


def structures(node: Node) -> int:
    """How many scripts, fractions and roots a formula has: its level of difficulty."""
    return sum(isinstance(part, Script | Fraction | Root) for part in walk(node))


def ink_width(node: Node) -> float:
    """Width of a formula on paper, estimated in widths of a digit."""
    match node:
        case Symbol(token):
            return _SYMBOL_WIDTHS.get(token, 1.0)
        case Row(parts):
            return sum(map(ink_width, parts))
        case Group(_, body, _):
            return ink_width(body) + 1.2
        case Script(Symbol("\\sum" | "\\lim"), sub, sup):
            return max(1.8, *(0.7 * ink_width(part) for part in (sub, sup) if part is not None))
        case Script(base, sub, sup):
            return ink_width(base) + max(0.7 * ink_width(part) for part in (sub, sup) if part is not None)
        case Fraction(numerator, denominator):
            return 0.4 + max(ink_width(numerator), ink_width(denominator))
        case Root(body, _):
            return 0.9 + ink_width(body)


_SYMBOL_WIDTHS = {
    **dict.fromkeys(("+", "-", "=", "<", ">", "\\times", "\\div", "\\pm", "\\leq", "\\geq", "\\neq"), 1.8),
    **dict.fromkeys(("\\sin", "\\cos", "\\tan", "\\log", "\\lim"), 2.6),
    **dict.fromkeys(("\\rightarrow", "\\ldots", "\\infty"), 2.0),
    **dict.fromkeys(("/", "!", ",", "i", "j", "|", "\\prime", "\\cdot"), 0.7),
    "\\sum": 1.8,
}
