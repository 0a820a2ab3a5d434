"""Galleries: images with what there is to say of each, and beside each the same with where the network looked."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipeline.exploration.grid import GAP, Card, GridStyle, Pixels, draw_grid
from data_pipeline.exploration.text_layout import MUTED, Line, Word, shorten, wrap
from trainers.report.attention_strip import overlaid
from trainers.tasks.presentation import Gallery, Image, NotedImage

COLUMNS = 3
STYLE = GridStyle(card_width=366, image_height=168, font_size=12, max_enlargement=1.0)
SIDE = (STYLE.card_width - 3 * GAP) // 2  # room for one image beside another
MAX_LINES = 2  # of a note


def draw_gallery(gallery: Gallery) -> Image:
    """The images in rows of three as RGB uint8 (H, W, 3)."""
    return draw_grid([_card(image) for image in gallery.images], COLUMNS, STYLE)


def _card(noted: NotedImage) -> Card:
    header = shorten(
        [Word(noted.id, MUTED), Word(noted.source, MUTED)] if noted.source else [Word(noted.id, MUTED)], STYLE.text_width
    )
    width = max(map(len, noted.notes), default=0)
    lines = [line for index, (label, text) in enumerate(noted.notes.items()) for line in _note(label, text, width, not index)]
    return Card(_side_by_side(noted), header, lines)


def _note(label: str, text: str, width: int, bold: bool) -> list[Line]:
    lines = wrap([Word(word, bold=bold) for word in text.split()], STYLE.text_width - width - 1, MAX_LINES) or [[]]
    return [[Word(f"{label if not index else '':{width}}", MUTED), *line] for index, line in enumerate(lines)]


def _side_by_side(noted: NotedImage) -> Pixels:
    """The image as large as its half of the card allows, and beside it, where it is known, where the network looked."""
    rows, columns = noted.image.shape[:2]
    if not noted.image.size:
        return noted.image
    scale = min(SIDE / columns, STYLE.image_height / rows)
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    image = np.asarray(cv2.resize(noted.image, size, interpolation=method), np.uint8)
    plain = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    if noted.attention is None:
        return plain
    between = np.full((len(plain), GAP, 3), 255, np.uint8)
    return np.concatenate([plain, between, overlaid(image, np.asarray(noted.attention, np.float64))], axis=1)
