"""Augmentation of an image as a function of (seed, epoch, id), so that it depends on nothing else.

An image is warped once (rotation, shear, scale, shift and elastic waves in one map), then blurred or thinned, then mapped
through one table (brightness, contrast), then given noise. Few calls, each of which lets go of the interpreter's lock:
threads decode and augment in parallel.
"""

from __future__ import annotations

import functools
import math
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from data_pipeline.augmentation.config import Augmentation

NOISE_VALUES = 2**20  # of the field that noise is cut from
ELASTIC_CELL = 16  # pixels between two draws of the elastic field, which is smooth in between (Simard et al. 2003)


@dataclass(frozen=True)
class _Strength:
    """Probabilities (`p_`) and ranges of an augmentation. Angles in degrees; shift and noise as shares of size and white."""

    p_affine: float
    rotate: float
    shear_x: float
    shear_y: float
    scale: float  # from this to 1
    shift: float
    p_elastic: float
    elastic: float  # pixels
    p_blur: float
    p_tone: float
    brightness: float
    contrast: float
    p_noise: float
    noise: tuple[float, float]


_STRENGTHS = {
    "light": _Strength(0.5, 2, 6, 0, 0.92, 0.01, 0.0, 0.0, 0.0, 0.4, 0.1, 0.15, 0.2, (0.01, 0.04)),
    "strong": _Strength(0.7, 4, 12, 2, 0.8, 0.02, 0.3, 1.5, 0.25, 0.5, 0.2, 0.25, 0.3, (0.01, 0.06)),
}


def augment(pixels: np.ndarray, name: Augmentation, seed: int, epoch: int, sample_id: str) -> np.ndarray:
    """Augment a uint8 image (H, W[, 3]), keeping its size. The draw is made from (seed, epoch, sample_id) alone."""
    if name == "none":
        return pixels
    strength = _STRENGTHS[name]
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, zlib.crc32(sample_id.encode())])))
    # All at once, whether needed or not: what is drawn here does not depend on which steps are taken.
    chance, amount = rng.random(5), rng.uniform(-1, 1, 9)
    affine, elastic = chance[0] < strength.p_affine, chance[1] < strength.p_elastic
    if elastic:
        pixels = _elastic(pixels, _matrix(pixels, strength, amount) if affine else np.eye(2, 3), strength, rng)
    elif affine:
        pixels = _warp(pixels, _matrix(pixels, strength, amount))
    if chance[2] < strength.p_blur:
        pixels = cv2.GaussianBlur(pixels, (3, 3), 0) if amount[6] < 0 else cv2.erode(pixels, np.ones((2, 2), np.uint8))
    if chance[3] < strength.p_tone:
        pixels = cv2.LUT(pixels, _tones(1 + strength.contrast * amount[7], 255 * strength.brightness * amount[8]))
    if chance[4] < strength.p_noise:
        pixels = _noisy(pixels, 255 * rng.uniform(*strength.noise), rng)
    return pixels


def _matrix(pixels: np.ndarray, strength: _Strength, amount: np.ndarray) -> np.ndarray:
    """The affine map from each pixel of the result to its source, about the image's center: float64 (2, 3)."""
    height, width = pixels.shape[:2]
    angle, shear_x, shear_y = (math.radians(v) for v in amount[:3] * (strength.rotate, strength.shear_x, strength.shear_y))
    scale = 1 - (1 - strength.scale) * (amount[3] + 1) / 2
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    linear = rotation @ np.array([[1, math.tan(shear_x)], [math.tan(shear_y), 1]]) / scale
    center = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = amount[4:6] * strength.shift * (width, height)
    return np.column_stack([linear, center + shift - linear @ center])


def _warp(pixels: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(pixels, matrix, pixels.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _elastic(pixels: np.ndarray, matrix: np.ndarray, strength: _Strength, rng: np.random.Generator) -> np.ndarray:
    height, width = pixels.shape[:2]
    cells = (max(2, -(-height // ELASTIC_CELL)), max(2, -(-width // ELASTIC_CELL)))
    waves = rng.standard_normal((*cells, 2), dtype=np.float32) * np.float32(strength.elastic)
    waves = cv2.resize(waves, (width, height), interpolation=cv2.INTER_CUBIC)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    m = matrix.astype(np.float32)
    map_x = waves[..., 0] + (m[0, 0] * x + m[0, 1] * y + m[0, 2])
    map_y = waves[..., 1] + (m[1, 0] * x + m[1, 1] * y + m[1, 2])
    return cv2.remap(pixels, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _tones(contrast: float, brightness: float) -> np.ndarray:
    return np.clip(np.arange(256) * contrast + brightness, 0, 255).astype(np.uint8)


@functools.cache
def _noise_field() -> np.ndarray:
    return np.random.Generator(np.random.PCG64(0)).standard_normal(NOISE_VALUES, dtype=np.float32)


def _noisy(pixels: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    """Add normal noise: a random stretch of a field drawn once, since drawing it for each image took half of all the time."""
    if pixels.size < NOISE_VALUES:
        start = int(rng.integers(NOISE_VALUES - pixels.size))
        noise = _noise_field()[start : start + pixels.size].reshape(pixels.shape)
    else:
        noise = rng.standard_normal(pixels.shape, dtype=np.float32)
    # numpy's product: OpenCV's takes 4 rows of 1 pixel for a color.
    return cv2.add(pixels, noise * np.float32(deviation), dtype=cv2.CV_8U)
