"""Many images at a glance: a sheet of small pictures with captions, for looking at a dataset."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

TILE_WIDTH = 240
IMAGE_HEIGHT = 96
GAP = 10
FONT_SIZE = 12
LINE_HEIGHT = 15
MAX_LINES = 3
GROUND, CARD, INK, FRAME = (246, 247, 249), (255, 255, 255), (31, 36, 48), (217, 221, 229)


def contact_sheet(images: Sequence[NDArray[np.uint8]], captions: Sequence[str], columns: int = 6) -> NDArray[np.uint8]:
    """An RGB sheet (H, W, 3) of images (h, w), (h, w, 1) or (h, w, 3), uint8, in rows of `columns`.

    Each keeps its proportions and is enlarged at most twice; a long caption is wrapped and cut. No images give an empty
    sheet. Raises ValueError for another type or shape of image, and when there is not a caption for each.
    """
    if len(images) != len(captions):
        raise ValueError(f"{len(images)} images and {len(captions)} captions: one caption for each image is needed")
    if columns < 1:
        raise ValueError(f"a sheet of {columns} columns: at least one is needed")
    font = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSansMono.ttf"), FONT_SIZE)
    characters = int((TILE_WIDTH - 2 * GAP) / font.getlength("0"))
    texts = [_wrapped(caption, characters) for caption in captions]
    columns = max(1, min(columns, len(images)))
    rows = [range(start, min(start + columns, len(images))) for start in range(0, len(images), columns)]
    heights = [3 * GAP + IMAGE_HEIGHT + LINE_HEIGHT * max(len(texts[index]) for index in row) for row in rows]
    width = GAP + columns * (TILE_WIDTH + GAP)
    sheet = Image.new("RGB", (width, GAP + sum(heights) + GAP * len(rows)), GROUND)
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, height in zip(rows, heights, strict=True):
        for column, index in enumerate(row):
            left = GAP + column * (TILE_WIDTH + GAP)
            draw.rounded_rectangle((left, top, left + TILE_WIDTH - 1, top + height - 1), 6, fill=CARD, outline=FRAME)
            picture = _fitted(images[index], index)
            x = left + (TILE_WIDTH - picture.width) // 2
            sheet.paste(picture, (x, top + GAP + (IMAGE_HEIGHT - picture.height) // 2))
            for line, text in enumerate(texts[index]):
                draw.text((left + GAP, top + 2 * GAP + IMAGE_HEIGHT + line * LINE_HEIGHT), text, fill=INK, font=font)
        top += height + GAP
    return np.asarray(sheet)


def _fitted(image: NDArray[np.uint8], index: int) -> Image.Image:
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ValueError(f"image {index} is {image.dtype} of shape {image.shape}: wanted uint8, (h, w) or (h, w, 3)")
    if not image.size:
        return Image.new("RGB", (1, 1), CARD)
    pixels = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    scale = min((TILE_WIDTH - 2 * GAP) / picture.width, IMAGE_HEIGHT / picture.height, 2.0)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def _wrapped(text: str, width: int) -> list[str]:
    """At most MAX_LINES lines of `width` characters, broken at blanks where there are any; an ellipsis where text is cut."""
    lines = [""]
    for word in "".join(c if c.isprintable() else " " for c in text).split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
        while len(lines[-1]) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    if len(lines) > MAX_LINES:
        lines = [*lines[: MAX_LINES - 1], lines[MAX_LINES - 1][: width - 1] + "…"]
    return lines
