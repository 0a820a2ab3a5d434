"""Strokes of every symbol, made by hand, as control points on a grid of hundredths of an em.

A symbol has one or more variants, of which a writer uses one. A variant lists strokes, parted by ` / `; a stroke lists
the points `x,y` that the pen passes through in a smooth curve. `!` after a point makes it a corner; a single point is
a dot. The baseline is y = 0, small letters reach 45, digits and capitals 72, descenders -25; operators are centered at
25.
"""

from data_pipeline.synthesis.formulas.handwriting.strokes.capitals import CAPITAL_STROKES
from data_pipeline.synthesis.formulas.handwriting.strokes.digits import DIGIT_STROKES
from data_pipeline.synthesis.formulas.handwriting.strokes.greek import GREEK_STROKES
from data_pipeline.synthesis.formulas.handwriting.strokes.latin import LATIN_STROKES
from data_pipeline.synthesis.formulas.handwriting.strokes.operators import OPERATOR_STROKES

STROKES: dict[str, tuple[str, ...]] = {**DIGIT_STROKES, **LATIN_STROKES, **GREEK_STROKES, **OPERATOR_STROKES}
"""The symbols of formulas."""
ALL_STROKES: dict[str, tuple[str, ...]] = {**STROKES, **CAPITAL_STROKES}

__all__ = ["ALL_STROKES", "STROKES"]
