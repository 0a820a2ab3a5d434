"""Matrices as colored cells: with numbers and all names where there is room, as a picture of the whole where there is not."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from trainers.report.plot_style import (
    HALF_WIDTH,
    INK,
    LINE,
    MARGIN,
    MAX_NAME,
    MUTED,
    WHOLE_WIDTH,
    families,
    new_figure,
    rendered,
    set_figure_title,
    short_names,
    text_width,
)
from trainers.tasks.presentation import Image, Matrix

COLORS = LinearSegmentedColormap.from_list(
    "shades", ["#a03c05", "#e07b20", "#f7c99a", "#ffffff", "#a9c1f5", "#2f5fd0", "#173a8f"]
)
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of red, green and blue
GAMMA = 0.6  # below 1: small shades are seen
MAX_BLOCKS = 400  # rows and columns of a picture; of more, blocks of cells are drawn as their strongest one
MAX_LABELS, FEW_LABELS = 100, 40  # names along an axis: all of them, or some
PICTURE_NAME = 14  # characters of a name beside a picture
NUMBERED = 40  # rows and columns whose cells have numbers
THOUSANDS = 10_000  # numbers from here on are written in thousands where there is little room
DETAILED = 12  # those whose cells have room for a second line
CELL, LOW_CELL, PICTURE = 0.56, 0.3, 7.4  # inches: of a cell with numbers, of the height of one with one line, of a picture
TITLE, AXIS_TITLE, LINE_HEIGHT = 0.36, 0.24, 0.17


@dataclass(frozen=True)
class _Layout:
    """Sizes of a plot in inches, and its names."""

    rows: list[str]
    columns: list[str]
    every: int  # so many rows and columns from one name to the next
    points: float
    upright: bool  # names of columns
    width: float
    cell: float
    line: float  # height of a row
    left: float
    below: float
    height: float
    legend: list[str]


def draw_matrix(matrix: Matrix) -> Image:
    """The matrix as RGB uint8 (H, W, 3), half as wide as the page where that is enough."""
    layout = _layout(matrix)
    figure = new_figure(layout.width, layout.height)
    wide, high = len(matrix.columns) * layout.cell, len(matrix.rows) * layout.line
    width, height = layout.width, layout.height
    axes = figure.add_axes((layout.left / width, layout.below / height, wide / width, high / height))
    _fill(axes, matrix)
    if max(len(matrix.rows), len(matrix.columns)) <= NUMBERED:
        _write_numbers(figure, axes, matrix, layout)
    _label(axes, matrix, layout)
    set_figure_title(figure, matrix.title)
    for index, line in enumerate(layout.legend):
        y = (MARGIN + LINE_HEIGHT * (len(layout.legend) - index)) / height
        figure.text(MARGIN / width, y, line, fontsize=7.5, color=MUTED, va="top", parse_math=False)
    return rendered(figure)


def _layout(matrix: Matrix) -> _Layout:
    most = max(len(matrix.rows), len(matrix.columns), 1)
    every = math.ceil(most / FEW_LABELS) if most > MAX_LABELS else 1
    length = MAX_NAME if most <= NUMBERED else PICTURE_NAME
    rows, columns = short_names(matrix.rows, length), short_names(matrix.columns, length)
    cell = CELL if most <= NUMBERED else PICTURE / most
    points = min(8.0, max(4.5, cell * every * 72 * 0.85))
    left = MARGIN + text_width(rows[::every], points) + 0.1 + (AXIS_TITLE if matrix.row_title else 0)
    needed = left + len(columns) * cell + MARGIN
    width = min(max(needed, HALF_WIDTH), WHOLE_WIDTH)
    cell = min(cell, (width - left - MARGIN) / max(len(columns), 1))
    heads = text_width(columns[::every], points)
    upright = heads > 0.92 * cell * every
    below = 0.1 + (heads if upright else points / 72) + 0.06 + (AXIS_TITLE if matrix.column_title else 0)
    legend = textwrap.wrap(matrix.legend, int(width / 0.059))
    below += LINE_HEIGHT * len(legend) + MARGIN + 0.06
    line = min(cell, CELL if _is_detailed(matrix) else LOW_CELL) if most <= NUMBERED else cell
    height = TITLE + len(rows) * line + below
    return _Layout(rows, columns, every, points, upright, width, cell, line, left, below, height, legend)


def _is_detailed(matrix: Matrix) -> bool:
    """Whether there is room for a second line in each cell, and something to write there."""
    return bool(matrix.shade_format) and max(len(matrix.rows), len(matrix.columns)) <= DETAILED


def _fill(axes: Axes, matrix: Matrix) -> None:
    shown = strongest_blocks(_strengths(matrix), MAX_BLOCKS)
    size = (-0.5, len(matrix.columns) - 0.5, len(matrix.rows) - 0.5, -0.5)
    axes.imshow(shown, cmap=COLORS, vmin=-1, vmax=1, aspect="auto", interpolation="nearest", extent=size)
    if max(len(matrix.rows), len(matrix.columns)) <= NUMBERED:
        axes.hlines(np.arange(1, len(matrix.rows)) - 0.5, *size[:2], color=LINE, linewidth=0.6)
        axes.vlines(np.arange(1, len(matrix.columns)) - 0.5, *size[2:], color=LINE, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_color(LINE)


def _strengths(matrix: Matrix) -> NDArray[np.float64]:
    """The shades from -1 to 1, as colors are chosen by."""
    shares = np.nan_to_num(np.asarray(matrix.shades, np.float64) / matrix.limit).clip(-1, 1)
    return np.sign(shares) * np.abs(shares) ** GAMMA


def strongest_blocks(shades: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """The shades with at most `limit` rows and columns: of more, each block of cells as its strongest one."""
    rows, columns = (math.ceil(side / limit) if side else 1 for side in shades.shape)
    if rows == columns == 1:
        return shades
    height, width = (math.ceil(side / step) for side, step in zip(shades.shape, (rows, columns), strict=True))
    padded = np.zeros((height * rows, width * columns))
    padded[: shades.shape[0], : shades.shape[1]] = shades
    blocks = padded.reshape(height, rows, width, columns).swapaxes(1, 2).reshape(height, width, -1)
    return np.take_along_axis(blocks, np.abs(blocks).argmax(2)[..., None], 2)[..., 0]


def _write_numbers(figure: Figure, axes: Axes, matrix: Matrix, layout: _Layout) -> None:
    # Texts of the figure: those of axes are clipped, each at a cost.
    style: dict[str, Any] = {"transform": axes.transData, "ha": "center", "va": "center", "parse_math": False}
    detailed = _is_detailed(matrix)
    dark = COLORS((_strengths(matrix) + 1) / 2)[..., :3] @ LUMINANCE < 0.55
    texts = {
        (row, column): format(value, matrix.format) if detailed or value < THOUSANDS else f"{value / 1000:.0f}k"
        for (row, column), value in np.ndenumerate(matrix.values)
        if not math.isnan(value) and (value or detailed)
    }
    points = min(8.5, 0.86 * 8 * layout.cell / max(text_width(set(texts.values()), 8.0), 0.01))
    for (row, column), text in texts.items():
        color = "white" if dark[row, column] else INK if matrix.values[row, column] else "#b6bcc8"
        second = format(abs(matrix.shades[row, column]), matrix.shade_format).replace("%", " %") if detailed else ""
        second = second if matrix.values[row, column] else ""
        y = row - 0.13 if second else row
        figure.text(column, y, text, fontsize=points, color=color, **style)
        if second:
            figure.text(column, row + 0.22, second, fontsize=6.5, color=color, **style)


def _label(axes: Axes, matrix: Matrix, layout: _Layout) -> None:
    style: dict[str, Any] = {"parse_math": False, "family": families(), "fontsize": layout.points, "color": INK}
    every = layout.every
    axes.set_yticks(range(0, len(layout.rows), every), layout.rows[::every], **style)
    axes.set_xticks(range(0, len(layout.columns), every), layout.columns[::every], rotation=90 * layout.upright, **style)
    axes.tick_params(length=0)
    axes.set_xlabel(matrix.column_title, fontsize=8, color=MUTED, parse_math=False)
    axes.set_ylabel(matrix.row_title, fontsize=8, color=MUTED, parse_math=False)
