"""Steps that change the values of pixels where they are: brightness, blur, noise, colors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from data_pipeline.augmentation.arguments import number, share
from data_pipeline.augmentation.operations import noisy, tones
from data_pipeline.augmentation.step import RandomStep


@dataclass(frozen=True)
class BrightnessContrast(RandomStep):
    """Add up to the share `brightness` of white, and multiply by 1 plus or minus up to `contrast`."""

    name: ClassVar[str] = "brightness_contrast"

    brightness: float = share(0.2)
    contrast: float = share(0.2)

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image in other tones."""
        contrast, brightness = rng.uniform(-1, 1, 2) * (self.contrast, self.brightness)
        return cv2.LUT(pixels, tones(1 + contrast, 255 * brightness))


@dataclass(frozen=True)
class Blur(RandomStep):
    """Blur by a Gaussian whose deviation is drawn from `sigma`, in pixels."""

    name: ClassVar[str] = "blur"

    sigma: tuple[float, float] = number((0.3, 1.5), 0.01, 100)

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The blurred image."""
        return cv2.GaussianBlur(pixels, (0, 0), rng.uniform(*self.sigma))


@dataclass(frozen=True)
class Noise(RandomStep):
    """Add normal noise whose deviation is drawn from `deviation`, as a share of white."""

    name: ClassVar[str] = "noise"

    deviation: tuple[float, float] = number((0.01, 0.05), 0, 1)

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The noisy image."""
        return noisy(pixels, 255 * rng.uniform(*self.deviation), rng)


@dataclass(frozen=True)
class Invert(RandomStep):
    """Turn dark into light and light into dark."""

    name: ClassVar[str] = "invert"

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The negative."""
        return cv2.bitwise_not(pixels)


@dataclass(frozen=True)
class Grayscale(RandomStep):
    """Take the color away; three channels stay three, and a gray image stays as it is."""

    name: ClassVar[str] = "grayscale"

    p: float = share(0.1)

    def apply(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The image in gray."""
        return pixels if pixels.ndim == 2 else cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
