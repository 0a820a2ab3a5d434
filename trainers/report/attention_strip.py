"""Where the decoder looked for each token: the image once per token, with the attention laid over it."""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from trainers.report.figure import INK, LINE, MUTED, new_figure, printable, save
from trainers.report.record import AttentionExample, Image

SHEET_WIDTH = 13.0  # inches
TILE_GAP = 0.14
TITLE_HEIGHT = 0.24
MIN_TILE_WIDTH, MAX_TILE_WIDTH = 1.4, 3.0
TILE_HEIGHT = 0.7  # aimed at, where the tile's width allows it
MAX_TILE_HEIGHT = 2.0
MIN_SIDE = 0.05
GLOW = np.array([255.0, 106.0, 0.0])
STRENGTH = 0.9
MAX_TITLE = 24


def draw_attention_sheet(example: AttentionExample, path: Path, max_tokens: int = 80) -> Path:
    """Write a PNG with one tile per token, in reading order.

    Raises ValueError unless `maps` is (T, h, w) with T = len(tokens).
    """
    maps = np.asarray(example.maps, dtype=np.float64)
    if maps.ndim != 3 or len(maps) != len(example.tokens):
        raise ValueError(f"attention maps of shape {maps.shape} do not fit {len(example.tokens)} tokens: wanted (T, h, w)")
    count = min(len(maps), max_tokens)
    rows_px, columns_px = example.image.shape[:2]
    if not count or not rows_px or not columns_px:
        figure = new_figure(4.0, 1.0)
        figure.text(0.5, 0.5, "No tokens were read in this image.", ha="center", va="center", color=MUTED)
        return save(figure, path)
    aspect = columns_px / rows_px
    slot = float(np.clip(TILE_HEIGHT * aspect, MIN_TILE_WIDTH, MAX_TILE_WIDTH))
    columns = min(count, max(1, int((SHEET_WIDTH - TILE_GAP) / (slot + TILE_GAP))))
    slot = min(MAX_TILE_WIDTH, (SHEET_WIDTH - TILE_GAP) / columns - TILE_GAP)
    # The whole image, in proportion; a strip of a few pixels' width is shown wider than it is, or it would vanish.
    height = float(np.clip(slot / aspect, MIN_SIDE, MAX_TILE_HEIGHT))
    width = float(np.clip(height * aspect, MIN_SIDE, slot))
    rows = math.ceil(count / columns)
    sheet_width = TILE_GAP + columns * (slot + TILE_GAP)
    sheet_height = TILE_GAP + rows * (height + TITLE_HEIGHT + TILE_GAP)
    figure = new_figure(sheet_width, sheet_height)
    for index in range(count):
        row, column = divmod(index, columns)
        left = TILE_GAP + column * (slot + TILE_GAP)
        top = TILE_GAP + row * (height + TITLE_HEIGHT + TILE_GAP)
        bottom = sheet_height - top - TITLE_HEIGHT - height
        axes = figure.add_axes((left / sheet_width, bottom / sheet_height, width / sheet_width, height / sheet_height))
        axes.imshow(overlaid(example.image, maps[index]), aspect="auto", interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_color(LINE)
        title = printable(str(example.tokens[index]))[:MAX_TITLE] or "(blank)"
        y = 1 - (top + TITLE_HEIGHT / 2) / sheet_height
        number = figure.text(left / sheet_width, y, f"{index + 1}", fontsize=7, color=MUTED, va="center")
        style: dict[str, Any] = {"family": "DejaVu Sans Mono", "weight": "bold", "va": "center", "parse_math": False}
        x = (left + 0.1 + 0.07 * len(number.get_text())) / sheet_width
        figure.text(x, y, title, fontsize=9, color=INK, **style)
    return save(figure, path)


def overlaid(image: Image, attention: NDArray[np.float64]) -> Image:
    """The image (H, W, 3) with the map (h, w), scaled to its own maximum and enlarged, shining through in one colour.

    A map without a positive finite value leaves the image as it is.
    """
    rgb = (image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)).astype(np.float64)
    glow = np.nan_to_num(np.clip(attention, 0, None), nan=0.0, posinf=0.0)
    peak = float(glow.max(initial=0.0))
    if peak > 0:
        glow = glow / peak
    rows, columns = rgb.shape[:2]
    enlarged = cv2.resize(glow, (columns, rows), interpolation=cv2.INTER_LINEAR) if glow.size else np.zeros((rows, columns))
    alpha = STRENGTH * np.clip(enlarged, 0, 1)[..., None]
    # Only the paper takes the colour, so that the ink stays readable: dark ink is multiplied, light ink is screened.
    multiplied = rgb * (1 - alpha * (1 - GLOW / 255))
    screened = 255 - (255 - rgb) * (1 - alpha * GLOW / 255)
    mixed = multiplied if rgb.mean() >= 128 else screened
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
