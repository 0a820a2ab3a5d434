"""Learning curves: losses, validation metrics, learning rate, speed and share of time waiting, over the steps of a run."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from data_pipeline.exploration.text_layout import Word, shorten
from trainers.report.formatting import heading
from trainers.report.plot_style import INK, LINE, MUTED, PALETTE, new_figure, rendered, with_plain_frame
from trainers.tasks.presentation import Image, MetricColumn

History = Sequence[Mapping[str, float]]
Curve = tuple[list[float], list[float]]

LOG_SCALE_FROM = 30.0  # a loss that falls by more than this factor is drawn on a logarithmic scale
MARKED_POINTS = 40  # a curve of so few points shows each
MAX_SOURCE = 24  # characters of a source's name in a legend


RUN_CURVES = {
    "train/lr": "Learning rate",
    "data/images_per_s": "Training speed, images per second",
    "data/wait_share": "Share of the time spent waiting for data",
}


@dataclass(frozen=True)
class Panel:
    """Curves that share their axes: `labels` by key of the history."""

    title: str
    labels: Mapping[str, str]
    share: bool = False  # of one


def draw_learning_curves(history: History, headlines: Sequence[MetricColumn] = ()) -> Image:
    """A panel for each kind of value that occurs in `history`, as RGB uint8 (H, W, 3); an empty history says so."""
    panels = list_panels(history, headlines)
    columns = 2 if len(panels) in (2, 4) else min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = new_figure(4.6 * columns, 3.1 * rows)
    if not panels:
        figure.text(0.5, 0.5, "Nothing was logged in this run.", ha="center", va="center", color=MUTED)
    for index, panel in enumerate(panels):
        _draw_panel(figure.add_subplot(rows, columns, index + 1), panel, history)
    figure.tight_layout(pad=1.4, w_pad=2.0, h_pad=2.0)
    return rendered(figure)


def curve(history: History, key: str) -> Curve:
    """Steps and finite values of one key; rows without it are left out. Without `step`, the row's number is used."""
    points = [
        (float(row.get("step", index)), float(row[key]))
        for index, row in enumerate(history)
        if key in row and row[key] is not None and math.isfinite(row[key])
    ]
    points.sort(key=lambda point: point[0])
    return [step for step, _ in points], [value for _, value in points]


def list_panels(history: History, headlines: Sequence[MetricColumn]) -> list[Panel]:
    """The panels that a history has curves for: shares of one together, every other headline alone."""
    present = [key for key in dict.fromkeys(key for row in history for key in row) if curve(history, key)[0]]
    losses = {key: key.split("/")[0] for key in sorted(present) if _last_part(key) == "loss" and key.count("/") == 1}
    shares: dict[str, str] = {}
    others = []
    validated = [column for column in headlines if column.better and f"val/{column.key}" in present and column.key != "loss"]
    for column in validated:
        whole = f"val/{column.key}"
        labels = {whole: heading(column)}
        if column is validated[0]:  # the sources of the data have a curve of this metric alone
            sources = [key for key in present if key.startswith("val/") and _last_part(key) == column.key and key != whole]
            labels |= {key: f"{heading(column)}, {_short(key[len('val/') : -len(column.key) - 1])}" for key in sources}
        if column.is_share:
            shares |= labels
        else:
            others.append(Panel(f"Validation: {heading(column)}", labels))
    panels = [Panel("Loss", losses), Panel("Validation", shares, share=True), *others]
    panels += [Panel(title, {key: title}, key.endswith("share")) for key, title in RUN_CURVES.items() if key in present]
    return [panel for panel in panels if panel.labels]


def _short(source: str) -> str:
    """The name of a source as a legend has room for it."""
    return shorten([Word(source)], MAX_SOURCE)[0].text


def _last_part(key: str) -> str:
    """`exact_match` of `val/exact_match`."""
    return key.rsplit("/", 1)[-1]


def _draw_panel(axes: Axes, panel: Panel, history: History) -> None:
    shown: list[float] = []
    for (key, label), color in zip(panel.labels.items(), itertools.cycle(PALETTE), strict=False):
        steps, values = curve(history, key)
        marker = "o" if len(steps) <= MARKED_POINTS else ""
        axes.plot(steps, values, color=color, linewidth=1.6, marker=marker, markersize=3, label=label)
        shown += values
    _scale(axes, panel, shown)
    axes.set_title(panel.title, loc="left", fontsize=10, fontweight="bold", color=INK, parse_math=False)
    axes.set_xlabel("step", fontsize=8, color=MUTED)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    with_plain_frame(axes)
    if len(panel.labels) > 1:
        for text in axes.legend(fontsize=8, frameon=False, labelcolor=INK).get_texts():
            text.set_parse_math(False)  # names of sources may hold anything


def _scale(axes: Axes, panel: Panel, values: Sequence[float]) -> None:
    key = next(iter(panel.labels))
    if panel.share:
        # An early WER may be far above 100 %, which would press the rest flat: it leaves the panel at the top.
        axes.set_ylim(0, 1.03 if max(values) > 0.5 or key.startswith("val/") else max(0.05, 1.3 * max(values)))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    elif _last_part(key) == "loss" and min(values) > 0 and max(values) / min(values) > LOG_SCALE_FROM:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
        axes.yaxis.set_minor_locator(NullLocator())
    elif _last_part(key) == "lr":
        axes.yaxis.set_major_formatter(FuncFormatter(lambda lr, _: f"{lr:g}"))
        axes.set_ylim(bottom=0)
    elif _last_part(key) == "images_per_s":
        axes.set_ylim(0, 1.15 * max(*values, 1e-9))
