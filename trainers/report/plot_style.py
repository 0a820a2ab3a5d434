"""The look of all plots: sizes, colors, fonts, frames.

Without pyplot, which keeps every figure in a global list and may ask for a display.
"""

import warnings
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure

from data_pipeline.exploration.text_layout import Word, shorten
from trainers.tasks.presentation import Image

INK, MUTED, LINE = "#1f2430", "#6b7280", "#d9dde5"
PALETTE = ("#2f5fd0", "#e07b20", "#1a9c74", "#9a4fc4", "#c43d6b", "#64748b")
DPI = 120
WHOLE_WIDTH, HALF_WIDTH = 9.4, 4.62  # inches: of the page, and of two figures side by side
MARGIN = 0.08  # inches around a title
MAX_NAME = 24  # characters of a class in a plot

_EAST_ASIAN = (
    "Noto Sans CJK KR",
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "NanumGothic",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
)

_MISSING_GLYPH = "Glyph .* missing from font"


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def rendered(figure: Figure) -> Image:
    """The figure as RGB uint8 (H, W, 3)."""
    assert isinstance(figure.canvas, FigureCanvasAgg)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MISSING_GLYPH)  # names of classes may be in any script
        figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


@cache
def families() -> list[str]:
    """Fonts for names in any script: matplotlib's own, and those of East Asia that are installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _EAST_ASIAN if name in installed)]


def text_width(texts: Iterable[str], points: float) -> float:
    """The width of the longest of some texts in a font of `points`, in inches."""
    font = font_manager.FontProperties(family=families(), size=points)
    renderer = RendererAgg(1, 1, DPI)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MISSING_GLYPH)
        widths = [renderer.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts]
    return max(widths, default=0.0) / DPI


def short_names(names: Iterable[str], length: int = MAX_NAME) -> list[str]:
    """Names of classes as a plot has room for them, on one line."""
    return [shorten([Word(name)], length)[0].text for name in names]


def set_title(axes: Axes, title: str, points: float = 10) -> None:
    """A title above the upper left corner, taken literally."""
    axes.set_title(title, loc="left", fontsize=points, fontweight="bold", color=INK, parse_math=False, family=families())


def set_figure_title(figure: Figure, title: str) -> None:
    """A title in the upper left corner, taken literally and cut to the width."""
    width, height = figure.get_size_inches()
    text = shorten([Word(title)], int(width / 0.088))[0].text
    style: dict[str, Any] = {"fontsize": 10, "fontweight": "bold", "color": INK, "family": families()}
    figure.text(MARGIN / width, 1 - MARGIN / height, text, va="top", parse_math=False, **style)


def with_plain_frame(axes: Axes) -> None:
    """Axes with a line at the bottom alone, no ticks, and small gray labels."""
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=MUTED, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)
