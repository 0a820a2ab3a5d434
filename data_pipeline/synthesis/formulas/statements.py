"""Whole formulas: equations, inequalities, sums, integrals, limits, sequences, sets."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from data_pipeline.synthesis.formulas.draw import Weighted, chance, pick
from data_pipeline.synthesis.formulas.nodes import Group, Node, Script, Symbol, row
from data_pipeline.synthesis.formulas.symbols import CAPITALS, LETTERS
from data_pipeline.synthesis.formulas.terms import (
    GREEK_VARIABLES,
    atom,
    fraction,
    function_value,
    indexed,
    number,
    power,
    root,
    simple_sum,
    sum_of,
    symbols,
    term,
    variable,
)

_RELATION: Weighted[str] = Weighted({"=": 0.5, "<": 0.09, ">": 0.09, "\\leq": 0.1, "\\geq": 0.11, "\\neq": 0.11})


def relation(rng: np.random.Generator, room: int) -> Node:
    """An equation or inequality between two sums."""
    left = sum_of(rng, 1 + chance(rng, 0.45), room)
    right = sum_of(rng, 1 + chance(rng, 0.35), room)
    return row(left, Symbol(_RELATION.draw(rng)), right)


def definition(rng: np.random.Generator, room: int) -> Node:
    """A function, a variable or a difference said to be something: `f ( x ) = ...`, `\\Delta t = ...`."""
    kind = rng.random()
    if kind < 0.35:
        left = function_value(rng, room)
    elif kind < 0.5:
        left = row(Symbol("\\Delta"), variable(rng))
    elif kind < 0.65 and room:
        left = indexed(rng, room)
    else:
        left = Symbol(pick(rng, LETTERS + CAPITALS))
    tall = fraction if chance(rng, 0.5) else root
    right = tall(rng, room) if room and chance(rng, 0.45) else sum_of(rng, 2, room)
    return row(left, Symbol("="), right)


def expression(rng: np.random.Generator, room: int) -> Node:
    """A sum of two or three terms that states nothing."""
    return sum_of(rng, 2 + chance(rng, 0.3), room)


def summation(rng: np.random.Generator, room: int) -> Node:
    """A sum with limits: `\\sum _ { i = 1 } ^ { n } ...`."""
    index = pick(rng, "ijkmn")
    start = row(Symbol(index), Symbol("="), Symbol(pick(rng, "0112")))
    stop = Symbol("\\infty") if chance(rng, 0.3) else Symbol(pick(rng, "nmNpk5689"))
    body = Script(variable(rng), sub=Symbol(index)) if chance(rng, 0.35) else term(rng, room)
    return row(Script(Symbol("\\sum"), start, stop), body)


def integral(rng: np.random.Generator, room: int) -> Node:
    """An integral with or without limits."""
    head: Node = Symbol("\\int")
    if chance(rng, 0.7):
        upper = Symbol("\\infty") if chance(rng, 0.25) else atom(rng)
        head = Script(head, Symbol(pick(rng, "0012abc")), upper)
    return row(head, term(rng, room), Symbol("d"), Symbol(pick(rng, ("x", "t", "u", "r", "\\theta", "y", "z", "s"))))


def limit(rng: np.random.Generator, room: int) -> Node:
    """A limit: `\\lim _ { x \\rightarrow 0 } ...`."""
    target = Symbol("\\infty") if chance(rng, 0.4) else Symbol(pick(rng, "0012abc"))
    under = row(Symbol(pick(rng, "nxtkhyz")), Symbol("\\rightarrow"), target)
    body = function_value(rng, room) if chance(rng, 0.3) else term(rng, room)
    return row(Script(Symbol("\\lim"), sub=under), body)


def convergence(rng: np.random.Generator, room: int) -> Node:
    """Something that tends to something: `x _ { n } \\rightarrow \\infty`."""
    target = symbols(pick(rng, ("\\infty", "0", "- \\infty", "1"))) if chance(rng, 0.5) else atom(rng)
    return row(term(rng, room), Symbol("\\rightarrow"), target)


def sequence(rng: np.random.Generator, room: int) -> Node:
    """A sequence that goes on: `1 , 2 , \\ldots , n`, `a _ { 1 } + \\ldots + a _ { k }`."""
    name, last = pick(rng, LETTERS + GREEK_VARIABLES), pick(rng, "nmkpN689")
    joint = Symbol(pick(rng, ",,+"))
    if room and chance(rng, 0.5):
        first: Node = Script(Symbol(name), sub=Symbol(pick(rng, "01")))
        final: Node = Script(Symbol(name), sub=Symbol(last))
        return row(first, joint, Symbol("\\ldots"), joint, final)
    return row(number(rng), joint, number(rng), joint, Symbol("\\ldots"), joint, Symbol(last))


def collection(rng: np.random.Generator, room: int) -> Node:
    """A set, an interval or a point, maybe with a name: `A = \\{ 1 , 2 , 3 \\}`, `[ 0 , 1 ]`, `( a , b )`."""
    left, right = pick(rng, (("\\{", "\\}"), ("\\{", "\\}"), ("[", "]"), ("(", ")")))
    count = 2 + (left == "\\{" and chance(rng, 0.5))
    nodes: list[Node] = [simple_sum(rng) if chance(rng, 0.3) else atom(rng)]
    for _ in range(count - 1):
        nodes += [Symbol(","), atom(rng)]
    inside = Group(left, row(*nodes), right)
    if chance(rng, 0.4):
        return row(Symbol(pick(rng, CAPITALS)), Symbol("="), inside)
    if chance(rng, 0.4):
        return row(inside, Symbol(pick(rng, "+-")), power(rng, room) if room else atom(rng))
    return inside


def chain(rng: np.random.Generator, room: int) -> Node:
    """A variable between two bounds: `0 \\leq x < 1`."""
    first, second = pick(rng, (("<", "<"), ("\\leq", "\\leq"), ("<", "\\leq"), ("\\leq", "<"), (">", ">"), ("\\geq", ">")))
    return row(atom(rng), Symbol(first), term(rng, room), Symbol(second), atom(rng))


_STATEMENTS: Weighted[Callable[[np.random.Generator, int], Node]] = Weighted(
    {
        relation: 0.33,
        definition: 0.15,
        expression: 0.17,
        summation: 0.07,
        integral: 0.06,
        limit: 0.055,
        convergence: 0.025,
        sequence: 0.045,
        collection: 0.06,
        chain: 0.035,
    }
)


def statement(rng: np.random.Generator, room: int) -> Node:
    """Any whole formula, with at most `room` structures inside each other."""
    return _STATEMENTS.draw(rng)(rng, room)
