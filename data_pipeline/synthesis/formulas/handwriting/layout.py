"""Where a writer puts the parts of a formula: rows, scripts, fractions, roots, limits, delimiters."""

from __future__ import annotations

import numpy as np

from data_pipeline.synthesis.formulas.handwriting.boxes import Box, box_of, scaled, union
from data_pipeline.synthesis.formulas.handwriting.glyphs import Points, smooth_basis
from data_pipeline.synthesis.formulas.handwriting.writer import WriterStyle, own_glyph
from data_pipeline.synthesis.formulas.nodes import Fraction, Group, Node, Root, Row, Script, Symbol
from data_pipeline.synthesis.formulas.symbols import BIG_OPERATORS, BINARY_OPERATORS, FUNCTIONS, RELATIONS

_AXIS = 0.25
"""Height of fraction bars and of the middle of operators."""
_WORDS = (*FUNCTIONS, "\\lim")
_OPERATORS = frozenset(BINARY_OPERATORS) - {"/"}
_SPACED = _OPERATORS | set(RELATIONS)
_SIZES = {"\\sum": 1.25, "\\int": 1.2}


class Layout:
    """Lays a formula out in one writer's hand; every writing of a symbol differs a little by the generator."""

    def __init__(self, style: WriterStyle, rng: np.random.Generator) -> None:
        self.style = style
        self.rng = rng

    def box(self, node: Node) -> Box:
        """The box of a formula."""
        match node:
            case Symbol(token):
                return self._word(token) if token in _WORDS else self._symbol(token)
            case Row(parts):
                return self._row(parts)
            case Group(left, body, right):
                return self._group(left, self.box(body), right)
            case Script(base, sub, sup):
                stacked = isinstance(base, Symbol) and (
                    base.token == "\\lim" or (base.token == "\\sum" and not self.style.limits_beside)
                )
                return self._limits(base, sub, sup) if stacked else self._script(base, sub, sup)
            case Fraction(numerator, denominator):
                return self._fraction(self.box(numerator), self.box(denominator))
            case Root(body, degree):
                return self._root(self.box(body), None if degree is None else self.box(degree))

    def _symbol(self, symbol: str, ascent: float | None = None, descent: float = 0.0) -> Box:
        """One writing of a symbol; with `ascent` it is stretched to reach from -descent to ascent."""
        own = own_glyph(self.style, symbol)
        control = own.control
        if ascent is not None:
            low, high = control[:, 1].min(), control[:, 1].max()
            control = control.copy()
            control[:, 1] = (control[:, 1] - low) * ((ascent + descent) / (high - low)) - descent
        size = _SIZES.get(symbol, 1.0) * (1 + self.rng.normal(0, self.style.size_jitter))
        control = control * size + self.rng.normal(0, self.style.wobble, control.shape)
        return box_of(own.glyph.strokes(control))

    def _word(self, token: str) -> Box:
        return self._set([(self._symbol(letter), self.style.spacing * 0.6) for letter in token[1:]])

    def _row(self, parts: tuple[Node, ...]) -> Box:
        entries: list[tuple[Box, float]] = []
        after = ""
        for part in parts:
            token = part.token if isinstance(part, Symbol) else ""
            gap = self.style.spacing
            sign = token in _OPERATORS and (not entries or after in _SPACED)
            if (token in _SPACED and not sign) or (after in _SPACED and not (after == "-" and len(entries) == 1)):
                gap += self.style.operator_gap
            elif after == "," or _is_word(part) or (entries and after in _WORDS + BIG_OPERATORS):
                gap += 0.1
            entries.append((self.box(part), gap))
            after = _last_token(part)
        return self._set(entries)

    def _set(self, entries: list[tuple[Box, float]]) -> Box:
        """Boxes side by side, each with the gap before it, on a baseline that wavers."""
        placed: list[tuple[Box, float, float]] = []
        x = 0.0
        for box, gap in entries:
            x += gap * self.rng.uniform(0.8, 1.25) if placed else 0.0
            placed.append((box, x, self.rng.normal(0, self.style.baseline_jitter)))
            x += box.width
        return union(placed)

    def _group(self, left: str, body: Box, right: str) -> Box:
        ascent, descent = max(0.74, body.ascent + 0.06), max(0.1, body.descent + 0.06)
        if left == "|":
            ascent, descent = ascent + 0.06, descent + 0.06
        opening, closing = (self._symbol(sign, ascent, descent) for sign in (left, right))
        gap = self.style.spacing * (1.2 if left == "|" else 0.8)
        return self._set([(opening, 0.0), (body, gap), (closing, gap)])

    def _script(self, base: Node, sub: Node | None, sup: Node | None) -> Box:
        stem = self.box(base)
        scale = self.style.script_scale
        placed = [(stem, 0.0, 0.0)]
        if sub is not None:
            low = scaled(self.box(sub), scale)
            y = -max(0.16, stem.descent - 0.08, low.ascent - 0.32) - self.rng.uniform(0, 0.05)
            hang = 0.12 if isinstance(base, Symbol) and base.token == "\\int" else 0.0
            placed.append((low, max(0.0, stem.width + 0.05 - hang - 0.1 * self.style.slant), y))
        if sup is not None:
            high = scaled(self.box(sup), scale)
            y = max(0.4, stem.ascent - 0.24, high.descent + 0.3) + self.rng.uniform(0, 0.06)
            placed.append((high, stem.width + 0.05 + 0.1 * self.style.slant, y))
        return union(placed)

    def _limits(self, base: Node, sub: Node | None, sup: Node | None) -> Box:
        stem = self.box(base)
        below = None if sub is None else scaled(self.box(sub), self.style.script_scale)
        above = None if sup is None else scaled(self.box(sup), self.style.script_scale)
        width = max(box.width for box in (stem, below, above) if box is not None)
        placed = [(stem, (width - stem.width) / 2, 0.0)]
        if below is not None:
            placed.append((below, (width - below.width) / 2, -stem.descent - below.ascent - 0.13))
        if above is not None:
            placed.append((above, (width - above.width) / 2, stem.ascent + above.descent + 0.13))
        return union(placed)

    def _fraction(self, numerator: Box, denominator: Box) -> Box:
        over, under = scaled(numerator, 0.88), scaled(denominator, 0.88)
        width = max(over.width, under.width) + self.rng.uniform(0.14, 0.26)
        tilt = self.rng.normal(0, 0.012)
        bar = self._line([(0.0, _AXIS - tilt), (width * 0.5, _AXIS), (width, _AXIS + tilt)])
        gaps = self.rng.uniform(0.12, 0.18, size=2)
        return union(
            [
                (Box([bar], width, _AXIS, -_AXIS), 0.0, 0.0),
                (over, (width - over.width) / 2, _AXIS + over.descent + gaps[0]),
                (under, (width - under.width) / 2, _AXIS - under.ascent - gaps[1]),
            ]
        )

    def _root(self, body: Box, degree: Box | None) -> Box:
        top, bottom = body.ascent + self.rng.uniform(0.1, 0.16), -body.descent - 0.02
        height = top - bottom
        index = None if degree is None else scaled(degree, 0.6)
        lead = 0.0 if index is None else max(0.0, index.width - 0.16)
        knee = bottom + 0.42 * height
        tick = [(0.0, knee - 0.06), (0.05, knee - 0.01), (0.1, knee + 0.02)]
        foot = [tick[-1], (0.16, (knee + bottom) / 2), (0.21, bottom)]
        rise = [foot[-1], (0.29, (bottom + top) / 2), (0.36, top)]
        end = 0.36 + 0.08 + body.width + 0.1
        roof = [rise[-1], ((0.36 + end) / 2, top + self.rng.normal(0, 0.012)), (end, top + self.rng.normal(0, 0.02))]
        sign = np.concatenate([self._line(run) for run in (tick, foot, rise, roof)])
        placed = [(Box([sign], end, top, -bottom), lead, 0.0), (body, lead + 0.44, 0.0)]
        if index is not None:
            placed.append((index, 0.0, knee + 0.1 + index.descent))
        return union(placed)

    def _line(self, through: list[tuple[float, float]]) -> Points:
        points = np.array(through)
        return np.einsum("nc,cd->nd", smooth_basis(points), points + self.rng.normal(0, 0.004, points.shape))


def _is_word(node: Node) -> bool:
    return _last_token(node) in _WORDS


def _last_token(node: Node) -> str:
    match node:
        case Symbol(token):
            return token
        case Script(Symbol(token)) if token in _WORDS or token in BIG_OPERATORS:
            return token
        case _:
            return ""
