"""Conversion of MathML to the tokens that the LaTeX of the same formula has."""

from xml.etree.ElementTree import Element

from data_pipeline.importers.crohme.latex import LatexError, normalize_latex
from data_pipeline.importers.crohme.latex_commands import COMMANDS

MAX_DEPTH = 300
"""Elements nested deeper than this are refused; real formulas nest one row per symbol and stay below 220."""

# Leaves that carry a name instead of a symbol: entity names, Unicode, and what a converter left of \lim.
_NAMES: dict[str, str] = {
    "rarr": r"\rightarrow",
    "infin": r"\infty",
    "infty": r"\infty",
    "hellip": r"\ldots",
    "ctdot": r"\cdots",
    "exist": r"\exists",
    "im": r"\lim",
    "{": r"\{",
    "}": r"\}",
    "\u00b7": r"\cdot",
    "\u22c5": r"\cdot",
    "\u00d7": r"\times",
    "\u00f7": r"\div",
    "\u00b1": r"\pm",
    "\u2212": "-",
    "\u2032": r"\prime",
    "\u221e": r"\infty",
    "\u2026": r"\ldots",
    "\u22ef": r"\cdots",
    "\u2264": r"\leq",
    "\u2265": r"\geq",
    "\u2260": r"\neq",
    "\u2192": r"\rightarrow",
    "\u2208": r"\in",
    "\u2211": r"\sum",
    "\u222b": r"\int",
}
# Of an element: by it, trace groups say which strokes draw it.
XML_ID = "{http://www.w3.org/XML/1998/namespace}id"
_LEAVES = frozenset({"mi", "mn", "mo", "mtext"})
_ROWS = frozenset({"math", "mrow", "mstyle", "mpadded", "semantics"})
# The sign before each argument after the first.
_SCRIPTS: dict[str, tuple[str, ...]] = {
    "msub": ("_",),
    "munder": ("_",),
    "msup": ("^",),
    "mover": ("^",),
    "msubsup": ("_", "^"),
    "munderover": ("_", "^"),
}


class MathMLError(ValueError):
    """MathML that is broken or says something that has no tokens; the message says what."""


def mathml_tokens(math: Element, swap_roots: bool = False) -> list[str]:
    """The normalized tokens of a `math` element, spelled as `normalize_latex` spells them.

    A comma or point that ends a subscript goes to the line: it is punctuation, low by nature. `swap_roots` reads each
    `mroot` with its index first, as some converters wrote it.

    Raises:
        MathMLError: an unknown element or name, a wrong number of arguments.
    """
    try:
        return normalize_latex(" ".join(_tokens(math, swap_roots, depth=0)))
    except LatexError as error:
        raise MathMLError(str(error)) from error


def _tokens(element: Element, swap_roots: bool, depth: int) -> list[str]:
    if depth > MAX_DEPTH:
        raise MathMLError(f"elements nested deeper than {MAX_DEPTH}")
    tag = element.tag.rpartition("}")[2]
    if tag in _LEAVES:
        return leaf_tokens(element)
    arguments = [_tokens(child, swap_roots, depth + 1) for child in element]
    if tag in _ROWS:
        return [token for argument in arguments for token in argument]
    if tag == "msqrt":
        return [r"\sqrt", "{", *(token for argument in arguments for token in argument), "}"]
    if tag == "mfrac":
        _expect(tag, arguments, 2)
        return [r"\frac", "{", *arguments[0], "}", "{", *arguments[1], "}"]
    if tag == "mroot":
        _expect(tag, arguments, 2)
        base, index = reversed(arguments) if swap_roots else arguments
        return [r"\sqrt", "[", *index, "]", "{", *base, "}"]
    if tag in _SCRIPTS:
        signs = _SCRIPTS[tag]
        _expect(tag, arguments, 1 + len(signs))
        tokens = ["{", *arguments[0], "}"]
        for sign, argument in zip(signs, arguments[1:], strict=True):
            script, punctuation = _lowered(argument) if sign == "_" else (argument, [])
            tokens += [sign, "{", *script, "}", *punctuation]
        return tokens
    raise MathMLError(f"unknown element {tag}")


def _lowered(subscript: list[str]) -> tuple[list[str], list[str]]:
    """A subscript without the comma or point at its end, and that comma or point."""
    return (subscript[:-1], subscript[-1:]) if subscript[-1:] in ([","], ["."]) else (subscript, [])


def _expect(tag: str, arguments: list[list[str]], count: int) -> None:
    if len(arguments) != count:
        raise MathMLError(f"{tag} has {len(arguments)} arguments instead of {count}")


def leaf_tokens(element: Element) -> list[str]:
    """The tokens of an element without children.

    Raises:
        MathMLError: it is empty.
    """
    text = (element.text or "").strip()
    if r"\cdot_" in element.get(XML_ID, ""):
        return [r"\cdot"]
    if text in _NAMES:
        return [_NAMES[text]]
    if not text or text == "?":
        raise MathMLError("a leaf that is empty or lost its character")
    if text.startswith("\\"):
        return [text]
    return ["\\" + text] if len(text) > 1 and "\\" + text in COMMANDS else list(text)
