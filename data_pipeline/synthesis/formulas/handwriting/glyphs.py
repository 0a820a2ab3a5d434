"""Symbols as smooth strokes: control points and the linear map from them to a fine polyline."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from data_pipeline.synthesis.formulas.handwriting.strokes import ALL_STROKES

Points = NDArray[np.float64]
"""(N, 2) positions in em, x to the right and y up from the baseline."""

_STEP = 0.035
"""Distance in em between points of a fine polyline."""
_DOT = np.array([[-0.02, 0.0], [0.0, 0.02], [0.02, 0.0], [0.0, -0.02], [-0.02, 0.0]])
"""What the pen does around the one point of a dot, so that it shows more ink than a touch."""


@dataclass(frozen=True, eq=False)
class Glyph:
    """One variant of a symbol.

    control: (C, 2) control points.
    basis, offset: (N, C) and (N, 2), so that `basis @ control + offset` is the fine polyline of all strokes; only dots
    have an offset.
    breaks: where the polyline is cut into strokes.
    """

    control: Points
    basis: NDArray[np.float64]
    offset: Points
    breaks: tuple[int, ...]

    def strokes(self, control: Points) -> list[Points]:
        """Fine polylines through moved control points."""
        # einsum rather than a BLAS product: its order of summation never depends on threads.
        fine: Points = np.einsum("nc,cd->nd", self.basis, control) + self.offset
        return [fine[start:stop] for start, stop in zip((0, *self.breaks), (*self.breaks, len(fine)), strict=True)]


@cache
def glyph_variants(symbol: str) -> tuple[Glyph, ...]:
    """All hand-made variants of a symbol; KeyError when there is none."""
    return tuple(_glyph(drawing) for drawing in ALL_STROKES[symbol])


def _glyph(drawing: str) -> Glyph:
    controls: list[Points] = []
    bases: list[NDArray[np.float64]] = []
    for stroke in drawing.split(" / "):
        points, corners = _read_stroke(stroke)
        controls.append(points)
        bases.append(_stroke_basis(points, corners))
    rows, columns = sum(map(len, bases)), sum(map(len, controls))
    basis = np.zeros((rows, columns))
    row = column = 0
    breaks = []
    for part in bases:
        basis[row : row + part.shape[0], column : column + part.shape[1]] = part
        row, column = row + part.shape[0], column + part.shape[1]
        breaks.append(row)
    offset = np.concatenate([_DOT if part.shape[1] == 1 else np.zeros((len(part), 2)) for part in bases])
    return Glyph(np.concatenate(controls), basis, offset, tuple(breaks[:-1]))


def _read_stroke(stroke: str) -> tuple[Points, list[int]]:
    """Control points in em and the numbers of those at which a smooth run ends; straight runs get a middle point."""
    points: list[tuple[float, float]] = []
    corners = [0]
    words = stroke.split()
    for number, word in enumerate(words):
        x, y = (int(value) / 100 for value in word.rstrip("!").split(","))
        ends = word.endswith("!") or number == len(words) - 1
        if ends and len(points) - 1 == corners[-1]:
            points.append(((points[-1][0] + x) / 2, (points[-1][1] + y) / 2))
        points.append((x, y))
        if ends and number:
            corners.append(len(points) - 1)
    return np.array(points), corners


def _stroke_basis(points: Points, corners: list[int]) -> NDArray[np.float64]:
    if len(points) == 1:
        return np.ones((len(_DOT), 1))
    blocks = []
    for start, stop in pairwise(corners):
        run = smooth_basis(points[start : stop + 1])
        block = np.zeros((len(run), len(points)))
        block[:, start : stop + 1] = run
        blocks.append(block if start == 0 else block[1:])
    return np.concatenate(blocks)


def smooth_basis(points: Points) -> NDArray[np.float64]:
    """Weights (N, C) of a centripetal Catmull-Rom curve through C >= 3 points.

    The knots come from the given points; moving the points a little afterwards keeps the curve smooth
    (Yuksel et al., Parameterization and applications of Catmull-Rom curves, 2011).
    """
    count = len(points)
    chords = np.hypot(*np.diff(points, axis=0).T)
    spans = np.sqrt(np.maximum(chords, 1e-3))
    unit = np.eye(count)
    slopes = np.diff(unit, axis=0) / spans[:, None]
    tangents = np.zeros((count, count))
    for i in range(1, count - 1):
        across = (unit[i + 1] - unit[i - 1]) / (spans[i - 1] + spans[i])
        tangents[i] = slopes[i - 1] - across + slopes[i]
    tangents[0] = 1.5 * slopes[0] - 0.5 * tangents[1]
    tangents[-1] = 1.5 * slopes[-1] - 0.5 * tangents[-2]
    rows = [unit[:1]]
    for i, (chord, span) in enumerate(zip(chords, spans, strict=True)):
        t = np.linspace(0, 1, max(2, int(np.ceil(chord / _STEP))) + 1)[1:, None]
        rows.append(
            (2 * t**3 - 3 * t**2 + 1) * unit[i]
            + (t**3 - 2 * t**2 + t) * span * tangents[i]
            + (3 * t**2 - 2 * t**3) * unit[i + 1]
            + (t**3 - t**2) * span * tangents[i + 1]
        )
    return np.concatenate(rows)
