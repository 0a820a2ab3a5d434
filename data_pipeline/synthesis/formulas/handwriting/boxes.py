"""Boxes of ink that layout puts together, as TeX does: strokes around a baseline, with their extents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.synthesis.formulas.handwriting.glyphs import Points


@dataclass(frozen=True, eq=False)
class Box:
    """Strokes in em, x from 0 to width, y from -descent to ascent around the baseline."""

    strokes: list[Points]
    width: float
    ascent: float
    descent: float


def box_of(strokes: list[Points]) -> Box:
    """The box that strokes fill, moved so that their ink begins at x = 0."""
    points = np.concatenate(strokes)
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    shift = np.array([-left, 0.0])
    return Box([stroke + shift for stroke in strokes], float(right - left), float(top), float(-bottom))


def scaled(box: Box, factor: float) -> Box:
    """A box made larger or smaller around the start of its baseline."""
    strokes = [stroke * factor for stroke in box.strokes]
    return Box(strokes, box.width * factor, box.ascent * factor, box.descent * factor)


def shifted(box: Box, x: float, y: float) -> list[Points]:
    """The strokes of a box, moved."""
    shift = np.array([x, y])
    return [stroke + shift for stroke in box.strokes]


def union(placed: list[tuple[Box, float, float]]) -> Box:
    """One box around boxes that stand at given x and y; x must not be negative."""
    strokes = [stroke for box, x, y in placed for stroke in shifted(box, x, y)]
    width = max(x + box.width for box, x, _ in placed)
    ascent = max(y + box.ascent for box, _, y in placed)
    descent = max(box.descent - y for box, _, y in placed)
    return Box(strokes, width, ascent, descent)
