"""Caption of an ink, from its two truths: LaTeX and MathML."""

from xml.etree.ElementTree import Element

from data_pipeline.importers.crohme.inkml import Ink, UnusableInk
from data_pipeline.importers.crohme.latex import LatexError, normalize_latex
from data_pipeline.importers.crohme.mathml import MathMLError, mathml_tokens

# What presentation MathML cannot tell apart, or what its converters mixed up.
_INDISTINCT: tuple[frozenset[str], ...] = (
    frozenset({r"\cdot", "."}),
    frozenset({r"\cdots", r"\ldots"}),
    frozenset({r"\int", r"\int \limits"}),
)


def caption(ink: Ink, file_id: str) -> str:
    r"""The normalized tokens of the formula, separated by one space.

    MathML is the truth that was made from the strokes, so it is taken where the two differ, except that
    - what MathML cannot tell (`\cdot` or `.`, `\cdots` or `\ldots`, `\int` or `\int \limits`) is told by the LaTeX;
    - MathBrush's MathML nests wrongly, and some MathML has the arguments of `mroot` exchanged: LaTeX is taken;
    - a truth that cannot be read leaves the choice to the other one.

    Raises:
        UnusableInk: neither truth can be read; the reason names `file_id` and what is wrong with each.
    """
    faults: list[str] = []
    latex: list[str] = []
    mathml: list[str] = []
    if ink.latex is not None:
        try:
            latex = normalize_latex(ink.latex)
        except LatexError as error:
            faults.append(f"LaTeX: {error}")
    if ink.mathml is not None:
        try:
            mathml = mathml_tokens(ink.mathml)
        except MathMLError as error:
            faults.append(f"MathML: {error}")
    if not latex and not mathml:
        raise UnusableInk(f"{file_id}: no readable truth ({'; '.join(faults) or 'it is empty'})")
    if not latex or not mathml:
        return " ".join(latex or mathml)
    if latex == mathml or _is_mathbrush(ink):
        return " ".join(latex)
    if _roots_are_swapped(ink.mathml, latex):
        return " ".join(latex)
    return " ".join(_as_told_by(latex, mathml))


def _roots_are_swapped(math: Element | None, latex: list[str]) -> bool:
    """Whether the MathML says what the LaTeX says once the arguments of its `mroot` elements are exchanged."""
    if math is None or r"\sqrt" not in latex:
        return False
    try:
        return _as_told_by(latex, mathml_tokens(math, swap_roots=True)) == latex
    except MathMLError:
        return False


def _is_mathbrush(ink: Ink) -> bool:
    """MathBrush names its inks after files of its own: `"NAME.ink"`, quotes included."""
    return ink.annotations.get("UI", "").strip('"').endswith(".ink")


def _as_told_by(latex: list[str], mathml: list[str]) -> list[str]:
    """The tokens of MathML, with the indistinct ones, where there are as many in LaTeX, as they are there in turn."""
    told, tokens = _with_limits_joined(latex), _with_limits_joined(mathml)
    for alike in _INDISTINCT:
        spellings = [token for token in told if token in alike]
        positions = [position for position, token in enumerate(tokens) if token in alike]
        if len(spellings) == len(positions):
            for position, spelling in zip(positions, spellings, strict=True):
                tokens[position] = spelling
    return [part for token in tokens for part in token.split()]


def _with_limits_joined(tokens: list[str]) -> list[str]:
    r"""The tokens, each `\limits` as one with the `\int` before it."""
    joined: list[str] = []
    for token in tokens:
        if token == r"\limits":
            joined[-1] += f" {token}"
        else:
            joined.append(token)
    return joined
