"""Rendering of pen strokes: black on white, drawn large and averaged down."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from cluster.errors import UserError

MARGIN = 8
"""White pixels on each side of the ink."""

PEN_RANGE = (1.4, 4.5)
"""The minimum and maximum width of the pen in pixels."""

_OVERSAMPLING = 4
_PEN_SHARE = 0.075  # of the median stroke's size
_DOT_SIZE = 0.05  # of the ink's height: smaller strokes are dots and say nothing about the size of the writing
_FLATTEST = 0.5  # the minimum height of the ink, in median strokes
_MIN_SIZE = 1e-9  # in the file's units: what is smaller is one point
_DOT_SHARE = 1.5  # diameter of a single-point stroke, in pens
_SUBPIXEL_BITS = 4


def render_ink(
    strokes: Sequence[np.ndarray], max_height: int = 128, max_width: int = 1024, stroke_size: float | None = None
) -> np.ndarray:
    """Draw ink as large as fits into the limits at its own aspect ratio, whatever its units.

    With `stroke_size` (pixels) it is drawn so that the median stroke is as large as that, if it fits: symbols are then of one
    size in all images, and a formula of several lines is higher than one of one line.

    Ink that is flat beside the length of its strokes (a lone minus, a fraction bar, a row of dots) gets white above and
    below, as if it were half as high as such a stroke is long, so that it is not drawn as large as the limits allow.

    Args:
        strokes: arrays (n, 2) of x, y with y down, as `read_inkml` gives them; at least one point in all.
        max_height, max_width: limits in pixels, margins included.
        stroke_size: of the median stroke in pixels; None: as large as fits.

    Returns:
        uint8 (H, W), 0 where the pen was and 255 elsewhere, H <= max_height and W <= max_width.

    Raises:
        UserError: limits that leave no room between the margins.
        ValueError: no points.
    """
    if min(max_height, max_width) <= 2 * MARGIN:
        raise UserError(f"an ink image needs more than {2 * MARGIN} pixels each way, not {max_height} x {max_width}")
    strokes = [stroke for stroke in strokes if len(stroke)]
    if not strokes:
        raise ValueError("no points to draw")
    points = np.concatenate(strokes)
    low, (width, height) = points.min(axis=0), np.ptp(points, axis=0)
    sizes = [float(np.ptp(stroke, axis=0).max()) for stroke in strokes]
    writing = [size for size in sizes if size > _DOT_SIZE * height]
    median = max(float(np.median(writing)) if writing else max(width, height), _MIN_SIZE)
    box_height = max(height, _FLATTEST * median)

    room_width, room_height = max_width - 2 * MARGIN, max_height - 2 * MARGIN
    scale = min(room_height / box_height, room_width / max(width, _MIN_SIZE))
    if stroke_size is not None:
        scale = min(scale, stroke_size / median)
    image_width = min(math.ceil(width * scale - 1e-6), room_width) + 2 * MARGIN
    image_height = min(math.ceil(box_height * scale - 1e-6), room_height) + 2 * MARGIN
    corner = (np.array([image_width, image_height]) - np.array([width, height]) * scale) / 2

    pen = min(max(_PEN_SHARE * median * scale, PEN_RANGE[0]), PEN_RANGE[1])
    return _draw([(stroke - low) * scale + corner for stroke in strokes], image_height, image_width, pen)


def _draw(strokes: list[np.ndarray], height: int, width: int, pen: float) -> np.ndarray:
    """Strokes in pixels of the image, drawn with a round pen of that many pixels: uint8 (height, width)."""
    canvas = np.full((height * _OVERSAMPLING, width * _OVERSAMPLING), 255, np.uint8)
    one = 1 << _SUBPIXEL_BITS
    thickness = round(pen * _OVERSAMPLING)
    for stroke in strokes:
        # OpenCV counts from the center of the first pixel.
        positions = np.rint((stroke * _OVERSAMPLING - 0.5) * one).astype(np.int32)
        cells = positions >> _SUBPIXEL_BITS
        moved = np.ones(len(cells), bool)
        moved[1:] = (cells[1:] != cells[:-1]).any(axis=1)
        positions = positions[moved]
        if len(positions) == 1:
            radius = round(pen * _OVERSAMPLING * _DOT_SHARE / 2 * one)
            cv2.circle(canvas, positions[0].tolist(), radius, 0, cv2.FILLED, cv2.LINE_8, _SUBPIXEL_BITS)
        else:
            cv2.polylines(canvas, [positions[:, None]], False, 0, thickness, cv2.LINE_8, _SUBPIXEL_BITS)
    return cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA)
