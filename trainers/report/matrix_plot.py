"""Matrices as colored cells: with numbers and all names where there is room, as a picture of the whole where there is not."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from numpy.typing import NDArray

from data_pipeline.exploration.text_layout import Word, shorten
from trainers.report.plot_style import (
    HALF_WIDTH,
    INK,
    LINE,
    MAX_NAME,
    MUTED,
    WHOLE_WIDTH,
    families,
    new_figure,
    rendered,
    short_names,
    text_width,
)
from trainers.tasks.presentation import Image, Matrix

COLORS = LinearSegmentedColormap.from_list(
    "shades", ["#a03c05", "#e07b20", "#f7c99a", "#ffffff", "#a9c1f5", "#2f5fd0", "#173a8f"]
)
GAMMA = 0.6  # below 1: small shades are seen
MAX_BLOCKS = 400  # rows and columns of a picture; of more, blocks of cells are drawn as their strongest one
MAX_LABELS, FEW_LABELS = 100, 40  # names along an axis: all of them, or some
PICTURE_NAME = 14  # characters of a name beside a picture
NUMBERED = 40  # rows and columns whose cells have numbers
THOUSANDS = 10_000  # numbers from here on are written in thousands where there is little room
DETAILED = 12  # those whose cells have room for a second line
CELL, PICTURE = 0.56, 7.4  # inches: of a cell with numbers, of a picture
MARGIN, TITLE, AXIS_TITLE, LINE_HEIGHT = 0.08, 0.36, 0.24, 0.17


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
    left: float
    below: float
    height: float
    legend: list[str]


def draw_matrix(matrix: Matrix) -> Image:
    """The matrix as RGB uint8 (H, W, 3), half as wide as the page where that is enough."""
    layout = _layout(matrix)
    figure = new_figure(layout.width, layout.height)
    wide, high = len(matrix.columns) * layout.cell, len(matrix.rows) * layout.cell
    width, height = layout.width, layout.height
    axes = figure.add_axes((layout.left / width, layout.below / height, wide / width, high / height))
    _fill(axes, matrix)
    if max(len(matrix.rows), len(matrix.columns)) <= NUMBERED:
        _write_numbers(axes, matrix, layout)
    _label(axes, matrix, layout)
    style: dict[str, Any] = {"parse_math": False, "family": families(), "va": "top"}
    title = shorten([Word(matrix.title)], int(width / 0.088))[0].text
    figure.text(MARGIN / width, 1 - MARGIN / height, title, fontsize=10, fontweight="bold", color=INK, **style)
    for index, line in enumerate(layout.legend):
        y = (MARGIN + LINE_HEIGHT * (len(layout.legend) - index)) / height
        figure.text(MARGIN / width, y, line, fontsize=7.5, color=MUTED, **style)
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
    height = TITLE + len(rows) * cell + below
    return _Layout(rows, columns, every, points, upright, width, cell, left, below, height, legend)


def _fill(axes: Axes, matrix: Matrix) -> None:
    strength = np.nan_to_num(np.asarray(matrix.shades, np.float64) / matrix.limit).clip(-1, 1)
    shown = strongest_blocks(np.sign(strength) * np.abs(strength) ** GAMMA, MAX_BLOCKS)
    size = (-0.5, len(matrix.columns) - 0.5, len(matrix.rows) - 0.5, -0.5)
    axes.imshow(shown, cmap=COLORS, vmin=-1, vmax=1, aspect="auto", interpolation="nearest", extent=size)
    if max(len(matrix.rows), len(matrix.columns)) <= NUMBERED:
        axes.set_xticks(np.arange(len(matrix.columns) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(matrix.rows) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color=LINE, linewidth=0.6)
    for spine in axes.spines.values():
        spine.set_color(LINE)


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


def _write_numbers(axes: Axes, matrix: Matrix, layout: _Layout) -> None:
    detailed = bool(matrix.shade_format) and max(len(matrix.rows), len(matrix.columns)) <= DETAILED
    strength = np.nan_to_num(np.abs(np.asarray(matrix.shades, np.float64))) / matrix.limit
    texts = {
        (row, column): format(value, matrix.format) if detailed or value < THOUSANDS else f"{value / 1000:.0f}k"
        for (row, column), value in np.ndenumerate(matrix.values)
        if not math.isnan(value) and (value or detailed)
    }
    points = min(8.5, 0.86 * 8 * layout.cell / max(text_width(set(texts.values()), 8.0), 0.01))
    for (row, column), text in texts.items():
        color = "white" if strength[row, column] ** GAMMA > 0.6 else INK if matrix.values[row, column] else "#b6bcc8"
        second = format(abs(matrix.shades[row, column]), matrix.shade_format).replace("%", " %") if detailed else ""
        second = second if matrix.values[row, column] else ""
        y = row - 0.13 if second else row
        axes.text(column, y, text, ha="center", va="center", fontsize=points, color=color, parse_math=False)
        if second:
            axes.text(column, row + 0.22, second, ha="center", va="center", fontsize=6.5, color=color, parse_math=False)


def _label(axes: Axes, matrix: Matrix, layout: _Layout) -> None:
    style: dict[str, Any] = {"parse_math": False, "family": families(), "fontsize": layout.points, "color": INK}
    every = layout.every
    axes.set_yticks(range(0, len(layout.rows), every), layout.rows[::every], **style)
    axes.set_xticks(range(0, len(layout.columns), every), layout.columns[::every], rotation=90 * layout.upright, **style)
    axes.tick_params(length=0, which="both")
    axes.set_xlabel(matrix.column_title, fontsize=8, color=MUTED, parse_math=False)
    axes.set_ylabel(matrix.row_title, fontsize=8, color=MUTED, parse_math=False)
