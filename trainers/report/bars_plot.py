"""Shares of many names: a bar for each name and marks upon it; of very many, the lowest ones and a curve of all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from trainers.report.plot_style import (
    HALF_WIDTH,
    INK,
    LINE,
    MARGIN,
    MUTED,
    PALETTE,
    WHOLE_WIDTH,
    families,
    new_figure,
    rendered,
    set_figure_title,
    set_title,
    short_names,
    text_width,
    with_plain_frame,
)
from trainers.tasks.presentation import Bars, Image

IN_A_COLUMN = 30  # names
MAX_NAMES = 2 * IN_A_COLUMN  # with more of them, the lowest ones are shown
LINE_HEIGHT = 0.2  # inches of a name
MARKS = {"o": "●", "d": "♦", "s": "■"}  # and as a letter
ABOVE, BELOW = 0.56, 0.28


def draw_bars(bars: Bars) -> Image:
    """The bars as RGB uint8 (H, W, 3), half as wide as the page where one column of names is enough."""
    first, names = next(iter(bars.series)), len(bars.names)
    many = names > MAX_NAMES
    title = f"{bars.title}: the {IN_A_COLUMN} of {names:,} with the lowest {first}" if many else bars.title
    shown = lowest(bars.series[first], IN_A_COLUMN) if many else list(range(names))
    parts = [shown[:IN_A_COLUMN], shown[IN_A_COLUMN:]] if len(shown) > IN_A_COLUMN else [shown]
    if len(parts) == 2:
        half = math.ceil(len(shown) / 2)
        parts = [shown[:half], shown[half:]]
    width = WHOLE_WIDTH if many or len(parts) == 2 else HALF_WIDTH
    rows = max(len(part) for part in parts)
    height = ABOVE + max(rows, 1) * LINE_HEIGHT + BELOW
    figure = new_figure(width, height)
    column = width if width == HALF_WIDTH else width / 2
    for index, part in enumerate(parts):
        left = index * column + MARGIN + 0.1 + text_width(short_names(bars.names[name] for name in part), 8)
        right = (index + 1) * column - MARGIN - 0.14 - text_width([f"{max(bars.counts, default=0):,}"], 7)
        high = len(part) * LINE_HEIGHT
        top = height - ABOVE
        axes = figure.add_axes((left / width, (top - high) / height, (right - left) / width, max(high, LINE_HEIGHT) / height))
        _draw_names(axes, bars, part)
    if many:
        box = (
            (column + 0.55) / width,
            BELOW / height + 0.02,
            (column - 0.75) / width,
            (height - ABOVE - BELOW) / height - 0.02,
        )
        _draw_profile(figure.add_axes(box), bars.series, names)
    set_figure_title(figure, title)
    _write_legend(figure, bars, 1 - (MARGIN + 0.24) / height)
    return rendered(figure)


def lowest(values: Sequence[float], count: int) -> list[int]:
    """The places of the `count` lowest values, lowest first; NaN, which nothing was measured for, comes last."""
    return np.argsort(np.asarray(values, np.float64), kind="stable")[:count].tolist()


def _draw_names(axes: Axes, bars: Bars, part: Sequence[int]) -> None:
    places = np.arange(len(part))
    for index, values in enumerate(bars.series.values()):
        shown = np.array([values[name] for name in part], np.float64)
        if not index:
            axes.barh(places, np.nan_to_num(shown), height=0.66, color=PALETTE[0], alpha=0.5)
            continue
        mark = list(MARKS)[(index - 1) % len(MARKS)]
        axes.plot(shown, places, mark, color=_color(index), markersize=6.5, markeredgecolor="white", clip_on=False, zorder=3)
    for place, name in enumerate(part):
        if bars.counts:
            axes.text(1.03, place, f"{bars.counts[name]:,}", fontsize=7, color=MUTED, va="center", parse_math=False)
    names = short_names(bars.names[name] for name in part)
    axes.set_yticks(places, names, parse_math=False, family=families())
    axes.set_ylim(len(part) - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="x", color=LINE, linewidth=0.7)
    with_plain_frame(axes)
    axes.tick_params(axis="y", labelcolor=INK)


def _color(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _draw_profile(axes: Axes, series: Mapping[str, Sequence[float]], names: int) -> None:
    """All values in ascending order, a curve for each series."""
    for index, (name, values) in enumerate(series.items()):
        ordered = np.sort(np.asarray(values, np.float64))
        axes.plot(np.arange(1, names + 1), ordered, color=_color(index), linewidth=1.6, label=name)
    axes.set_ylim(0, 1.03)
    axes.set_xlim(1, max(names, 2))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    set_title(axes, f"All {names:,}, each curve in ascending order", 8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: f"{place:,.0f}"))
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    with_plain_frame(axes)


def _write_legend(figure: Figure, bars: Bars, y: float) -> None:
    """The names of the series in their colors, in a line; what the gray numbers are."""
    signs = ["▬", *(list(MARKS.values())[index % len(MARKS)] for index in range(len(bars.series) - 1))]
    x = MARGIN / figure.get_figwidth()
    texts = [(f"{sign} {name}", _color(index)) for index, (sign, name) in enumerate(zip(signs, bars.series, strict=True))]
    texts += [("gray: images", MUTED)] if bars.counts else []
    for text, color in texts:
        figure.text(x, y, text, fontsize=8, color=color, va="top", parse_math=False)
        x += (text_width([text], 8) + 0.2) / figure.get_figwidth()
