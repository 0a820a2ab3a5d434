"""Writers: how one person's hand, pen and paper differ from another's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from zlib import crc32

import numpy as np

from data_pipeline.synthesis.formulas.draw import chance, pick
from data_pipeline.synthesis.formulas.handwriting.glyphs import Glyph, Points, glyph_variants
from data_pipeline.synthesis.formulas.paper import Color
from data_pipeline.synthesis.formulas.symbols import DELIMITERS

PaperKind = Literal["plain", "lined", "squared"]

_INKS: tuple[Color, ...] = (
    (20, 20, 24),
    (30, 32, 40),
    (55, 55, 60),
    (22, 36, 110),
    (30, 60, 150),
    (16, 24, 70),
    (70, 66, 66),
)


@dataclass(frozen=True, eq=False)
class WriterStyle:
    """One writer. Lengths are in em unless said otherwise; jitters are standard deviations.

    slant: shift to the right per height.
    stretch: width of the letters against their height.
    shape_jitter: how far this writer's own form of a symbol lies from the table's.
    wobble: how far one writing of a symbol lies from the writer's own form.
    size_jitter, baseline_jitter: how size and height above the line vary from symbol to symbol.
    drift: rise of the baseline per em written.
    spacing, operator_gap: room between symbols, and what operators get on top of it.
    script_scale: size of scripts.
    limits_beside: whether the limits of sums stand at the side.
    pen: width of the pen. ink, paper: colors.
    em_pixels: size of the writing in pixels.
    paper_kind, pitch, ruling: printed lines, the distance between them, and how much darker they are (0 to 1).
    """

    seed: int
    number: int
    slant: float
    stretch: float
    shape_jitter: float
    wobble: float
    size_jitter: float
    baseline_jitter: float
    drift: float
    spacing: float
    operator_gap: float
    script_scale: float
    limits_beside: bool
    pen: float
    em_pixels: float
    ink: Color
    paper: Color
    paper_kind: PaperKind
    pitch: float
    ruling: float

    @classmethod
    def from_seed(cls, seed: int, number: int) -> WriterStyle:
        """The style of a writer, a function of the collection's seed and the writer's number."""
        rng = np.random.default_rng(np.random.SeedSequence([seed, number, crc32(b"writer")]))
        tone = rng.uniform(228, 255)
        cream = rng.uniform(8, 30) if chance(rng, 0.3) else rng.uniform(0, 6)
        kinds: tuple[PaperKind, ...] = ("plain", "plain", "plain", "lined", "squared")
        return cls(
            seed=seed,
            number=number,
            slant=rng.uniform(-0.06, 0.26),
            stretch=rng.uniform(0.88, 1.14),
            shape_jitter=rng.uniform(0.007, 0.022),
            wobble=rng.uniform(0.003, 0.01),
            size_jitter=rng.uniform(0.01, 0.05),
            baseline_jitter=rng.uniform(0.005, 0.03),
            drift=rng.normal(0, 0.015),
            spacing=rng.uniform(0.08, 0.14),
            operator_gap=rng.uniform(0.07, 0.16),
            script_scale=rng.uniform(0.64, 0.74),
            limits_beside=chance(rng, 0.15),
            pen=rng.uniform(0.048, 0.08),
            em_pixels=rng.uniform(40, 50),
            ink=pick(rng, _INKS),
            paper=(tone, tone - cream * 0.25, tone - cream),
            paper_kind=pick(rng, kinds),
            pitch=rng.uniform(0.5, 1.1),
            ruling=rng.uniform(0.06, 0.14),
        )


@lru_cache(maxsize=1024)
def writer_style(seed: int, number: int) -> WriterStyle:
    """The style of a writer, cached so that its letters need not be formed again for each formula."""
    return WriterStyle.from_seed(seed, number)


@dataclass(frozen=True, eq=False)
class OwnGlyph:
    """A writer's own form of a symbol: one variant of the table and where this writer puts its control points."""

    glyph: Glyph
    control: Points


@lru_cache(maxsize=32768)
def own_glyph(style: WriterStyle, symbol: str) -> OwnGlyph:
    """How a writer always forms a symbol: a variant, turned, stretched, slanted and bent a little."""
    rng = np.random.default_rng(np.random.SeedSequence([style.seed, style.number, crc32(symbol.encode())]))
    glyph = pick(rng, glyph_variants(symbol))
    turn = rng.normal(0, 0.035)
    wide, high = style.stretch * rng.uniform(0.93, 1.07), rng.uniform(0.95, 1.05)
    # Delimiters lean and bend less than letters: a leaning bar would be read as a slash, a bent one as a bracket.
    freedom = 0.4 if symbol in DELIMITERS else 1.0
    shear = freedom * style.slant + rng.normal(0, 0.02)
    x, y = glyph.control.T
    moved = np.stack([wide * x + (shear - turn) * y, high * y + turn * x], axis=1)
    return OwnGlyph(glyph, moved + rng.normal(0, freedom * style.shape_jitter, moved.shape))
