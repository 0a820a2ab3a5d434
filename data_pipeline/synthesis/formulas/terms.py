"""Terms of formulas: numbers, variables, powers, fractions, roots, function values, and sums of them.

Every function draws from a generator and takes `room`: how many structures may still lie inside each other.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_pipeline.synthesis.formulas.draw import Weighted, chance, pick
from data_pipeline.synthesis.formulas.nodes import Fraction, Group, Node, Root, Script, Symbol, row
from data_pipeline.synthesis.formulas.symbols import CAPITALS, DIGITS, FUNCTIONS, GREEK, LETTERS

GREEK_VARIABLES = tuple(letter for letter in GREEK if letter != "\\Delta")
_VARIABLE_KIND: Weighted[tuple[str, ...]] = Weighted({LETTERS: 0.7, GREEK_VARIABLES: 0.2, CAPITALS: 0.1})
_INDICES = tuple("ijkmnpt0123")
_EXPONENTS = tuple("2345nmkpxt")
_FUNCTION_NAMES = (*"fghuv", "\\phi", "F", "H")
_JOINT: Weighted[str] = Weighted({"+": 0.37, "-": 0.33, "\\times": 0.08, "\\cdot": 0.07, "\\div": 0.07, "\\pm": 0.08})


def symbols(text: str) -> Node:
    """A row of the tokens in a string, which stand apart by spaces."""
    return row(*(Symbol(token) for token in text.split()))


def variable(rng: np.random.Generator) -> Node:
    """A letter, mostly a small Latin one."""
    return Symbol(pick(rng, _VARIABLE_KIND.draw(rng)))


def number(rng: np.random.Generator, lowest: int = 1) -> Node:
    """A whole number of one to three digits, the first of them at least `lowest`."""
    length = 1 + chance(rng, 0.32) + chance(rng, 0.08)
    first = Symbol(pick(rng, DIGITS[lowest:]))
    return row(first, *(Symbol(pick(rng, DIGITS)) for _ in range(length - 1)))


def atom(rng: np.random.Generator) -> Node:
    """A variable or a number."""
    return number(rng) if chance(rng, 0.34) else variable(rng)


def sum_of(rng: np.random.Generator, count: int, room: int, flat: bool = False) -> Node:
    """`count` terms joined by operators, now and then with a sign in front."""
    nodes: list[Node] = [Symbol("-")] if chance(rng, 0.06) else []
    nodes.append(term(rng, room, flat))
    for _ in range(count - 1):
        nodes += [Symbol(_JOINT.draw(rng)), term(rng, room, flat)]
    return row(*nodes)


def simple_sum(rng: np.random.Generator) -> Node:
    """One or two plain factors, for the inside of a structure."""
    first = coefficient(rng, 0) if chance(rng, 0.3) else atom(rng)
    if chance(rng, 0.5):
        return first
    return row(first, Symbol("+" if chance(rng, 0.55) else "-"), atom(rng))


def coefficient(rng: np.random.Generator, room: int) -> Node:
    """A product written side by side: `2 x`, `a b`, `7 t ^ { 2 }`, or a difference `\\Delta x`."""
    if chance(rng, 0.1):
        return row(Symbol("\\Delta"), variable(rng))
    head = number(rng, lowest=2) if chance(rng, 0.65) else variable(rng)
    tail = variable(rng)
    if room and chance(rng, 0.3):
        tail = Script(tail, sup=exponent(rng))
    return row(head, tail)


def power(rng: np.random.Generator, room: int) -> Node:
    """A variable, a digit or a bracket with an exponent."""
    if chance(rng, 0.15):
        return Script(group(rng, room - 1), sup=exponent(rng))
    base = variable(rng) if chance(rng, 0.85) else Symbol(pick(rng, DIGITS[1:]))
    return Script(base, sup=exponent(rng))


def exponent(rng: np.random.Generator) -> Node:
    """What stands in a superscript: mostly one symbol."""
    kind = rng.random()
    if kind < 0.66:
        return Symbol(pick(rng, _EXPONENTS))
    if kind < 0.78:
        return row(Symbol("-"), Symbol(pick(rng, _EXPONENTS)))
    if kind < 0.9:
        return row(Symbol(pick(rng, LETTERS)), Symbol("+" if chance(rng, 0.5) else "-"), Symbol(pick(rng, DIGITS[1:])))
    return coefficient(rng, 0)


def indexed(rng: np.random.Generator, room: int) -> Node:
    """A variable with a subscript, sometimes with an exponent as well."""
    sub: Node = Symbol(pick(rng, _INDICES))
    if chance(rng, 0.2):
        sub = row(Symbol(pick(rng, tuple("ijkmn"))), Symbol("+" if chance(rng, 0.5) else "-"), Symbol("1"))
    elif chance(rng, 0.1):
        sub = row(sub, Symbol(pick(rng, tuple("ijkmn"))))
    return Script(variable(rng), sub=sub, sup=exponent(rng) if chance(rng, 0.25) else None)


def fraction(rng: np.random.Generator, room: int) -> Node:
    """A fraction; its parts are simple unless there is room for more."""

    def part() -> Node:
        return term(rng, room - 1, flat=True) if room > 1 and chance(rng, 0.45) else simple_sum(rng)

    return Fraction(part(), part())


def root(rng: np.random.Generator, room: int) -> Node:
    """A root, sometimes with a degree."""
    if room > 1 and chance(rng, 0.5):
        body = fraction(rng, room - 1) if chance(rng, 0.2) else sum_of(rng, 1 + chance(rng, 0.35), room - 1, flat=True)
    else:
        body = simple_sum(rng)
    degree = Symbol(pick(rng, "334n")) if chance(rng, 0.28) else None
    return Root(body, degree)


def group(rng: np.random.Generator, room: int) -> Node:
    """A bracket around a short sum."""
    left, right = ("(", ")") if chance(rng, 0.85) else ("[", "]")
    body = sum_of(rng, 2, room) if room > 0 and chance(rng, 0.2) else row(atom(rng), Symbol(_JOINT.draw(rng)), atom(rng))
    return Group(left, body, right)


def absolute(rng: np.random.Generator, room: int) -> Node:
    """An absolute value."""
    return Group("|", simple_sum(rng), "|")


def application(rng: np.random.Generator, room: int) -> Node:
    """A named function on its argument: `\\sin x`, `\\log _ { 2 } n`, `\\cos ^ { 2 } \\theta`."""
    name = pick(rng, FUNCTIONS)
    head: Node = Symbol(name)
    if room and chance(rng, 0.3):
        head = Script(head, sub=number(rng, lowest=2)) if name == "\\log" else Script(head, sup=Symbol("2"))
    kind = rng.random()
    if kind < 0.5:
        return row(head, variable(rng))
    if kind < 0.7:
        return row(head, coefficient(rng, 0))
    return row(head, Group("(", simple_sum(rng), ")"))


def function_value(rng: np.random.Generator, room: int) -> Node:
    """An unnamed function on its argument: `f ( x )`, `g ^ { \\prime } ( t )`."""
    head: Node = Symbol(pick(rng, _FUNCTION_NAMES))
    if room and chance(rng, 0.35):
        head = Script(head, sup=Symbol("\\prime"))
    argument = variable(rng) if chance(rng, 0.7) else simple_sum(rng)
    return row(head, Group("(", argument, ")"))


def factorial(rng: np.random.Generator, room: int) -> Node:
    """`n !` or `( n - 1 ) !`."""
    base = group(rng, 0) if chance(rng, 0.2) else number(rng) if chance(rng, 0.3) else variable(rng)
    return row(base, Symbol("!"))


def ratio(rng: np.random.Generator, room: int) -> Node:
    """A ratio on one line: `a / b`."""
    return row(atom(rng), Symbol("/"), atom(rng))


_Maker = Callable[[np.random.Generator, int], Node]
_FLAT: dict[_Maker, float] = {
    lambda rng, room: atom(rng): 0.32,
    coefficient: 0.13,
    group: 0.03,
    absolute: 0.035,
    application: 0.12,
    function_value: 0.06,
    factorial: 0.035,
    ratio: 0.03,
}
_SCRIPTED: dict[_Maker, float] = {power: 0.15, indexed: 0.1}
_TALL: dict[_Maker, float] = {fraction: 0.31, root: 0.26}
_PLAIN_TERM: Weighted[_Maker] = Weighted(_FLAT)
_SCRIPTED_TERM: Weighted[_Maker] = Weighted({**_FLAT, **_SCRIPTED})
_ANY_TERM: Weighted[_Maker] = Weighted({**_FLAT, **_SCRIPTED, **_TALL})


def term(rng: np.random.Generator, room: int, flat: bool = False) -> Node:
    """Any term that fits; `flat` leaves out fractions and roots, so that a fraction's parts stay low."""
    kinds = _PLAIN_TERM if room < 1 else _SCRIPTED_TERM if flat else _ANY_TERM
    return kinds.draw(rng)(rng, room)
