"""Augmentation of an image as a function of (seed, epoch, id), so that it depends on nothing else."""

from __future__ import annotations

import functools
import zlib
from typing import Any

import cv2
import numpy as np

from data_pipeline.stream.config import Augmentation


def _light() -> list[Any]:
    import albumentations as A  # over a second, in every command if it stood above

    return [
        A.Affine(
            rotate=(-2, 2),
            shear={"x": (-6, 6), "y": (0, 0)},
            scale=(0.92, 1.0),
            translate_percent=(-0.01, 0.01),
            border_mode=cv2.BORDER_REPLICATE,
            p=0.5,
        ),
        A.RandomBrightnessContrast(brightness_limit=0.1, contrast_limit=0.15, p=0.4),
        A.GaussNoise(std_range=(0.01, 0.04), p=0.2),
    ]


def _strong() -> list[Any]:
    import albumentations as A

    return [
        A.Affine(
            rotate=(-4, 4),
            shear={"x": (-12, 12), "y": (-2, 2)},
            scale=(0.8, 1.0),
            translate_percent=(-0.02, 0.02),
            border_mode=cv2.BORDER_REPLICATE,
            p=0.7,
        ),
        A.ElasticTransform(alpha=12, sigma=5, border_mode=cv2.BORDER_REPLICATE, p=0.3),
        A.RandomBrightnessContrast(brightness_limit=0.2, contrast_limit=0.25, p=0.5),
        A.OneOf([A.GaussianBlur(blur_limit=(3, 3)), A.Morphological(scale=(2, 2), operation="erosion")], p=0.25),
        A.GaussNoise(std_range=(0.01, 0.06), p=0.3),
    ]


_PLANS = {"light": _light, "strong": _strong}


@functools.cache
def _pipeline(name: Augmentation) -> Any:
    import albumentations as A

    return A.Compose(_PLANS[name]())


def augment(pixels: np.ndarray, name: Augmentation, seed: int, epoch: int, sample_id: str) -> np.ndarray:
    """Augment a uint8 image (H, W[, 3]), keeping its size. The draw is made from (seed, epoch, sample_id) alone."""
    if name == "none":
        return pixels
    pipeline = _pipeline(name)
    key = np.random.SeedSequence([seed, epoch, zlib.crc32(sample_id.encode())]).generate_state(1)[0]
    pipeline.set_random_seed(int(key))
    return np.ascontiguousarray(pipeline(image=pixels)["image"])
