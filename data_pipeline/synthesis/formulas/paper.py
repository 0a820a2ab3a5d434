"""Ink on paper: an RGB image from a map of how much ink is where."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Coverage = NDArray[np.float32]
"""(H, W), 0 bare paper to 1 full ink."""
Image = NDArray[np.uint8]
"""(H, W, 3) RGB."""
Color = tuple[float, float, float]


def rulings(height: int, width: int, pitch: float, offset: float, columns: bool) -> Coverage:
    """Thin printed lines at every `pitch` pixels, across and, for squared paper, down; as coverage."""
    lines = np.zeros((height, width), np.float32)
    lines[np.arange(offset, height, pitch).astype(np.int64)] = 1.0
    if columns:
        lines[:, np.arange(offset, width, pitch).astype(np.int64)] = 1.0
    return lines


def shadow(height: int, width: int, angle: float, strength: float) -> Coverage:
    """Light that fades evenly across the page towards an angle: a factor from 1 down to 1 - strength."""
    across = np.linspace(-0.5, 0.5, width, dtype=np.float32) * np.float32(np.cos(angle))
    down = np.linspace(-0.5, 0.5, height, dtype=np.float32) * np.float32(np.sin(angle))
    reach = abs(float(np.cos(angle))) + abs(float(np.sin(angle)))
    depth = (down[:, None] + across[None, :]) / np.float32(reach) + np.float32(0.5)
    return np.asarray(1 - np.float32(strength) * depth, np.float32)


def ink_on_paper(coverage: Coverage, ink: Color, paper: Image | Color, light: Coverage, noise: Coverage) -> Image:
    """Lay ink of one color on paper, light it, and add the camera's noise (gray levels, (H, W)) to all channels."""
    ground = np.asarray(paper, np.float32)
    mixed = ground + coverage[:, :, None] * (np.asarray(ink, np.float32) - ground)
    lit = mixed * light[:, :, None] + noise[:, :, None]
    return np.clip(lit + 0.5, 0, 255).astype(np.uint8)
