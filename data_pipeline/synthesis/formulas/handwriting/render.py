"""Rendering of handwritten formulas: strokes drawn with a pen on a writer's paper."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipeline.synthesis.formulas.handwriting.boxes import Box
from data_pipeline.synthesis.formulas.handwriting.layout import Layout
from data_pipeline.synthesis.formulas.handwriting.writer import WriterStyle
from data_pipeline.synthesis.formulas.nodes import Node
from data_pipeline.synthesis.formulas.paper import Coverage, Image, ink_on_paper, rulings, shadow

_OVERSAMPLING = 3
_SHIFT = 4
"""Fractional bits of the coordinates that OpenCV draws at."""


def render_handwritten(node: Node, style: WriterStyle, rng: np.random.Generator) -> Image:
    """Write a formula in a writer's hand; every call differs by the generator."""
    coverage = _draw(Layout(style, rng).box(node), style, rng)
    height, width = coverage.shape
    light = shadow(height, width, rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.22))
    if style.paper_kind != "plain":
        pitch = style.pitch * style.em_pixels
        lines = rulings(height, width, pitch, rng.uniform(0, pitch), style.paper_kind == "squared")
        light -= np.float32(style.ruling) * lines
    noise = rng.standard_normal((height, width), np.float32) * np.float32(rng.uniform(0, 4))
    coverage *= np.float32(rng.uniform(0.85, 1.0))
    return ink_on_paper(coverage, style.ink, style.paper, light, noise)


def _draw(box: Box, style: WriterStyle, rng: np.random.Generator) -> Coverage:
    """Ink coverage (H, W) of laid out strokes, with a margin around them."""
    ends = np.cumsum([len(stroke) for stroke in box.strokes])
    x, y = np.concatenate(box.strokes).T
    slope = style.drift + rng.normal(0, 0.006)
    wave = rng.uniform(0, 0.02) * np.sin(rng.uniform(1.0, 2.5) * x + rng.uniform(0, 2 * np.pi))
    ink = np.stack([x, -(y + slope * x + wave)], axis=1) * style.em_pixels
    left, top, right, bottom = rng.uniform(5, 13, size=4) + style.pen * style.em_pixels / 2
    ink += np.array([left, top]) - ink.min(axis=0)
    width, height = np.ceil(ink.max(axis=0) + np.array([right, bottom])).astype(int)
    thickness = max(1, round(style.pen * style.em_pixels * _OVERSAMPLING * rng.uniform(0.92, 1.08)))
    canvas = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING), np.uint8)
    fixed = np.rint(ink * (_OVERSAMPLING << _SHIFT)).astype(np.int32)
    cv2.polylines(canvas, np.split(fixed, ends[:-1]), False, 255, thickness, cv2.LINE_8, _SHIFT)
    small = cv2.resize(canvas, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)
