import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.importers.crohme.latex import MAX_DEPTH, LatexError, normalize_latex


@pytest.mark.parametrize(
    ("source", "normalized"),
    [
        (r"$x$", "x"),
        (r"\frac ab", r"\frac { a } { b }"),
        (r"\frac {\sqrt y} 2", r"\frac { \sqrt { y } } { 2 }"),
        (r"\sqrt[n]{x}", r"\sqrt [ n ] { x }"),
        (r"\sqrt[\sqrt[3]{n}]{x}", r"\sqrt [ \sqrt [ 3 ] { n } ] { x }"),
        (r"\sqrt[]{x}", r"\sqrt { x }"),
        (r"q^2_k", r"q _ { k } ^ { 2 }"),
        (r"q^{2}_{k+1}", r"q _ { k + 1 } ^ { 2 }"),
        (r"x^\frac12", r"x ^ { \frac { 1 } { 2 } }"),
        (r"x^{}", "x"),
        ("1024", "1 0 2 4"),
        (r"a\lt b \gt c", "a < b > c"),
        (r"a\ltb", "a < b"),
        (r"w_h\gtk", "w _ { h } > k"),
        (r"f'", r"f \prime"),
        (r"f^{'}", r"f ^ { \prime }"),
        (r"x \to 0 \dots", r"x \rightarrow 0 \ldots"),
        (r"\lbrack a \rbrack", "[ a ]"),
        (r"a \parallel b", "a | | b"),
        (r"\mathrm{d} \mbox{ z } \left( t \right) \Big[ \Bigg] \! \; u\ v", "d z ( t ) [ ] u v"),
        (r"\int\limits_a^b t", r"\int \limits _ { a } ^ { b } t"),
        (r"\sum\limits_{i} i", r"\sum _ { i } i"),
        (r"\lim\limits_{n}", r"\lim _ { n }"),
        (r"{a {b} c}", "a b c"),
        (r"{(a)}^{2}", "( a ) ^ { 2 }"),
        (r"{y^{\prime}}^{2}", r"{ y ^ { \prime } } ^ { 2 }"),
        (r"{y^{2}}_{k}", "y _ { k } ^ { 2 }"),
        (r"\{ a \}", r"\{ a \}"),
        ("", ""),
    ],
)
def test_one_spelling_for_each_formula(source: str, normalized: str) -> None:
    assert " ".join(normalize_latex(source)) == normalized


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{a", "} is missing"),
        ("a}", "} without {"),
        (r"\frac{a}", "missing"),
        (r"\frac{a}{}", "empty"),
        (r"\sqrt{}", "empty"),
        (r"\sqrt[n", "] is missing"),
        ("x^", "missing"),
        ("x^2^3", "two superscripts"),
        (r"a \vtop b", r"\vtop"),
        ("a & b", "&"),
        ("é", "ASCII"),
        ("\\", "unknown command"),
        ("{" * (MAX_DEPTH + 2) + "}" * (MAX_DEPTH + 2), "nested"),
        (r"\sqrt" * 5000 + "x", "nested"),
    ],
)
def test_broken_latex_is_refused_with_the_fault(source: str, fault: str) -> None:
    with pytest.raises(LatexError, match=fault.replace("\\", "\\\\")):
        normalize_latex(source)


_PIECES = r"""{ } { } [ ] _ ^ _ ^ ' a b 1 2 + < | \{ \} \frac \sqrt \int \limits \sum \left \right \mbox \! \lt \gtx
\parallel \dots \to \cdot \prime {} {a} {b^1} {c_2} _{3} ^{4}"""


_ANY = st.lists(st.sampled_from(_PIECES.split()), max_size=16).map(" ".join)
_BALANCED = st.recursive(
    st.sampled_from(["x", "1", "(", "]", "|", r"\int", r"\limits", r"\left", "{}", "_1", "^2", "{b^1}", "{c_2}", r"\lt"]),
    lambda inner: st.tuples(
        st.sampled_from(["{{{}{}}}", "{}{}", "_{{{}{}}}", "^{{{}{}}}", r"\frac{{{}}}{{{}}}", r"\sqrt[{{{}}}]{{{}}}"]),
        inner,
        inner,
    ).map(lambda parts: parts[0].format(*(f" {part} " for part in parts[1:]))),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(_ANY | _BALANCED)
def test_normalized_latex_is_a_fixed_point_with_braces_and_scripts_in_order(source: str) -> None:
    try:
        tokens = normalize_latex(source)
    except LatexError:
        return
    assert normalize_latex(" ".join(tokens)) == tokens
    depth = 0
    for token in tokens:
        depth += (token == "{") - (token == "}")
        assert depth >= 0
    assert depth == 0
    # Collapse braces from the inside out: what then stands after a script is its neighbor on the same symbol.
    rest, flatter = "", " ".join(tokens).replace(r"\{", "(").replace(r"\}", ")")
    while rest != flatter:
        assert not re.search(r"\^ @ (_ @ )?\^ @|_ @ (\^ @ )?_ @", flatter), "two scripts of a kind on one symbol"
        assert not re.search(r"\^ @ _ @", flatter), "a subscript after its superscript"
        rest, flatter = flatter, re.sub(r"\{ [^{}]*\}", "@", flatter)


@st.composite
def _formulas(draw: st.DrawFn, depth: int = 3) -> tuple[str, str]:
    """A formula written carelessly and its normal form."""
    careless, normal = [], []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["symbol", "fraction", "root", "scripts", "group"] if depth else ["symbol"]))
        inner = _formulas(depth - 1) if depth else st.nothing()
        if kind == "symbol":
            wrapped = draw(st.sampled_from(["{}", "{{{}}}", r"\mbox{{{}}}", r"\left {}", r"{}\;", r"\mathrm {}"]))
            symbol = draw(st.sampled_from(["x", "7", r"\pi ", r"\sin ", "("]))
            careless.append(wrapped.format(symbol))
            normal.append(symbol.strip())
        elif kind == "fraction":
            (a, na), (b, nb) = draw(inner), draw(inner)
            careless.append(rf"\frac{{{a}}}{{{b}}}")
            normal.append(rf"\frac {{ {na} }} {{ {nb} }}")
        elif kind == "root":
            (a, na), (b, nb) = draw(inner), draw(inner)
            careless.append(rf"\sqrt[{{{a}}}]{{{b}}}")
            normal.append(rf"\sqrt [ {na} ] {{ {nb} }}")
        elif kind == "scripts":
            (a, na), (b, nb) = draw(inner), draw(inner)
            careless.append(f"z^{{{a}}}_{{{b}}}")
            normal.append(f"z _ {{ {nb} }} ^ {{ {na} }}")
        else:
            a, na = draw(inner)
            careless.append(f"{{{a}}}")
            normal.append(na)
    return "".join(careless), " ".join(normal)


@settings(deadline=None)
@given(_formulas())
def test_careless_spelling_does_not_show(formula: tuple[str, str]) -> None:
    careless, normal = formula
    assert " ".join(normalize_latex(careless)) == normal
    assert " ".join(normalize_latex(normal)) == normal


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert all(token.isascii() and " " not in token for token in normalize_latex(text))
    except LatexError as error:
        assert str(error)
