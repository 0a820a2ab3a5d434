"""Grids of images: cards of one width in rows, each an image with colored text above and below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from data_pipeline.exploration.text_layout import Color, Line, Word, line_length, wrap

Pixels = NDArray[np.uint8]

GROUND: Color = (246, 247, 249)
CARD: Color = (255, 255, 255)
FRAME: Color = (217, 221, 229)
GAP = 10  # between cards, and inside of one between its edge, its image and its text
STRIPE = 4  # width of a card's colored edge
MIN_SIDE = 4  # a line of one pixel is drawn this wide, or nobody would see it
MAX_CAPTION_LINES = 3


@dataclass(frozen=True)
class Card:
    """One image of a grid: uint8 (h, w), (h, w, 1) or (h, w, 3).

    `header` stands above it and `caption` below; `edge` colors the left edge.
    """

    image: Pixels
    header: Line = ()
    caption: Sequence[Line] = ()
    edge: Color | None = None


@dataclass(frozen=True)
class GridStyle:
    """Sizes of a grid in pixels: the width of a card, the height that its image may take, the size of the font."""

    card_width: int = 240
    image_height: int = 96
    font_size: int = 12
    max_enlargement: float = 2.0  # of a small image

    @property
    def text_width(self) -> int:
        """How many characters a line of text holds."""
        return int((self.card_width - 2 * GAP) / _font(self.font_size).getlength("0"))

    @property
    def line_height(self) -> int:
        """Pixels from one line of text to the next."""
        return round(1.25 * self.font_size)


def captioned_grid(images: Sequence[Pixels], captions: Sequence[str], columns: int = 6) -> Pixels:
    """A grid of images with a caption below each, which is wrapped, and cut where it takes more than a few lines.

    Raises ValueError when there is not a caption for each image, and as `draw_grid`.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: one caption for each image is needed")
    style = GridStyle()
    texts = [wrap([Word(word) for word in caption.split()], style.text_width, MAX_CAPTION_LINES) for caption in captions]
    cards = [Card(image, caption=text or [[]]) for image, text in zip(images, texts, strict=True)]
    return draw_grid(cards, columns, style)


def draw_grid(cards: Sequence[Card], columns: int, style: GridStyle | None = None) -> Pixels:
    """The cards in rows of `columns`, in reading order, as RGB uint8 (H, W, 3). No cards give an empty grid.

    Images keep their proportions and are reduced to the room that they have. A row is as high as its highest card.
    Raises ValueError for an image of another type or shape, and for less than one column.
    """
    if columns < 1:
        raise ValueError(f"a grid of {columns} columns: at least one is needed")
    style = style or GridStyle()
    columns = max(1, min(columns, len(cards)))
    rows = [cards[start : start + columns] for start in range(0, len(cards), columns)]
    heights = [max(_height(card, style) for card in row) for row in rows]
    size = (GAP + columns * (style.card_width + GAP), GAP + sum(heights) + GAP * len(rows))
    canvas = Image.new("RGB", size, GROUND)
    draw = ImageDraw.Draw(canvas)
    top = GAP
    for number, (row, height) in enumerate(zip(rows, heights, strict=True)):
        for column, card in enumerate(row):
            image = _fitted(card.image, number * columns + column, style)
            left = GAP + column * (style.card_width + GAP)
            _draw_card(canvas, draw, card, image, (left, top, left + style.card_width - 1, top + height - 1), style)
        top += height + GAP
    return np.asarray(canvas)


def _height(card: Card, style: GridStyle) -> int:
    header = style.line_height + GAP // 2 if card.header else 0
    caption = GAP + style.line_height * len(card.caption) if card.caption else 0
    return 2 * GAP + header + style.image_height + caption


def _draw_card(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    card: Card,
    image: Image.Image,
    box: tuple[int, int, int, int],
    style: GridStyle,
) -> None:
    left, top, right, bottom = box
    draw.rounded_rectangle(box, 6, fill=CARD, outline=FRAME)
    if card.edge is not None:
        draw.rectangle((left, top + GAP, left + STRIPE - 1, bottom - GAP), fill=card.edge)
    y = top + GAP
    if card.header:
        _write(draw, (left + GAP, y), card.header, style)
        y += style.line_height + GAP // 2
    x = left + (right + 1 - left - image.width) // 2
    canvas.paste(image, (x, y + (style.image_height - image.height) // 2))
    y += style.image_height + GAP
    for line in card.caption:
        _write(draw, (left + GAP, y), line, style)
        y += style.line_height


def _write(draw: ImageDraw.ImageDraw, start: tuple[int, int], line: Line, style: GridStyle) -> None:
    """Draw a line of words, each from its own column on: glyphs before it may have another width."""
    x, y = start
    for index, word in enumerate(line):
        column = line_length(line[:index]) + bool(index)
        font = _font(style.font_size, word.bold)
        draw.text((x + round(column * font.getlength("0")), y), word.text, fill=word.color, font=font)


def _fitted(image: Pixels, index: int, style: GridStyle) -> Image.Image:
    """Resize the image to the size in which it is drawn."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ValueError(f"image {index} is {image.dtype} of shape {image.shape}: wanted uint8, (h, w) or (h, w, 3)")
    if not image.size:
        return Image.new("RGB", (1, 1), CARD)
    pixels = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    whole = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    room = (style.card_width - 2 * GAP, style.image_height)
    scale = min(room[0] / whole.width, room[1] / whole.height, style.max_enlargement)
    size = [max(min(MIN_SIDE, limit), round(side * scale)) for side, limit in zip(whole.size, room, strict=True)]
    return whole.resize((size[0], size[1]), Image.Resampling.BILINEAR, reducing_gap=2.0)


@lru_cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans Mono, whose files matplotlib brings (it is not imported); Pillow's own font where they are missing."""
    library = find_spec("matplotlib")
    for folder in (library.submodule_search_locations or []) if library else []:
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / f"DejaVuSansMono{'-Bold' if bold else ''}.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)
