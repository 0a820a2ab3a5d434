"""Which function draws which kind of drawing."""

from collections.abc import Callable
from typing import Any

from trainers.report.bars_plot import draw_bars
from trainers.report.gallery import draw_gallery
from trainers.report.matrix_plot import draw_matrix
from trainers.report.share_plots import draw_curves, draw_reliability
from trainers.tasks.presentation import Bars, Curves, Drawing, Gallery, Image, Matrix, Reliability

DRAWN_BY: dict[type, Callable[[Any], Image]] = {
    Matrix: draw_matrix,
    Bars: draw_bars,
    Curves: draw_curves,
    Reliability: draw_reliability,
    Gallery: draw_gallery,
}


def draw(drawing: Drawing) -> Image:
    """The drawing as RGB uint8 (H, W, 3)."""
    return DRAWN_BY[type(drawing)](drawing)
