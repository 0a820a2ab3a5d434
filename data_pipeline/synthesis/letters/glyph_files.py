"""Glyphs that a user has: a folder with images of each letter, or a CSV."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.preparation.decoding import BadImage, decode
from data_pipeline.synthesis.letters.glyph_table import read_table
from data_pipeline.synthesis.letters.glyphs import GLYPH_SIDE, LETTERS, Glyphs, as_glyphs


def read_glyphs(path: Path) -> Glyphs:
    """Read all glyphs below a folder, or of a CSV; those that are dark on light are inverted, and counted.

    Raises:
        UserError: it is not there, or a row, an image or a letter is wrong or missing; the message names the first.
    """
    try:
        is_folder = path.is_dir()
        if not is_folder and not path.exists():
            raise UserError(f"No glyphs '{path}'. Give a folder with a subfolder for each letter, or a CSV.")
    except (OSError, ValueError) as error:
        raise UserError(f"Glyphs '{path}' cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    found = _read_folder(path) if is_folder else read_table(path)
    missing = [letter for letter in LETTERS if not found[letter]]
    if missing:
        raise UserError(f"Glyphs '{path}': none of the letters {', '.join(missing)}. All 26 are needed.")
    glyphs = as_glyphs({letter: np.stack(images) for letter, images in found.items()})
    borders = [glyphs.pixels[:, (0, -1)], glyphs.pixels[:, :, (0, -1)].swapaxes(1, 2)]
    dark = np.median(np.concatenate(borders, axis=1), axis=(1, 2)) > 127
    if dark.any():
        print(f"{int(dark.sum()):,} of {len(dark):,} glyphs are dark on a light border and were inverted")
    pixels = np.where(dark[:, None, None], 255 - glyphs.pixels, glyphs.pixels)
    blank = np.flatnonzero(pixels.max(axis=(1, 2)) == 0)
    if len(blank):
        letter = LETTERS[int(np.searchsorted(glyphs.starts, blank[0], "right")) - 1]
        raise UserError(f"Glyphs '{path}': {len(blank):,} are empty, the first of them of letter '{letter}'. Remove them.")
    return Glyphs(pixels, glyphs.starts)


def _read_folder(path: Path) -> dict[str, list[np.ndarray]]:
    glyphs: dict[str, list[np.ndarray]] = {letter: [] for letter in LETTERS}
    for folder in sorted(child for child in path.iterdir() if child.is_dir() and not child.name.startswith(".")):
        letter = folder.name.lower()
        if letter not in LETTERS:
            raise UserError(f"Glyphs '{path}': folder '{printable(folder.name)}' is not named by a letter, A to Z.")
        for file in sorted(folder.iterdir()):
            if not file.name.startswith("."):
                glyphs[letter].append(_read_image(file))
    return glyphs


def _read_image(file: Path) -> np.ndarray:
    try:
        pixels = decode(file.read_bytes(), "gray", background=0)
    except BadImage as reason:
        raise UserError(f"Glyph '{file}': {reason}. Remove or replace it.") from None
    except OSError as error:
        raise UserError(f"Glyph '{file}' cannot be read ({error.strerror or error}).") from None
    if pixels.shape == (GLYPH_SIDE, GLYPH_SIDE):
        return pixels
    return np.asarray(cv2.resize(pixels, (GLYPH_SIDE, GLYPH_SIDE), interpolation=cv2.INTER_AREA))
