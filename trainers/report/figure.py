"""Figures without pyplot: it keeps every figure in a global list, and may ask for a display."""

import warnings
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

INK = "#1f2430"
MUTED = "#6b7280"
LINE = "#d9dde5"
RIGHT = "#1a7f4b"
WRONG = "#d1242f"
PALETTE = ("#2f5fd0", "#e07b20", "#1a9c74", "#9a4fc4", "#c43d6b", "#64748b")


DPI = 120


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure, in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG. A glyph that the font lacks is drawn as a box, which is no reason for a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, format="png")
    return path


def monospace_width(family: str, size: float) -> float:
    """Inches that a character takes as drawn: hinting rounds it to whole pixels, so the font's own figure is not it."""
    renderer = FigureCanvasAgg(Figure(dpi=DPI)).get_renderer()
    count = 100
    width, _, _ = renderer.get_text_width_height_descent("0" * count, FontProperties(family=family, size=size), ismath=False)
    return float(width) / DPI / count


def printable(text: str) -> str:
    """The text on one line: control characters, which have no glyph, become blanks."""
    return "".join(character if character.isprintable() else " " for character in text)
