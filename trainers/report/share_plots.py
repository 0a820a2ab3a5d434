"""Plots of shares over shares: curves over a threshold, and how reliable a confidence is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from trainers.report.plot_style import (
    HALF_WIDTH,
    INK,
    LINE,
    MARGIN,
    MUTED,
    PALETTE,
    new_figure,
    rendered,
    set_figure_title,
    with_plain_frame,
)
from trainers.tasks.presentation import Curves, Image, Reliability

Floats = NDArray[np.floating[Any]]

HEIGHT, TITLE = 3.7, 0.24  # inches
CERTAINTY = 1.96  # standard deviations of an interval that holds in 95 of 100 cases


def draw_curves(curves: Curves) -> Image:
    """The curves as RGB uint8 (H, W, 3), half as wide as the page."""
    figure = new_figure(HALF_WIDTH, HEIGHT)
    axes = figure.add_subplot()
    for index, (name, values) in enumerate(curves.curves.items()):
        axes.plot(curves.x, values, color=PALETTE[index % len(PALETTE)], linewidth=1.6, label=name)
    for label, x in curves.marks.items():
        axes.axvline(x, color=INK, linewidth=1, linestyle=(0, (4, 3)))
        side, shift = ("right", -4) if x > 0.5 else ("left", 4)
        axes.annotate(
            label, (x, 0.02), (shift, 0), textcoords="offset points", ha=side, fontsize=8, color=INK, parse_math=False
        )
    _share_axes(axes)
    set_figure_title(figure, curves.title)
    axes.set_xlabel(curves.x_title, fontsize=8, color=MUTED, parse_math=False)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.tight_layout(pad=0.7, rect=(0, 0, 1, 1 - TITLE / HEIGHT))
    return rendered(figure)


def draw_reliability(shown: Reliability) -> Image:
    """The share that is right over the confidence, and how often each confidence occurs, as RGB uint8 (H, W, 3)."""
    figure = new_figure(HALF_WIDTH, HEIGHT)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    filled = np.asarray(shown.counts) > 0
    confidence, accuracy = shown.confidence[filled], shown.accuracy[filled]
    low, high = wilson_interval(accuracy, shown.counts[filled])
    upper.vlines(confidence, low, high, color=PALETTE[0], linewidth=1.2, alpha=0.6)
    upper.plot(confidence, accuracy, "o-", color=PALETTE[0], linewidth=1.6, markersize=4)
    _share_axes(upper)
    upper.set_ylabel(shown.y_title, fontsize=8, color=MUTED)
    set_figure_title(figure, shown.title)
    error = "–" if math.isnan(shown.error) else f"{shown.error:.4f}"
    corner = (1 - MARGIN / HALF_WIDTH, 1 - (MARGIN + 0.02) / HEIGHT)
    figure.text(*corner, f"calibration error {error}", fontsize=8, color=MUTED, ha="right", va="top")
    bins = len(shown.counts)
    lower.bar((np.arange(bins) + 0.5) / bins, shown.counts, width=0.9 / bins, color=PALETTE[0], alpha=0.75)
    lower.set_ylim(0, 1.1 * max(1, int(np.max(shown.counts, initial=0))))
    lower.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    lower.grid(axis="y", color=LINE, linewidth=0.7)
    with_plain_frame(lower)
    lower.set_ylabel("number", fontsize=8, color=MUTED)
    lower.set_xlabel(shown.x_title, fontsize=8, color=MUTED)
    figure.tight_layout(pad=0.7, rect=(0, 0, 1, 1 - TITLE / HEIGHT))
    figure.align_ylabels()
    return rendered(figure)


def wilson_interval(share: Floats, counts: NDArray[np.integer[Any]]) -> tuple[Floats, Floats]:
    """Where the true share lies in 95 of 100 cases, of a share that was measured on `counts` (Wilson 1927)."""
    squared = CERTAINTY**2
    center = (share + squared / (2 * counts)) / (1 + squared / counts)
    spread = CERTAINTY / (1 + squared / counts) * np.sqrt(share * (1 - share) / counts + squared / (4 * counts**2))
    return np.maximum(center - spread, 0), np.minimum(center + spread, 1)


def _share_axes(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(color=LINE, linewidth=0.7)
    with_plain_frame(axes)
