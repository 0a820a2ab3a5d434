"""Analysis of ink on paper: which of them is lighter, and how large the writing is."""

from __future__ import annotations

import cv2
import numpy as np

from data_pipeline.dataset.image_policy import Invert

_LONGEST = 512  # pixels of the longer side at which an image is looked at
_BACKGROUND = 0.25  # side of the square, in shorter sides, whose median is the paper behind a stroke
_LEAST_CONTRAST = 25  # gray levels between ink and paper: with less there is nothing to tell
_SKEWNESS = 2.0  # of what is lighter or darker than the paper behind it
_DOT = 0.1  # of the ink's height: what is lower is a dot, a bar or dust, and says nothing about the size of the writing


def orient(pixels: np.ndarray, mode: Invert) -> tuple[np.ndarray, bool]:
    """Return an image uint8 (H, W[, 3]) as dark ink on light paper, and whether it was inverted for that.

    `auto` inverts what `is_light_on_dark`; `always` and `never` do not look.
    """
    if mode == "never" or (mode == "auto" and not is_light_on_dark(pixels)):
        return pixels, False
    return 255 - pixels, True


def inverted_line(inverted: int, images: int, mode: Invert) -> str:
    """The line of a log about inverted images."""
    return f"{inverted:,} of {images:,} images are light ink on dark paper and were inverted (image.invert={mode})"


def is_light_on_dark(pixels: np.ndarray) -> bool:
    """Whether an image uint8 (H, W[, 3]) shows light ink on dark paper. In doubt it does not.

    Three things have to say so: the median of the outermost pixels and that of all pixels are nearer to the darkest than to the
    lightest, and what differs from the paper just behind it, a local median, is lighter. The border alone is wrong where light
    falls off to the sides of a photo or paper lies on a dark table, the last alone where strokes fill a tightly cut image.
    """
    gray = _small(_gray(pixels), _LONGEST)[0]
    low, high = np.percentile(gray, [0.2, 99.8])
    middle = (low + high) / 2
    if high - low < _LEAST_CONTRAST or np.median(_border(gray)) >= middle or np.median(gray) >= middle:
        return False
    difference = gray.astype(np.float32) - _paper(gray)
    spread = float(difference.std())
    return spread > 0 and float((difference**3).mean()) / spread**3 > _SKEWNESS


def ink_size(pixels: np.ndarray) -> float:
    """The size of dark writing on an image uint8 (H, W[, 3]): the median height in pixels of its connected strokes.

    It grows with the resolution alone, so two images of which it is known can be brought to one size. 0 where there is no ink,
    or nothing but dots and bars.
    """
    gray, scale = _small(_gray(pixels), 2 * _LONGEST)
    depth = np.clip(_paper(gray).astype(np.int16) - gray, 0, 255).astype(np.uint8)
    if float(np.percentile(depth, 99.8)) < _LEAST_CONTRAST:
        return 0.0
    _, ink = cv2.threshold(depth, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    _, _, boxes, _ = cv2.connectedComponentsWithStats(ink, connectivity=8)
    rows = np.nonzero(ink.any(axis=1))[0]
    heights = boxes[1:, cv2.CC_STAT_HEIGHT]
    heights = heights[heights > max(2.0, _DOT * float(np.ptp(rows) + 1))]
    return float(np.median(heights)) / scale if len(heights) else 0.0


def _gray(pixels: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels


def _small(gray: np.ndarray, longest: int) -> tuple[np.ndarray, float]:
    """Shrink the image so that no side is longer than `_LONGEST`; with the scale."""
    height, width = gray.shape
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return (cv2.resize(gray, size, interpolation=cv2.INTER_AREA) if scale < 1 else gray), scale


def _border(gray: np.ndarray) -> np.ndarray:
    """The pixels of the border, a fiftieth of the shorter side on each side."""
    thick = max(1, round(min(gray.shape) / 50))
    return np.concatenate([part.ravel() for part in (gray[:thick], gray[-thick:], gray[:, :thick], gray[:, -thick:])])


def _paper(gray: np.ndarray) -> np.ndarray:
    """The gray level behind the strokes at each pixel: a local median, which keeps the edge of a sheet where it is."""
    side = max(3, int(min(gray.shape) * _BACKGROUND)) | 1
    framed = cv2.copyMakeBorder(gray, side, side, side, side, cv2.BORDER_REPLICATE)
    return cv2.medianBlur(framed, side)[side:-side, side:-side]
