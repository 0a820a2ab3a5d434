"""Both styles draw every symbol, and put the parts of a formula where they belong."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.synthesis.formulas.handwriting.boxes import Box
from data_pipeline.synthesis.formulas.handwriting.glyphs import glyph_variants, smooth_basis
from data_pipeline.synthesis.formulas.handwriting.layout import Layout
from data_pipeline.synthesis.formulas.handwriting.render import render_handwritten
from data_pipeline.synthesis.formulas.handwriting.strokes import ALL_STROKES, STROKES
from data_pipeline.synthesis.formulas.handwriting.writer import WriterStyle, own_glyph, writer_style
from data_pipeline.synthesis.formulas.nodes import Fraction, Group, Node, Root, Script, Symbol, row
from data_pipeline.synthesis.formulas.printed import FONTS, mathtext, raster
from data_pipeline.synthesis.formulas.symbols import BIG_OPERATORS, FUNCTIONS, VISIBLE_TOKENS

X = Symbol("x")
WORDS = {*FUNCTIONS, "\\lim"}


def dark_share(image: np.ndarray) -> float:
    gray = image.mean(axis=2)
    return float((gray < np.median(gray) - 50).mean())


def written(node: Node, number: int = 0) -> Box:
    return Layout(writer_style(0, number), np.random.default_rng(0)).box(node)


@pytest.mark.parametrize("token", VISIBLE_TOKENS)
def test_every_symbol_is_written(token: str) -> None:
    for number in range(3):
        image = render_handwritten(Symbol(token), writer_style(0, number), np.random.default_rng(number))
        assert 0.01 < dark_share(image) < 0.7


@pytest.mark.parametrize("font", FONTS)
def test_every_symbol_is_printed_with_a_look_of_its_own(font: str) -> None:
    looks = set()
    for token in VISIBLE_TOKENS:
        ink = raster(mathtext(Symbol(token)), font, 40)
        assert ink.max() > 0.5
        looks.add((ink.shape, ink.tobytes()))
    assert len(looks) == len(VISIBLE_TOKENS)


def test_the_table_has_the_visible_symbols_and_the_letters_of_function_names() -> None:
    needed = {*VISIBLE_TOKENS, *"".join(word[1:] for word in WORDS)} - WORDS
    assert set(STROKES) == needed


@pytest.mark.parametrize("symbol", sorted(ALL_STROKES))
def test_drawings_stay_in_their_em_box(symbol: str) -> None:
    for glyph in glyph_variants(symbol):
        fine = np.concatenate(glyph.strokes(glyph.control))
        assert fine[:, 0].min() > -0.15 and fine[:, 0].max() < 0.75
        assert fine[:, 1].min() > -0.35 and fine[:, 1].max() < 0.9


def test_a_smooth_curve_passes_through_its_points() -> None:
    points = np.array([[0.0, 0.0], [0.2, 0.5], [0.6, 0.4], [0.6, 0.1]])
    basis = smooth_basis(points)
    np.testing.assert_allclose(basis.sum(axis=1), 1.0, atol=1e-12)
    fine = basis @ points
    assert all(np.hypot(*(fine - point).T).min() < 1e-12 for point in points)


def test_a_writer_forms_a_letter_alike_and_unlike_others() -> None:
    style = writer_style(7, 3)
    again = WriterStyle.from_seed(7, 3)
    np.testing.assert_array_equal(own_glyph(style, "a").control, own_glyph(again, "a").control)
    others = {own_glyph(writer_style(7, number), "a").control.tobytes() for number in range(20)}
    assert len(others) == 20


@pytest.mark.parametrize("number", range(8))
def test_parts_of_a_handwritten_formula_stand_where_they_belong(number: int) -> None:
    plain = written(X, number)
    power = written(Script(X, sup=Symbol("2")), number)
    index = written(Script(X, sub=Symbol("2")), number)
    assert power.ascent > plain.ascent + 0.2 and power.descent < plain.descent + 0.1
    assert index.descent > plain.descent + 0.1 and index.ascent < plain.ascent + 0.1
    fraction = written(Fraction(X, X), number)
    assert fraction.ascent > 0.6 and fraction.descent > 0.1
    root = written(Root(X), number)
    assert root.ascent > plain.ascent and root.width > plain.width + 0.3
    tall = written(Group("(", Fraction(X, X), ")"), number)
    assert tall.ascent > fraction.ascent and tall.descent > fraction.descent


@pytest.mark.parametrize("number", range(8))
def test_boxes_hold_their_ink(number: int) -> None:
    node = row(Fraction(Script(X, Symbol("i"), Symbol("2")), Root(X, Symbol("3"))), Symbol("+"), Symbol("\\sin"))
    box = written(row(node, Script(Symbol(BIG_OPERATORS[0]), Symbol("i"), Symbol("n"))), number)
    ink = np.concatenate(box.strokes)
    assert ink[:, 0].min() >= -0.02 and ink[:, 0].max() <= box.width + 0.02
    assert -box.descent - 0.02 <= ink[:, 1].min() and ink[:, 1].max() <= box.ascent + 0.02


def test_a_row_reads_from_left_to_right() -> None:
    short, long = written(row(X, X)), written(row(X, X, Symbol("+"), X))
    assert long.width > short.width + 0.5


def test_delimiters_grow_with_fractions_in_print() -> None:
    assert mathtext(Group("(", X, ")")) == "( x )"
    assert mathtext(Group("(", Fraction(X, X), ")")).startswith("\\left(")
    assert mathtext(Fraction(Fraction(X, X), X)) == "\\dfrac{\\frac{x}{x}}{x}"
