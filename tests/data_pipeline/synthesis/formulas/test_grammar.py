"""Formulas that the grammar draws: conventions of the tokens, bounds, and statistics over many."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from data_pipeline.synthesis.formulas.grammar import FormulaConfig, charset, random_formula, tokens
from data_pipeline.synthesis.formulas.nodes import Fraction, Node, Root, Script, Symbol, depth, row, structures

SEEDS = st.integers(0, 2**63)


def draw(seed: int, config: FormulaConfig | None = None) -> Node:
    return random_formula(np.random.default_rng(seed), config or FormulaConfig())


def after_group(text: list[str], start: int) -> int:
    """Position after the braced group that opens at `start`."""
    assert text[start] == "{"
    level = 0
    for position in range(start, len(text)):
        level += {"{": 1, "}": -1}.get(text[position], 0)
        if level == 0:
            return position + 1
    raise AssertionError(f"no closing brace: {' '.join(text)}")


def test_tokens_follow_the_caption_conventions() -> None:
    both = Script(Symbol("x"), sub=Symbol("i"), sup=row(Symbol("1"), Symbol("2")))
    assert " ".join(tokens(both)) == "x _ { i } ^ { 1 2 }"
    assert " ".join(tokens(Fraction(Symbol("a"), Root(Symbol("b"))))) == "\\frac { a } { \\sqrt { b } }"
    assert " ".join(tokens(Root(Symbol("x"), degree=Symbol("n")))) == "\\sqrt [ n ] { x }"
    assert " ".join(tokens(Script(Symbol("f"), sup=Symbol("\\prime")))) == "f ^ { \\prime }"


@given(SEEDS)
def test_braces_stand_where_they_must_and_subscripts_come_first(seed: int) -> None:
    text = tokens(draw(seed))
    opened = 0
    for position, token in enumerate(text):
        opened += {"{": 1, "}": -1}.get(token, 0)
        assert opened >= 0
        if token == "\\frac":
            after_group(text, after_group(text, position + 1))
        elif token == "\\sqrt":
            closing = text.index("]", position) if text[position + 1] == "[" else position
            after_group(text, closing + 1)
        elif token == "_":
            after_group(text, position + 1)
        elif token == "^":
            following = after_group(text, position + 1)
            assert text[following : following + 1] not in (["_"], ["^"])
    assert opened == 0


@given(SEEDS)
def test_a_formula_is_within_its_bounds_and_charset(seed: int) -> None:
    config = FormulaConfig()
    node = draw(seed, config)
    assert config.min_tokens <= len(tokens(node)) <= config.max_tokens
    assert depth(node) <= config.max_depth
    assert set(tokens(node)) <= set(charset(config))


@given(SEEDS, st.integers(3, 12), st.integers(1, 3))
def test_bounds_of_the_configuration_are_kept(seed: int, max_tokens: int, max_depth: int) -> None:
    node = draw(seed, FormulaConfig(max_tokens=max_tokens, max_depth=max_depth))
    assert len(tokens(node)) <= max_tokens
    assert depth(node) <= max_depth


@given(SEEDS)
def test_no_number_begins_with_zero(seed: int) -> None:
    text = tokens(draw(seed))
    for before, token, following in zip(["", *text], text, [*text[1:], ""], strict=False):
        if token == "0" and not before.isdigit():
            assert not following.isdigit()


def test_many_formulas_are_varied() -> None:
    drawn = [tokens(draw(seed)) for seed in range(2000)]
    counts = Counter(token for text in drawn for token in text)
    assert set(counts) == set(charset(FormulaConfig()))
    assert min(counts.values()) >= 10
    assert 10 <= np.mean([len(text) for text in drawn]) <= 13
    for marks in ({"\\frac"}, {"\\sqrt"}, {"^", "_"}):
        assert np.mean([bool(marks & set(text)) for text in drawn]) >= 0.15
    formulas = Counter(" ".join(text) for text in drawn)
    assert formulas.most_common(1)[0][1] < 20
    assert len(formulas) > 0.9 * len(drawn)


def test_charset_has_no_token_twice() -> None:
    symbols = charset(FormulaConfig())
    assert len(symbols) == len(set(symbols)) >= 70


def test_structures_and_depth_are_counted() -> None:
    nested = Fraction(Script(Symbol("x"), sup=Symbol("2")), Symbol("y"))
    assert (structures(nested), depth(nested)) == (2, 2)
    assert (structures(Symbol("x")), depth(Symbol("x"))) == (0, 0)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("max_depth", {"max_depth": 0}),
        ("num_writers", {"num_writers": 0}),
        ("max_tokens", {"min_tokens": 9, "max_tokens": 5}),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_by_name(key: str, values: dict[str, int]) -> None:
    with pytest.raises(UserError, match=key):
        FormulaConfig(**values)


def test_bounds_that_exclude_every_formula_end_in_an_error() -> None:
    with pytest.raises(UserError, match="min_tokens"):
        draw(0, FormulaConfig(min_tokens=200, max_tokens=300))
