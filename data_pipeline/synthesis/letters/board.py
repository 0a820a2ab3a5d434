"""One board of letters, as a function of a generator: noise, and letters added to it."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipeline.synthesis.letters.config import BOARD_SIDE, BoardConfig
from data_pipeline.synthesis.letters.glyphs import GLYPH_SIDE, LETTERS, Glyphs

_DIMMED = (0.3, 0.7)
_KERNELS = {size: cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)) for size in (2, 3)}
_LARGE = 2.0  # enlarged more than this, strokes are made thinner again
_TRIES = 64  # places that are tried for a letter that is to touch no other


def draw_board(rng: np.random.Generator, config: BoardConfig, glyphs: Glyphs) -> tuple[np.ndarray, list[int]]:
    """Draw a board, uint8 (256, 256); with the letters that are on it, by their places in the alphabet, in its order.

    As the winner of the competition drew them, with two steps that did nothing there: letters are dilated with a kernel of 2 or
    3 pixels (there always 1), and those enlarged more than twice, which default scales never do, are eroded with one of 3.
    """
    board = noise(rng, config.noise)
    count = int(rng.integers(config.min_letters, config.max_letters, endpoint=True))
    letters = rng.permutation(len(LETTERS))[:count].tolist()
    boxes: list[np.ndarray] = []
    for ink in draw_letters(rng, config, glyphs, letters):
        free = BOARD_SIDE + 1 - len(ink)
        if config.overlap:
            x, y = (int(value * free) for value in rng.random(2).tolist())
        else:
            x, y = _free_place(rng, ink, free, boxes)
        room = board[y : y + len(ink), x : x + len(ink)]
        cv2.add(room, ink, dst=room)  # which stops at 255
    return board, sorted(letters)


def noise(rng: np.random.Generator, largest: int) -> np.ndarray:
    """Noise uint8 (256, 256), each pixel 0 to `largest`, all equally likely; a quarter of the time that `integers` takes."""
    if not largest:
        return np.zeros((BOARD_SIDE, BOARD_SIDE), np.uint8)
    values = largest + 1
    words = rng.bit_generator.random_raw(BOARD_SIDE * BOARD_SIDE // 8)
    pixels = words.astype("<u8", copy=False).view(np.uint8)
    # Bytes above the last whole multiple of the number of values would make small values likelier: they are drawn again.
    again = np.flatnonzero(pixels >= 256 - 256 % values) if 256 % values else np.zeros(0, np.int64)
    if values <= 128:
        pixels %= np.uint8(values)
    pixels[again] = rng.integers(0, largest, len(again), np.uint8, endpoint=True)
    return pixels.reshape(BOARD_SIDE, BOARD_SIDE)


def draw_letters(rng: np.random.Generator, config: BoardConfig, glyphs: Glyphs, letters: list[int]) -> list[np.ndarray]:
    """Draw letters, each a uint8 square, white on black: a glyph made bright, turned, enlarged, and sometimes changed."""
    chosen, turn, grown, dimmed, dim, dilated, thick = rng.random((7, len(letters)))
    starts = np.array(glyphs.starts)
    picked = glyphs.pixels[(starts[letters] + chosen * (starts[1:] - starts[:-1])[letters]).astype(np.int64)]
    bright = np.minimum(picked, 127) * np.uint8(2) + (picked > 127)
    scale = config.min_scale + (config.max_scale - config.min_scale) * grown
    angle = np.deg2rad(config.rotation * (turn - 0.5))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    sides = np.ceil(GLYPH_SIDE * (np.abs(cos) + np.abs(sin))).astype(np.int64)
    # The middle of the glyph goes to the middle of a canvas that is large enough for its turned corners.
    middle, center = (GLYPH_SIDE - 1) / 2, (sides - 1) / 2
    moves = np.stack([cos, sin, center - (cos + sin) * middle, -sin, cos, center + (sin - cos) * middle], axis=1)
    changes = (scale > _LARGE, dilated < config.dilate, dimmed < config.dim)
    inks = []
    for place, (side, (large, thicker, darker)) in enumerate(zip(sides.tolist(), np.array(changes).T.tolist(), strict=True)):
        ink = cv2.warpAffine(bright[place], moves[place].reshape(2, 3), (side, side), flags=cv2.INTER_LINEAR)
        if large:
            ink = cv2.erode(ink, _KERNELS[3])
        if thicker:
            ink = cv2.dilate(ink, _KERNELS[2 if thick[place] < 0.5 else 3])
        if darker:
            ink = cv2.convertScaleAbs(ink, alpha=_DIMMED[0] + (_DIMMED[1] - _DIMMED[0]) * dim[place])
        inks.append(ink)
    return inks


def _free_place(rng: np.random.Generator, ink: np.ndarray, free: int, boxes: list[np.ndarray]) -> tuple[int, int]:
    """The first of the tried places at which the letter's box covers nothing of the others', or else the one that covers least.

    The letter's box is added to `boxes`: left, top, right and bottom of what is to be seen of it.
    """
    places = (rng.random((_TRIES, 2)) * free).astype(np.int64)
    left, top, width, height = cv2.boundingRect(ink)
    covered = np.zeros(_TRIES, np.int64)
    low = places + np.array([left, top])
    high = low + np.array([width, height])
    for box in boxes:
        shared = np.minimum(high, box[2:]) - np.maximum(low, box[:2])
        covered += np.maximum(shared[:, 0], 0) * np.maximum(shared[:, 1], 0)
    chosen = int(np.argmin(covered))
    boxes.append(np.concatenate([low[chosen], high[chosen]]))
    x, y = places[chosen].tolist()
    return x, y
