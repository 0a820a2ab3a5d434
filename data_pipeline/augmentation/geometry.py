"""Steps that move pixels: turns, flips, shifts, crops, and holes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from data_pipeline.augmentation.arguments import number, share
from data_pipeline.augmentation.operations import Border, about_center, rotation, warp
from data_pipeline.augmentation.step import RandomStep, Step


@dataclass(frozen=True)
class Rotate(RandomStep):
    """Turn by up to `degrees` to either side; what lies outside of the image is its `border`."""

    name: ClassVar[str] = "rotate"

    degrees: float = number(15, 0, 180)
    border: Border = "replicate"

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The turned image."""
        angle = math.radians(self.degrees * rng.uniform(-1, 1))
        return warp(pixels, about_center(pixels, rotation(angle), np.zeros(2)), self.border)


@dataclass(frozen=True)
class Rotate90(RandomStep):
    """Turn by 0, 90, 180 or 270 degrees; an image that is not square by 0 or 180, as its size stays."""

    name: ClassVar[str] = "rotate_90"

    p: float = share(1.0)

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The turned image."""
        turns = int(rng.integers(4))
        if pixels.shape[0] != pixels.shape[1]:
            turns -= turns % 2
        return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


@dataclass(frozen=True)
class Flip(Step):
    """Mirror left to right with probability `horizontal`, then top to bottom with probability `vertical`."""

    name: ClassVar[str] = "flip"

    horizontal: float = share(0.5)
    vertical: float = share(0.0)

    def __call__(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The mirrored image."""
        horizontal, vertical = rng.random(2) < (self.horizontal, self.vertical)
        return np.ascontiguousarray(pixels[:: -1 if vertical else 1, :: -1 if horizontal else 1])


@dataclass(frozen=True)
class ShiftScaleRotate(RandomStep):
    """Shift by a share of the size, enlarge or shrink by the share `scale`, and turn by up to `degrees`, in one warp."""

    name: ClassVar[str] = "shift_scale_rotate"

    shift: float = share(0.0625)
    scale: float = number(0.1, 0, 0.9)
    degrees: float = number(15, 0, 180)
    border: Border = "replicate"

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The warped image."""
        amount = rng.uniform(-1, 1, 4)
        linear = rotation(math.radians(self.degrees * amount[0])) / (1 + self.scale * amount[1])
        shift = amount[2:] * self.shift * (pixels.shape[1], pixels.shape[0])
        return warp(pixels, about_center(pixels, linear, shift), self.border)


@dataclass(frozen=True)
class RandomResizedCrop(RandomStep):
    """Cut out a random part, of a share `area` of the image, and enlarge it to the image's size (Szegedy et al. 2015).

    `ratio` is how much wider than high the part is, relative to the image itself.
    """

    name: ClassVar[str] = "random_resized_crop"

    p: float = share(1.0)
    area: tuple[float, float] = number((0.5, 1.0), 0.001, 1)
    ratio: tuple[float, float] = number((0.75, 4 / 3), 0.1, 10)

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The part in the size of the whole."""
        height, width = pixels.shape[:2]
        area, ratio = rng.uniform(*self.area), math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        sides = [min(1.0, math.sqrt(area / ratio)), min(1.0, math.sqrt(area * ratio))]
        high, wide = max(1, round(height * sides[0])), max(1, round(width * sides[1]))
        place = rng.random(2)
        top, left = int(place[0] * (height - high + 1)), int(place[1] * (width - wide + 1))
        part = pixels[top : top + high, left : left + wide]
        return cv2.resize(np.ascontiguousarray(part), (width, height), interpolation=cv2.INTER_LINEAR)


@dataclass(frozen=True)
class Cutout(RandomStep):
    """Paint over `holes` rectangles, each a share `size` of both sides, with the gray level `fill` (DeVries & Taylor 2017).

    A hole's center is anywhere in the image: at a border a part of it is outside.
    """

    name: ClassVar[str] = "cutout"

    holes: int = number(1, 1, 1000)
    size: float = number(0.3, 0.001, 1)
    fill: int = number(0, 0, 255)

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image with holes."""
        pixels = pixels.copy()
        extent = np.array(pixels.shape[:2])
        sides = np.maximum(1, np.rint(extent * self.size)).astype(int)
        for center in (rng.random((self.holes, 2)) * extent).astype(int):
            top, left = np.maximum(0, center - sides // 2)
            bottom, right = center - sides // 2 + sides
            pixels[top:bottom, left:right] = self.fill
        return pixels
