"""The attention of a decoder for each token: the image once per token, with the token's attention laid over it."""

import cv2
import numpy as np
from numpy.typing import NDArray

from data_pipeline.exploration.grid import GAP, Card, GridStyle, Pixels, draw_grid
from data_pipeline.exploration.text_layout import MUTED, Word, shorten
from trainers.tasks.presentation import AttentionExample

STRIP_WIDTH = 1560  # at most
MIN_CARD_WIDTH, MAX_CARD_WIDTH = 170, 360
IMAGE_HEIGHT, MAX_IMAGE_HEIGHT = 84, 240  # the height aimed at, where the card's width allows it
GLOW = np.array([255.0, 106.0, 0.0])
STRENGTH = 0.9


def draw_attention_strip(example: AttentionExample, max_tokens: int = 80) -> Pixels:
    """One card per token in reading order as an image, RGB uint8 (H, W, 3); without tokens, the image alone.

    Raises ValueError unless `maps` is (T, h, w) with T = len(tokens).
    """
    maps = np.asarray(example.maps, dtype=np.float64)
    if maps.ndim != 3 or len(maps) != len(example.tokens):
        raise ValueError(f"attention maps of shape {maps.shape} do not fit {len(example.tokens)} tokens: wanted (T, h, w)")
    style = _style(*example.image.shape[:2])
    columns = (STRIP_WIDTH - GAP) // (style.card_width + GAP)
    image = _reduced(example.image, style.card_width - 2 * GAP, style.image_height)
    cards = [
        Card(overlaid(image, attention), shorten([Word(f"{index + 1}", MUTED), _title(token)], style.text_width))
        for index, (token, attention) in enumerate(zip(example.tokens[:max_tokens], maps, strict=False))
    ]
    nothing = Card(image, shorten([Word("no tokens", MUTED)], style.text_width))
    return draw_grid(cards or [nothing], columns, style)


def _title(token: str) -> Word:
    return Word(token if token.strip() else "(blank)", bold=True)


def _style(rows: int, columns: int) -> GridStyle:
    """Cards as wide as the proportions of the image ask for, within limits."""
    aspect = columns / rows if rows and columns else 1.0
    width = int(np.clip(IMAGE_HEIGHT * aspect, MIN_CARD_WIDTH - 2 * GAP, MAX_CARD_WIDTH - 2 * GAP))
    height = int(np.clip(width / aspect, 8, MAX_IMAGE_HEIGHT))
    return GridStyle(card_width=width + 2 * GAP, image_height=height, font_size=13, max_enlargement=float("inf"))


def _reduced(image: Pixels, width: int, height: int) -> Pixels:
    """An image that is larger than it will be drawn in the size in which it will be: it is overlaid once per token."""
    rows, columns = image.shape[:2]
    scale = min(width / max(columns, 1), height / max(rows, 1))
    if scale >= 1:
        return image
    size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def overlaid(image: Pixels, attention: NDArray[np.float64]) -> Pixels:
    """The image (H, W, 3) in gray, the map (h, w), scaled to its own maximum and enlarged, shining through in one color.

    A map without a positive finite value leaves the image as it is.
    """
    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    glow = np.nan_to_num(np.clip(attention, 0, None), nan=0.0, posinf=0.0)
    peak = float(glow.max(initial=0.0))
    if not rgb.size or not peak > 0:
        return rgb
    rows, columns = rgb.shape[:2]
    enlarged = cv2.resize(glow / peak, (columns, rows), interpolation=cv2.INTER_LINEAR)
    alpha = STRENGTH * np.clip(enlarged, 0, 1)[..., None]
    # The glow is the only color: in one of a photo it could not be told from what is there.
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float64)
    # Only the paper takes the color, so that the ink stays readable: dark ink is multiplied, light ink is screened.
    multiplied = gray * (1 - alpha * (1 - GLOW / 255))
    screened = 255 - (255 - gray) * (1 - alpha * GLOW / 255)
    mixed = multiplied if gray.mean() >= 128 else screened
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
