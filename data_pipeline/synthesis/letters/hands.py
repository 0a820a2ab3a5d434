"""Glyphs of capital letters in the hands of many writers, as small as those of EMNIST: light strokes on black."""

from __future__ import annotations

from zlib import crc32

import cv2
import numpy as np

from data_pipeline.synthesis.formulas.handwriting.writer import own_glyph, writer_style
from data_pipeline.synthesis.letters.glyphs import GLYPH_SIDE, LETTERS, Glyphs, as_glyphs

_INK_SIDE = 22  # pixels that the longer side of a letter takes at most, nearly as in EMNIST
_OVERSAMPLING = 4
_SHIFT = 4  # fractional bits of the coordinates that OpenCV draws at


def stroked_glyphs(seed: int, writers: range) -> Glyphs:
    """All capital letters in the hands of the writers with these numbers, one glyph of each letter a writer."""
    return as_glyphs({letter: np.stack([stroked_glyph(seed, number, letter) for number in writers]) for letter in LETTERS})


def stroked_glyph(seed: int, writer: int, letter: str) -> np.ndarray:
    """A capital letter (named by its small one) as a writer forms it: uint8 (28, 28), white on black."""
    symbol, style = letter.upper(), writer_style(seed, writer)
    rng = np.random.default_rng(np.random.SeedSequence([seed, writer, crc32(symbol.encode()), crc32(b"letters")]))
    own = own_glyph(style, symbol)
    strokes = own.glyph.strokes(own.control + rng.normal(0, style.wobble, own.control.shape))
    ends = np.cumsum([len(stroke) for stroke in strokes])[:-1]
    ink = np.concatenate(strokes) * (1.0, -1.0)
    low, high = ink.min(axis=0), ink.max(axis=0)
    scale = rng.uniform(0.82, 1.0) * _INK_SIDE / float((high - low).max())
    # The middle of the ink lies near the middle of the glyph, whose pixel borders are at 0 and 28.
    center = GLYPH_SIDE / 2 + rng.uniform(-0.5, 0.5, 2)
    placed = (ink - (low + high) / 2) * scale + center
    pen = style.pen * rng.uniform(0.9, 1.3) * _INK_SIDE / 0.72  # of a capital's height, as the glyph is scaled by it
    canvas = np.zeros((GLYPH_SIDE * _OVERSAMPLING,) * 2, np.uint8)
    fixed = np.rint(placed * (_OVERSAMPLING << _SHIFT)).astype(np.int32)
    cv2.polylines(canvas, np.split(fixed, ends), False, 255, max(1, round(pen * _OVERSAMPLING)), cv2.LINE_8, _SHIFT)
    return cv2.resize(canvas, (GLYPH_SIDE, GLYPH_SIDE), interpolation=cv2.INTER_AREA)
