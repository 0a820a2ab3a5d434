from xml.etree import ElementTree

import pytest

from data_pipeline.importers.crohme.mathml import MAX_DEPTH, MathMLError, mathml_tokens
from tests.support.ink_document import MATH


def _tokens(inside: str, swap_roots: bool = False) -> str:
    math = ElementTree.fromstring(f'<math xmlns="{MATH}">{inside}</math>')
    return " ".join(mathml_tokens(math, swap_roots))


@pytest.mark.parametrize(
    ("inside", "tokens"),
    [
        ("<mrow><mi>u</mi><mrow><mo>+</mo><mn>4</mn></mrow></mrow>", "u + 4"),
        ("<mfrac><mrow><mn>1</mn><mn>2</mn></mrow><mi>w</mi></mfrac>", r"\frac { 1 2 } { w }"),
        ("<msqrt><mn>5</mn><mi>t</mi></msqrt>", r"\sqrt { 5 t }"),
        ("<mroot><mi>t</mi><mn>3</mn></mroot>", r"\sqrt [ 3 ] { t }"),
        ("<msub><mi>t</mi><mn>3</mn></msub>", "t _ { 3 }"),
        ("<msup><mrow><mo>(</mo><mi>t</mi><mo>)</mo></mrow><mn>3</mn></msup>", "( t ) ^ { 3 }"),
        ("<msubsup><mi>t</mi><mi>i</mi><mn>3</mn></msubsup>", "t _ { i } ^ { 3 }"),
        ("<munder><mi>im</mi><mi>n</mi></munder>", r"\lim _ { n }"),
        ("<munderover><mo>sum</mo><mn>0</mn><mi>infin</mi></munderover>", r"\sum _ { 0 } ^ { \infty }"),
        ("<mo>rarr</mo><mo>hellip</mo><mo>ctdot</mo><mo>exist</mo>", r"\rightarrow \ldots \cdots \exists"),
        (r"<mi>\theta</mi><mi>alpha</mi><mi>cos</mi><mo>\lt</mo>", r"\theta \alpha \cos <"),
        ("<mo>{</mo><mi>c</mi><mo>}</mo>", r"\{ c \}"),
        (r'<mo xml:id="\cdot_1">.</mo>', r"\cdot"),
        ("<mo>\u00b7</mo><mo>\u221e</mo>", r"\cdot \infty"),
        ("<mn>365</mn><mi>dx</mi>", "3 6 5 d x"),
        ("<msub><mi>t</mi><mo>,</mo></msub><mi>s</mi>", "t , s"),
        ("<msub><mi>t</mi><mrow><mi>k</mi><mo>,</mo></mrow></msub><mi>s</mi>", "t _ { k } , s"),
        ("<msub><mi>t</mi><mrow><mi>k</mi><mo>,</mo><mi>l</mi></mrow></msub>", "t _ { k , l }"),
        ("<msup><msup><mi>y</mi><mo>prime</mo></msup><mn>2</mn></msup>", r"{ y ^ { \prime } } ^ { 2 }"),
    ],
)
def test_mathml_becomes_the_tokens_of_its_latex(inside: str, tokens: str) -> None:
    assert _tokens(inside) == tokens


def test_roots_can_be_read_with_the_index_first() -> None:
    assert _tokens("<mroot><mn>3</mn><mi>t</mi></mroot>", swap_roots=True) == r"\sqrt [ 3 ] { t }"


@pytest.mark.parametrize(
    ("inside", "fault"),
    [
        ("<msub><mi>t</mi></msub>", "msub has 1 arguments instead of 2"),
        ("<mfrac><mi>t</mi></mfrac>", "mfrac has 1 arguments instead of 2"),
        ("<mtable><mi>t</mi></mtable>", "unknown element mtable"),
        ("<mo>?</mo>", "lost its character"),
        ("<mi></mi>", "empty"),
        ("<mi>\u0416</mi>", "ASCII"),
        ("<mrow>" * (MAX_DEPTH + 1) + "</mrow>" * (MAX_DEPTH + 1), "nested deeper"),
    ],
)
def test_unusable_mathml_is_refused_with_the_fault(inside: str, fault: str) -> None:
    with pytest.raises(MathMLError, match=fault):
        _tokens(inside)


def test_one_row_per_symbol_is_not_too_deep() -> None:
    symbols = 220
    assert _tokens("<mrow><mi>a</mi>" * symbols + "</mrow>" * symbols) == " ".join("a" * symbols)
