"""Formulas made of others: what is drawn is what the caption says."""

from collections import Counter

import numpy as np

from data_pipeline.importers.crohme.caption import caption
from data_pipeline.importers.crohme.inkml import Ink, read_inkml
from data_pipeline.importers.crohme.variations import ALIKE, ASPECT, ROTATION, SLANT, STRETCH, Bank, distorted, vary
from tests.support.ink_document import inkml

# Each symbol is known by how many points it is drawn with, wherever it is put.
SYMBOLS = ["x", "a", "2", "7", "+", r"\times", "-", r"\alpha"]
POINTS = {symbol: 3 + index for index, symbol in enumerate(SYMBOLS)}
BAR = 40  # points of a fraction's


def trace(points: int, left: float = 0.0, top: float = 0.0, size: float = 10.0) -> str:
    steps = np.linspace(0, size, points)
    return ", ".join(f"{left + step:.3f} {top + size - step:.3f}" for step in steps)


def leaf(symbol: str, number: int) -> str:
    return f'<mi xml:id="{number}">{symbol}</mi>'


def formula() -> Ink:
    r"""x + \frac{2}{a}, each symbol ten units wide and high, twenty apart, but for 2 above a."""
    mathml = f'<mrow>{leaf("x", 0)}<mrow>{leaf("+", 1)}<mfrac xml:id="bar">{leaf("2", 2)}{leaf("a", 3)}</mfrac></mrow></mrow>'
    traces = (
        trace(POINTS["x"]), trace(POINTS["+"], 20), trace(POINTS["2"], 40, -20), trace(POINTS["a"], 40, 20), trace(BAR, 40)
    )  # fmt: skip
    return read_inkml(inkml(None, mathml, traces, symbols={"0": (0,), "1": (1,), "2": (2,), "3": (3,), "bar": (4,)}))


def bank() -> Bank:
    """Every symbol once, a hundred times as large and elsewhere."""
    inks = [
        read_inkml(inkml(None, leaf(symbol, 0), (trace(POINTS[symbol], -5000, 300, 1000),), symbols={"0": (0,)}))
        for symbol in SYMBOLS
    ]
    return Bank.of(inks)


def variations(count: int) -> list[tuple[list[np.ndarray], str]]:
    ink = formula()
    return [vary(ink, caption(ink, ""), bank(), np.random.default_rng(seed)) for seed in range(count)]


def test_which_strokes_draw_what_is_read() -> None:
    ink = formula()
    assert ink.symbols == {"0": [0], "1": [1], "2": [2], "3": [3], "bar": [4]}
    assert caption(ink, "") == r"x + \frac { 2 } { a }"
    blank = read_inkml(inkml("x", "<mi>x</mi>", ("", "1 2, 3 4"), symbols={"0": (1,), "1": (0,), "2": (7,)}))
    assert blank.symbols == {"0": [0]}, "an empty trace is no stroke, and draws nothing"


def test_what_is_drawn_is_what_is_said() -> None:
    texts = set()
    for strokes, text in variations(200):
        drawn = Counter(len(stroke) for stroke in strokes)
        said = Counter(POINTS[token] for token in text.split() if token in POINTS)
        said[BAR] += text.count("frac")
        assert drawn == +said, text
        texts.add(text)
    assert len(texts) > 10 and r"x + \frac { 2 } { a }" in texts
    assert r"\frac { 2 } { a }" in texts and r"+ \frac { 2 } { a }" in texts, "parts are cut out"


def test_a_symbol_gives_way_to_one_of_its_kind_in_its_place() -> None:
    alike, seen = {"x", "a", r"\alpha"}, set()
    for strokes, text in variations(200):
        first = text.split()[0]
        if first in alike and text.split()[1] in ALIKE["+"]:
            seen.add(first)
            points = next(stroke for stroke in strokes if len(stroke) == POINTS[first] and stroke[:, 0].max() < 15)
            low, high = points.min(axis=0), points.max(axis=0)
            np.testing.assert_allclose((low + high) / 2, [5, 5], atol=1e-6)
            assert ((high - low) <= 10 * (1 + STRETCH) + 1e-6).all() and ((high - low) >= 10 * (1 - STRETCH) - 1e-6).all()
    assert seen == alike
    assert all(symbol in group and len(group) > 1 for symbol, group in ALIKE.items())


def test_the_same_draw_gives_the_same_formula_and_leaves_the_ink_alone() -> None:
    first, second = variations(10), variations(10)
    for (strokes, text), (other_strokes, other_text) in zip(first, second, strict=True):
        assert text == other_text and all(np.array_equal(a, b) for a, b in zip(strokes, other_strokes, strict=True))
    ink, symbols = formula(), bank()
    for seed in range(10):
        vary(ink, caption(ink, ""), symbols, np.random.default_rng(seed))
    assert caption(ink, "") == caption(formula(), "") and len(ink.strokes) == 5


def test_ink_that_does_not_say_what_draws_what_stays_as_it_is() -> None:
    untold = read_inkml(inkml(None, "<mrow><mi>x</mi><mo>+</mo><mi>a</mi></mrow>", (trace(3), trace(7), trace(4))))
    otherwise = formula()
    for seed in range(20):
        strokes, text = vary(untold, "x + a", bank(), np.random.default_rng(seed))
        assert text == "x + a" and len(strokes) == 3
        assert vary(otherwise, "x - a", bank(), np.random.default_rng(seed)) == (otherwise.strokes, "x - a")


def test_strokes_of_two_symbols_are_not_exchanged() -> None:
    mathml = f"<mrow>{leaf('x', 0)}{leaf('a', 1)}</mrow>"
    ink = read_inkml(inkml(None, mathml, (trace(3), trace(4)), symbols={"0": (0, 1), "1": (1,)}))
    for seed in range(20):
        assert vary(ink, "x a", bank(), np.random.default_rng(seed))[1] in ("x a",)


def test_all_strokes_are_distorted_alike_and_within_limits() -> None:
    square = [np.array([[0.0, 0.0], [10.0, 0.0]]), np.array([[0.0, 0.0], [0.0, 10.0]])]
    leans = []
    for seed in range(200):
        (_, across), (_, up) = distorted(square, np.random.default_rng(seed))
        area = abs(across[0] * up[1] - across[1] * up[0])
        assert abs(area - 100) < 1e-6, "no larger and no smaller"
        assert np.hypot(*across) <= 10 * np.exp(ASPECT) + 1e-6 and abs(np.degrees(np.arctan2(across[1], across[0]))) <= ROTATION
        leans.append(abs(np.degrees(np.arctan2(up[0], up[1]))))
    assert 10 < max(leans) <= ROTATION + SLANT
