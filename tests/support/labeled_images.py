"""Small image files and tables of labels for tests of the importers, each image of another noise."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_pipeline.preparation.images import encode_jpeg, encode_png


def noise(name: str, height: int = 20, width: int = 30, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, shape, np.uint8)


def write_images(folder: Path, names: Iterable[str], height: int = 20, width: int = 30, channels: int = 3) -> Path:
    """An image file for each name, which may have folders; `.jpg` is JPEG, everything else PNG."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        encode = encode_jpeg if path.suffix == ".jpg" else encode_png
        path.write_bytes(encode(noise(name, height, width, channels)))
    return folder
