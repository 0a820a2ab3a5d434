"""A sheet of test images, each with its truth and its prediction, wrong and missed tokens in red."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from trainers.report.figure import INK, LINE, MUTED, RIGHT, WRONG, monospace_width, new_figure, printable, save
from trainers.report.record import Example
from trainers.report.text_layout import Piece, lay_out, line_count
from trainers.report.token_diff import mark_tokens

# Inches.
TILE_WIDTH = 4.1
GAP = 0.16
PADDING = 0.12
IMAGE_HEIGHT = 1.0
HEADER_HEIGHT = 0.24
LABEL_WIDTH = 0.62
# Points.
FONT_SIZE = 7.5
LINE_HEIGHT = 1.35 * FONT_SIZE / 72
ASCENT = 0.93 * FONT_SIZE / 72
MONOSPACE = "DejaVu Sans Mono"
CHARACTER_WIDTH = monospace_width(MONOSPACE, FONT_SIZE)
TEXT_COLUMNS = int((TILE_WIDTH - 2 * PADDING - LABEL_WIDTH) / CHARACTER_WIDTH)
MAX_LINES = 4


@dataclass(frozen=True)
class _Tile:
    example: Example
    truth: list[Piece]
    prediction: list[Piece]

    @property
    def height(self) -> float:
        lines = line_count(self.truth) + line_count(self.prediction)
        return 2 * PADDING + HEADER_HEIGHT + IMAGE_HEIGHT + 0.16 + lines * LINE_HEIGHT


def draw_sample_sheet(examples: Sequence[Example], path: Path, columns: int = 3, max_examples: int = 30) -> Path:
    """Write a PNG of the first `max_examples` examples; none gives a picture that says so."""
    tiles = [_tile(example) for example in examples[:max_examples]]
    if not tiles:
        figure = new_figure(TILE_WIDTH, 1.0)
        figure.text(0.5, 0.5, "No examples were kept.", ha="center", va="center", color=MUTED)
        return save(figure, path)
    columns = min(columns, len(tiles))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    heights = [max(tile.height for tile in row) for row in rows]
    width = GAP + columns * (TILE_WIDTH + GAP)
    height = GAP + sum(heights) + GAP * len(rows)
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.axis("off")
    top = GAP
    for row, row_height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row):
            _draw_tile(axes, tile, GAP + column * (TILE_WIDTH + GAP), top, row_height)
        top += row_height + GAP
    return save(figure, path)


def _tile(example: Example) -> _Tile:
    truth, prediction = mark_tokens(example.truth, example.prediction)
    return _Tile(example, lay_out(truth, TEXT_COLUMNS, MAX_LINES), lay_out(prediction, TEXT_COLUMNS, MAX_LINES))


def _draw_tile(axes: Axes, tile: _Tile, left: float, top: float, height: float) -> None:
    example = tile.example
    colour = RIGHT if example.correct else WRONG
    card = FancyBboxPatch(
        (left, top), TILE_WIDTH, height, boxstyle="round,pad=0,rounding_size=0.07", fc="white", ec=LINE, lw=0.8
    )
    axes.add_patch(card)
    axes.add_patch(Rectangle((left, top + 0.08), 0.035, height - 0.16, fc=colour, ec="none"))
    x, y = left + PADDING, top + PADDING
    _write(axes, x, y, "✓" if example.correct else "✗", colour, size=10, family="DejaVu Sans", weight="bold")
    source = printable(example.source)
    room = int((TILE_WIDTH - 2 * PADDING - 0.3) / CHARACTER_WIDTH) - len(source) - 2
    _write(axes, x + 0.2, y + 0.015, _shortened(printable(example.id), room), MUTED)
    _write(axes, left + TILE_WIDTH - PADDING, y + 0.015, source, MUTED, ha="right")
    y += HEADER_HEIGHT
    _draw_image(axes, example, x, y)
    y += IMAGE_HEIGHT + 0.1
    _write(axes, x, y, "truth", MUTED)
    _write_pieces(axes, tile.truth, x + LABEL_WIDTH, y)
    y += line_count(tile.truth) * LINE_HEIGHT + 0.06
    _write(axes, x, y, "read", MUTED)
    _write_pieces(axes, tile.prediction or [Piece(0, 0, "(nothing)", True)], x + LABEL_WIDTH, y)


def _draw_image(axes: Axes, example: Example, left: float, top: float) -> None:
    rows, columns = example.image.shape[:2]
    if not rows or not columns:
        return
    box_width = TILE_WIDTH - 2 * PADDING
    scale = min(box_width / columns, IMAGE_HEIGHT / rows, 1 / 40)  # pixels of 1/40 inch at most: a tiny image stays small
    width, height = columns * scale, rows * scale
    x, y = left + (box_width - width) / 2, top + (IMAGE_HEIGHT - height) / 2
    axes.imshow(
        example.image,
        extent=(x, x + width, y + height, y),
        aspect="auto",
        cmap="gray",
        vmin=0,
        vmax=255,
        interpolation="antialiased",
        zorder=2,  # above the card
    )


def _write_pieces(axes: Axes, pieces: Sequence[Piece], left: float, top: float) -> None:
    for piece in pieces:
        x, y = left + piece.column * CHARACTER_WIDTH, top + piece.line * LINE_HEIGHT
        _write(axes, x, y, piece.text, WRONG if piece.wrong else INK, weight="bold" if piece.wrong else "normal")


def _write(axes: Axes, x: float, y: float, text: str, colour: str, size: float = FONT_SIZE, **style: str) -> None:
    settings: dict[str, Any] = {"family": MONOSPACE, "ha": "left", **style}
    axes.text(x, y + ASCENT, text, color=colour, fontsize=size, va="baseline", parse_math=False, **settings)


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(0, room - 1)] + "…"
