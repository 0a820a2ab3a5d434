"""Printed formulas: matplotlib's mathtext, rastered by FreeType, without a matplotlib Figure."""

from __future__ import annotations

from functools import lru_cache

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser

from data_pipeline.synthesis.formulas.draw import chance, pick
from data_pipeline.synthesis.formulas.nodes import Fraction, Group, Node, Root, Row, Script, Symbol, children
from data_pipeline.synthesis.formulas.paper import Coverage, Image, ink_on_paper, shadow

FONTS = ("dejavusans", "dejavuserif", "cm", "stix", "stixsans")

_DPI = 72.0
_SETTINGS = ("mathtext.default", "mathtext.fallback", "text.antialiased", "text.hinting")
"""Settings of matplotlib that could change an image; the library's defaults replace the user's."""


def mathtext(node: Node, shrink: bool = False) -> str:
    """A formula as mathtext source: fractions in display size on the first level, delimiters that grow if need be."""
    match node:
        case Symbol(token):
            return token
        case Row(parts):
            return " ".join(mathtext(part, shrink) for part in parts)
        case Group(left, body, right):
            inside = mathtext(body, shrink)
            return f"\\left{left} {inside} \\right{right}" if _is_tall(body) else f"{left} {inside} {right}"
        case Script(base, sub, sup):
            source = mathtext(base, shrink)
            source += "" if sub is None else f"_{{{mathtext(sub, True)}}}"
            return source + ("" if sup is None else f"^{{{mathtext(sup, True)}}}")
        case Fraction(numerator, denominator):
            command = "\\frac" if shrink else "\\dfrac"
            return f"{command}{{{mathtext(numerator, True)}}}{{{mathtext(denominator, True)}}}"
        case Root(body, degree):
            power = "" if degree is None else f"[{mathtext(degree, True)}]"
            return f"\\sqrt{power}{{{mathtext(body, shrink)}}}"


def _is_tall(node: Node) -> bool:
    return isinstance(node, Fraction | Root) or any(map(_is_tall, children(node)))


@lru_cache(maxsize=1)
def _parser() -> MathTextParser:
    return MathTextParser("agg")


def raster(source: str, font: str, size: float) -> Coverage:
    """Ink coverage (H, W) of mathtext source, cut to its ink; `size` in pixels per em."""
    with mpl.rc_context({key: mpl.rcParamsDefault[key] for key in _SETTINGS}):
        properties = FontProperties(size=size, math_fontfamily=font)
        ink = np.asarray(_parser().parse(f"${source}$", dpi=_DPI, prop=properties).image)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cut.astype(np.float32) / np.float32(255)


def render_printed(node: Node, rng: np.random.Generator) -> tuple[Image, str]:
    """Print a formula in a random font, size and paper; gives the image and `font-NAME`."""
    font = pick(rng, FONTS)
    ink = raster(mathtext(node), font, size=rng.uniform(34, 46))
    top, bottom, left, right = (int(margin) for margin in rng.uniform(5, 13, size=4))
    coverage = cv2.copyMakeBorder(ink, top, bottom, left, right, cv2.BORDER_CONSTANT, value=0)
    if chance(rng, 0.4):
        coverage = _turned(coverage, rng.uniform(-1.5, 1.5))
    if chance(rng, 0.35):
        coverage = cv2.GaussianBlur(coverage, (0, 0), rng.uniform(0.4, 1.0))
    height, width = coverage.shape
    tone = rng.uniform(222, 255)
    paper = (tone, tone - rng.uniform(0, 4), tone - rng.uniform(0, 14))
    darkness = rng.uniform(0, 75)
    light = shadow(height, width, rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.12))
    noise = rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(0, 4))
    return ink_on_paper(coverage, (darkness, darkness, darkness), paper, light, noise), f"font-{font}"


def _turned(coverage: Coverage, degrees: float) -> Coverage:
    height, width = coverage.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    return np.asarray(cv2.warpAffine(coverage, matrix, (width, height), flags=cv2.INTER_LINEAR), np.float32)
