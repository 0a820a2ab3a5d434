"""The course of a run over its steps: losses, validation figures, learning rate, speed, share of time spent waiting."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from trainers.report.figure import INK, LINE, MUTED, PALETTE, new_figure, save
from trainers.report.formatting import CURVES, curve_label, is_share, label, last_part

History = Sequence[Mapping[str, float]]
Curve = tuple[list[float], list[float]]
LOG_SCALE_FROM = 30.0  # a loss that falls by more than this factor is drawn on a logarithmic scale
MARKED_POINTS = 40  # a curve of so few points shows each


def draw_learning_curves(history: History, path: Path) -> Path:
    """Write a PNG with a panel for each kind of figure that occurs in `history`; an empty history gives a picture too."""
    panels = _panels(history)
    columns = 2 if len(panels) in (2, 4) else min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(4.6 * columns, 3.1 * rows)
    if not panels:
        figure.text(0.5, 0.5, "Nothing was logged in this run.", ha="center", va="center", color=MUTED)
    for index, (title, keys) in enumerate(panels):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw_panel(axes, title, {key: curve(history, key) for key in keys})
    figure.tight_layout(pad=1.4, w_pad=2.0, h_pad=2.0)
    return save(figure, path)


def curve(history: History, key: str) -> Curve:
    """Steps and finite values of one figure; rows without it are left out. Without `step`, the row's number is used."""
    points = [
        (float(row.get("step", index)), float(row[key]))
        for index, row in enumerate(history)
        if key in row and row[key] is not None and math.isfinite(row[key])
    ]
    points.sort(key=lambda point: point[0])
    return [step for step, _ in points], [value for _, value in points]


def _panels(history: History) -> list[tuple[str, list[str]]]:
    present = [key for key in dict.fromkeys(key for row in history for key in row) if curve(history, key)[0]]
    present = [key for key in present if not key.startswith("epoch/")]  # what its intervals have told already
    losses = [key for key in present if last_part(key) == "loss"]
    validation = [key for key in present if key.startswith("val/") and key.count("/") == 1 and last_part(key) in CURVES]
    main = next((last_part(key) for key in validation), "")
    validation += [key for key in present if key.startswith("val/") and key.count("/") == 2 and last_part(key) == main]
    candidates = [
        ("Loss", losses),
        ("Validation", validation),
        ("Learning rate", [key for key in present if last_part(key) == "lr"]),
        ("Training speed, images per second", [key for key in present if last_part(key) == "images_per_s"]),
        ("Share of the time spent waiting for data", [key for key in present if last_part(key) == "wait_share"]),
    ]
    return [(title, keys) for title, keys in candidates if keys]


def _draw_panel(axes: Axes, title: str, curves: Mapping[str, Curve]) -> None:
    for (key, (steps, values)), colour in zip(curves.items(), PALETTE * len(curves), strict=False):
        marker = "o" if len(steps) <= MARKED_POINTS else ""
        name = f"{label(key)}, {key.split('/')[0]}" if last_part(key) == "loss" and "/" in key else curve_label(key)
        axes.plot(steps, values, color=colour, linewidth=1.6, marker=marker, markersize=3, label=name)
    values = [value for _, curve_values in curves.values() for value in curve_values]
    _scale(axes, next(iter(curves)), values)
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, parse_math=False)
    axes.set_xlabel("step", fontsize=8, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=MUTED, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(LINE)
    if len(curves) > 1:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)


def _scale(axes: Axes, key: str, values: Sequence[float]) -> None:
    if is_share(key):
        # An early WER may be far above 100 %, which would press the rest flat: it leaves the picture at the top.
        axes.set_ylim(0, 1.03 if max(values) > 0.5 or last_part(key) != "wait_share" else max(0.05, 1.3 * max(values)))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    elif last_part(key) == "loss" and min(values) > 0 and max(values) / min(values) > LOG_SCALE_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    elif last_part(key) == "lr":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))
        axes.set_ylim(bottom=0)
    elif last_part(key) == "images_per_s":
        axes.set_ylim(0, 1.15 * max(*values, 1e-9))
