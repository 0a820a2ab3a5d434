"""Operations on the pixels of one image, uint8 (H, W[, 3]), that steps share; each lets go of the interpreter's lock."""

from __future__ import annotations

import functools
import math
from typing import Literal

import cv2
import numpy as np

NOISE_VALUES = 2**20  # of the field that noise is cut from

Border = Literal["replicate", "reflect", "black", "white"]  # what lies outside of an image
_BORDERS = {
    "replicate": (cv2.BORDER_REPLICATE, 0),
    "reflect": (cv2.BORDER_REFLECT_101, 0),
    "black": (cv2.BORDER_CONSTANT, 0),
    "white": (cv2.BORDER_CONSTANT, 255),
}


def rotation(angle: float) -> np.ndarray:
    """The matrix (2, 2) that turns by `angle` radians."""
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def about_center(pixels: np.ndarray, linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The affine map (2, 3) that is `linear` (2, 2) about the center of the image and moves by `shift` pixels (x, y)."""
    height, width = pixels.shape[:2]
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    return np.column_stack([linear, center + shift - linear @ center])


def warp(pixels: np.ndarray, matrix: np.ndarray, border: Border = "replicate") -> np.ndarray:
    """Warp by the affine map (2, 3) from each pixel of the result to its source; the size stays."""
    mode, value = _BORDERS[border]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, matrix, pixels.shape[1::-1], flags=flags, borderMode=mode, borderValue=(value,) * 3)


def tones(contrast: float, brightness: float) -> np.ndarray:
    """The table of 256 values by which `cv2.LUT` multiplies by `contrast`, then adds `brightness`."""
    return np.clip(np.arange(256) * contrast + brightness, 0, 255).astype(np.uint8)


@functools.cache
def _noise_field() -> np.ndarray:
    return np.random.Generator(np.random.PCG64(0)).standard_normal(NOISE_VALUES, dtype=np.float32)


def noisy(pixels: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise: a random stretch of a field drawn once, since drawing it for each image took half of all the time."""
    if pixels.size < NOISE_VALUES:
        start = int(rng.integers(NOISE_VALUES - pixels.size))
        noise = _noise_field()[start : start + pixels.size].reshape(pixels.shape)
    else:
        noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    # numpy's product: OpenCV's takes 4 rows of 1 pixel for a color.
    return cv2.add(pixels, noise * np.float32(deviation), dtype=cv2.CV_8U)
