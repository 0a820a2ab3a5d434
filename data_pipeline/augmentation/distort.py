"""The step `distort`: what pens, paper and scanners do to writing.

An image is warped once (rotation, shear, scale, shift and elastic waves in one map), then blurred or thinned, then mapped
through one table (brightness, contrast), then given noise. Few calls, each of which lets go of the interpreter's lock:
threads decode and augment in parallel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from data_pipeline.augmentation.arguments import number, share
from data_pipeline.augmentation.operations import about_center, noisy, rotation, tones, warp
from data_pipeline.augmentation.step import Step

ELASTIC_CELL = 16  # pixels between two draws of the elastic field, which is smooth in between (Simard et al. 2003)


@dataclass(frozen=True)
class Distort(Step):
    """Distort writing: one warp (rotation, shear, scale, shift, elastic waves), blur or thinning, tone, noise.

    Each `p_` is the probability of a part. Angles in degrees; shift, brightness and noise as shares of size and of white.
    """

    name: ClassVar[str] = "distort"

    p_affine: float = share(0.5)
    rotate: float = number(2, 0, 180)
    shear_x: float = number(6, 0, 80)
    shear_y: float = number(0, 0, 80)
    scale: float = number(0.92, 0.01, 1)  # from this to 1
    shift: float = share(0.01)
    p_elastic: float = share(0.0)
    elastic: float = number(0.0, 0, 1000)  # pixels
    p_blur: float = share(0.0)
    p_tone: float = share(0.4)
    brightness: float = share(0.1)
    contrast: float = share(0.15)
    p_noise: float = share(0.2)
    noise: tuple[float, float] = number((0.01, 0.04), 0, 1)

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The distorted image."""
        # All at once, whether needed or not: what is drawn here does not depend on which parts are taken.
        chance, amount = rng.random(5), rng.uniform(-1, 1, 9)
        affine, elastic = chance[0] < self.p_affine, chance[1] < self.p_elastic
        if elastic:
            pixels = self._elastic(pixels, self._matrix(pixels, amount) if affine else np.eye(2, 3), rng)
        elif affine:
            pixels = warp(pixels, self._matrix(pixels, amount))
        if chance[2] < self.p_blur:
            pixels = cv2.GaussianBlur(pixels, (3, 3), 0) if amount[6] < 0 else cv2.erode(pixels, np.ones((2, 2), np.uint8))
        if chance[3] < self.p_tone:
            pixels = cv2.LUT(pixels, tones(1 + self.contrast * amount[7], 255 * self.brightness * amount[8]))
        if chance[4] < self.p_noise:
            pixels = noisy(pixels, 255 * rng.uniform(*self.noise), rng)
        return pixels

    def _matrix(self, pixels: np.ndarray, amount: np.ndarray) -> np.ndarray:
        """The affine map from each pixel of the result to its source, about the image's center: float64 (2, 3)."""
        height, width = pixels.shape[:2]
        angle, shear_x, shear_y = (math.radians(v) for v in amount[:3] * (self.rotate, self.shear_x, self.shear_y))
        scale = 1 - (1 - self.scale) * (amount[3] + 1) / 2
        linear = rotation(angle) @ np.array([[1, math.tan(shear_x)], [math.tan(shear_y), 1]]) / scale
        return about_center(pixels, linear, amount[4:6] * self.shift * (width, height))

    def _elastic(self, pixels: np.ndarray, matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        height, width = pixels.shape[:2]
        cells = (max(2, -(-height // ELASTIC_CELL)), max(2, -(-width // ELASTIC_CELL)))
        waves = rng.standard_normal((*cells, 2), dtype=np.float32) * np.float32(self.elastic)
        waves = cv2.resize(waves, (width, height), interpolation=cv2.INTER_CUBIC)
        x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
        m = matrix.astype(np.float32)
        map_x = waves[..., 0] + (m[0, 0] * x + m[0, 1] * y + m[0, 2])
        map_y = waves[..., 1] + (m[1, 0] * x + m[1, 1] * y + m[1, 2])
        return cv2.remap(pixels, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
