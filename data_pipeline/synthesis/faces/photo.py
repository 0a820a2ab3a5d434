"""Photo of a face: pose, expression, mask, background and light, which differ from photo to photo of a person."""

from __future__ import annotations

from zlib import crc32

import cv2
import numpy as np

from data_pipeline.synthesis.faces.attributes import Attributes
from data_pipeline.synthesis.faces.face import draw_back, draw_features, draw_glasses, draw_hair, draw_head, draw_mask
from data_pipeline.synthesis.faces.person import person_looks
from data_pipeline.synthesis.faces.sketch import Color, Sketch

_OVERSAMPLING = 2
_MASKS: tuple[Color, ...] = ((242, 244, 246), (150, 196, 226), (40, 42, 48), (236, 188, 200), (176, 180, 184), (120, 186, 170))
_FRAMES: tuple[Color, ...] = ((26, 24, 26), (92, 60, 36), (150, 152, 158))
# Upper edges of a mask: on the bridge of the nose; wrongly below the nose, or below the mouth.
_WORN, _BELOW_NOSE, _BELOW_MOUTH = (0.02, 0.12), (0.44, 0.5), (0.72, 0.78)


def draw_photo(seed: int, person: int, index: int, attributes: Attributes, side: int) -> np.ndarray:
    """Draw photo `index`, one of `person`: uint8 (side, side, 3) RGB, a function of the arguments alone."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, crc32(b"photo")]))
    looks = person_looks(seed, person, attributes["gender"], attributes["age"])
    large = side * _OVERSAMPLING
    canvas = _background(rng, large)
    center = large * (0.5 + rng.uniform(-0.05, 0.05)), large * (0.52 + rng.uniform(-0.05, 0.05))
    sketch = Sketch(canvas, center, large * rng.uniform(0.28, 0.34), float(np.deg2rad(rng.normal(0, 6))))
    yaw = rng.uniform(-0.14, 0.14)
    draw_back(sketch, looks, _any_color(rng))
    draw_head(sketch, looks)
    draw_features(sketch, looks, yaw, rng.uniform(-0.3, 1), rng.uniform(0, 1) * (rng.random() < 0.4), rng.uniform(-1, 1))
    if attributes["mask"] != "none":
        edges = _WORN if attributes["mask"] == "worn" else (_BELOW_NOSE if rng.random() < 0.6 else _BELOW_MOUTH)
        draw_mask(sketch, looks, yaw, rng.uniform(*edges), _MASKS[int(rng.integers(len(_MASKS)))])
    draw_glasses(sketch, looks, yaw, _FRAMES[int(rng.integers(len(_FRAMES)))])
    draw_hair(sketch, looks)
    small = cv2.resize(canvas, (side, side), interpolation=cv2.INTER_AREA)
    return _lit(rng, small)


def _any_color(rng: np.random.Generator) -> Color:
    r, g, b = rng.uniform(30, 230, 3).tolist()
    return r, g, b


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A wall with a gradient and a few blurred things on it."""
    corners = np.clip(rng.uniform(50, 220) + rng.normal(0, 35, 3) + rng.normal(0, 22, (2, 2, 3)), 0, 255).astype(np.uint8)
    canvas = cv2.resize(corners, (side, side), interpolation=cv2.INTER_LINEAR)
    for _ in range(int(rng.integers(0, 4))):
        (x, y), (width, height) = rng.integers(0, side, 2).tolist(), rng.integers(side // 8, side // 2, 2).tolist()
        cv2.rectangle(canvas, (x, y), (x + width, y + height), _any_color(rng), -1)
    return np.asarray(cv2.blur(canvas, (side // 16, side // 16)))


def _lit(rng: np.random.Generator, pixels: np.ndarray) -> np.ndarray:
    """Light from one side, a tint, the noise of a camera, and sometimes a picture that is out of focus."""
    side = len(pixels)
    if rng.random() < 0.2:
        pixels = cv2.GaussianBlur(pixels, (3, 3), 0)
    across = np.linspace(-1, 1, side, dtype=np.float32)
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.3)
    slope = np.float32(np.cos(angle)) * across[None, :] + np.float32(np.sin(angle)) * across[:, None]
    light = np.float32(rng.uniform(0.62, 1.12)) * (1 + np.float32(strength) * slope)
    tint = rng.normal(1, 0.05, 3).astype(np.float32)
    noise = rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(0.5, 8))
    return np.clip(pixels * light[:, :, None] * tint + noise + 0.5, 0, 255).astype(np.uint8)
