"""Drawing in the coordinates of a face: its middle is 0, 0, the chin is near 0, 1, the crown near 0, -1; x to the right."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

Color = tuple[float, float, float]
"""RGB, 0 to 255."""
Point = tuple[float, float]
Points = Sequence[Point] | np.ndarray
_SHIFT = 4  # fractional bits of the coordinates that OpenCV draws at
_ROUND = np.linspace(0, 2 * np.pi, 33)[:-1]


class Sketch:
    """A canvas uint8 (side, side, 3) and where the face lies on it: antialiased primitives, turned and moved with it."""

    def __init__(self, pixels: np.ndarray, center: tuple[float, float], unit: float, roll: float) -> None:
        """`unit` is half the height of the face in pixels, `roll` its rotation in radians."""
        self.pixels = pixels
        self._center = np.array(center)
        self.unit = unit
        cos, sin = np.cos(roll), np.sin(roll)
        self._turn = unit * np.array([[cos, sin], [-sin, cos]])

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        return np.rint((points @ self._turn + self._center) * (1 << _SHIFT)).astype(np.int32)

    def polygon(self, points: Points, color: Color) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.pixels, [self._fixed(np.asarray(points, np.float64))], color, cv2.LINE_AA, _SHIFT)

    def blob(self, points: Points, color: Color) -> None:
        """Fill a smooth shape through points (a closed Catmull-Rom curve)."""
        self.polygon(smooth(np.asarray(points, np.float64), closed=True), color)

    def ellipse(self, center: tuple[float, float], radii: tuple[float, float], color: Color) -> None:
        """Fill an ellipse."""
        self.polygon(np.stack([center[0] + radii[0] * np.cos(_ROUND), center[1] + radii[1] * np.sin(_ROUND)], axis=1), color)

    def line(self, points: Points, color: Color, width: float, closed: bool = False) -> None:
        """Draw a smooth line through points; `width` as all lengths, at least a pixel."""
        curve = smooth(np.asarray(points, np.float64), closed)
        thickness = max(1, round(width * self.unit))
        cv2.polylines(self.pixels, [self._fixed(curve)], closed, color, thickness, cv2.LINE_AA, _SHIFT)


def smooth(points: np.ndarray, closed: bool) -> np.ndarray:
    """Points (N, 2) of a Catmull-Rom curve through these points; two of them stay a straight line."""
    if len(points) < 3:
        return points
    around = np.concatenate([points[-1:], points, points[:2]]) if closed else np.concatenate([points[:1], points, points[-1:]])
    t = np.linspace(0, 1, 6)[:-1, None, None]
    a, b, c, d = around[:-3], around[1:-2], around[2:-1], around[3:]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def mixed(color: Color, other: Color, share: float) -> Color:
    """A color between two."""
    r, g, b = (x + (y - x) * share for x, y in zip(color, other, strict=True))
    return r, g, b


def shaded(color: Color, factor: float) -> Color:
    """A color, darker or lighter."""
    r, g, b = (min(255.0, x * factor) for x in color)
    return r, g, b
