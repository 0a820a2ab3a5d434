import pytest

from data_pipeline.importers.crohme.caption import caption
from data_pipeline.importers.crohme.inkml import UnusableInk, read_inkml
from tests.support.ink_document import inkml

_INT_A_B = "<munderover><mo>int</mo><mi>a</mi><mi>b</mi></munderover>"
_ROOT = "<mroot><mn>3</mn><mi>x</mi></mroot>"


@pytest.mark.parametrize(
    ("latex", "mathml", "expected"),
    [
        # The two agree, or one of them is all there is.
        ("$x^2$", "<msup><mi>x</mi><mn>2</mn></msup>", "x ^ { 2 }"),
        ("$x^2$", None, "x ^ { 2 }"),
        (None, "<msup><mi>x</mi><mn>2</mn></msup>", "x ^ { 2 }"),
        # They differ: MathML was made from the strokes.
        ("x+3", "<mi>x</mi><mo>-</mo><mn>3</mn>", "x - 3"),
        # They differ in what MathML cannot tell.
        (r"a \cdot b", "<mi>a</mi><mo>.</mo><mi>b</mi>", r"a \cdot b"),
        (r"a \cdots b", "<mi>a</mi><mo>hellip</mo><mi>b</mi>", r"a \cdots b"),
        (r"\int\limits_a^b x", _INT_A_B + "<mi>x</mi>", r"\int \limits _ { a } ^ { b } x"),
        (r"\int_a^b x", _INT_A_B + "<mi>x</mi>", r"\int _ { a } ^ { b } x"),
        # In that and in more: each has its say.
        (r"\int\limits_a^b x", _INT_A_B + "<mi>y</mi>", r"\int \limits _ { a } ^ { b } y"),
        (
            r"\int\limits_a^b \int_a^b x",
            _INT_A_B * 2 + "<mi>y</mi>",
            r"\int \limits _ { a } ^ { b } \int _ { a } ^ { b } y",
        ),
        # As many dots as LaTeX has not: nothing to go by.
        (r"a \cdots b \cdots c", "<mi>a</mi><mo>hellip</mo><mi>c</mi>", r"a \ldots c"),
        # The arguments of a root exchanged, alone and beside an indistinct symbol.
        (r"\sqrt[3]{x}", _ROOT, r"\sqrt [ 3 ] { x }"),
        (r"a \cdot \sqrt[3]{x}", "<mi>a</mi><mo>.</mo>" + _ROOT, r"a \cdot \sqrt [ 3 ] { x }"),
        (r"\sqrt[x]{3} + 1", _ROOT, r"\sqrt [ x ] { 3 }"),
        # One that cannot be read leaves it to the other.
        (r"\sqrt", "<msqrt><mi>x</mi></msqrt>", r"\sqrt { x }"),
        ("x_1", "<msub><mi>x</mi></msub>", "x _ { 1 }"),
        (r"x \to 8", "<mi>x</mi><mo>?</mo><mn>8</mn>", r"x \rightarrow 8"),
        ("$$", "<mi>x</mi>", "x"),
        ("x", "<mroot><mi>x</mi><mrow/></mroot>", r"\sqrt { x }"),
        (r"\sqrt{y}", "<mroot><mi>x</mi><mrow/></mroot>", r"\sqrt { x }"),
        # Punctuation is no subscript.
        ("F_1 , G", "<msub><mi>F</mi><mrow><mn>1</mn><mo>,</mo></mrow></msub><mi>G</mi>", "F _ { 1 } , G"),
    ],
)
def test_the_choice_between_two_truths(latex: str | None, mathml: str | None, expected: str) -> None:
    assert caption(read_inkml(inkml(latex, mathml)), "made-up-1") == expected


@pytest.mark.parametrize(("ui", "expected"), [("&quot;made-up-1.ink&quot;", "a ^ { 2 } b"), ("made-up-1", "a ^ { 2 b }")])
def test_mathbrush_is_known_by_its_own_name_and_its_latex_is_taken(ui: str, expected: str) -> None:
    mathml = "<msup><mi>a</mi><mrow><mn>2</mn><mi>b</mi></mrow></msup>"
    assert caption(read_inkml(inkml("a^2 b", mathml, ui=ui)), "made-up-1") == expected


def test_no_readable_truth_is_refused_with_both_faults() -> None:
    ink = read_inkml(inkml(r"\frac{a}", "<mo>?</mo>"))
    with pytest.raises(UnusableInk, match=r"made-up-1: .*LaTeX: .*missing.*MathML: .*lost its character"):
        caption(ink, "made-up-1")
    with pytest.raises(UnusableInk, match=r"made-up-2: .*empty"):
        caption(read_inkml(inkml("$ $")), "made-up-2")
