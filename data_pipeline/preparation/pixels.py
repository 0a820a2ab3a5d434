"""Conversion of an image opened by Pillow to uint8 pixels: every kind of sample, transparency and orientation."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from PIL import Image

_ORIENTATION = 0x0112  # of EXIF and of TIFF
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # of TIFF
PNG = b"\x89PNG\r\n\x1a\n"


class UnusablePixels(ValueError):
    """Samples that have no meaning as brightness, with the reason."""


def to_uint8(image: Image.Image, data: bytes | memoryview, color: Literal["gray", "rgb"], background: int) -> np.ndarray:
    """The pixels of `image`, which was opened from `data`, upright, what is transparent laid on the gray level `background`.

    Returns:
        uint8 (H, W) for gray, (H, W, 3) for rgb.

    Raises:
        UnusablePixels: floats or integers in no known range, NaN or infinity among them.
        Exception: whatever Pillow raises where the image is damaged.
    """
    orientation = _orientation(image)
    if color == "gray" and image.format in ("JPEG", "MPO") and image.mode == "RGB":
        image.draft("L", image.size)  # the brightness that is stored, without the way through RGB
    image.load()
    alpha = _alpha(image, data)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = _scaled(image)
    elif image.mode in ("LA", "La"):
        pixels = np.array(image.convert("LA").getchannel("L"))
    elif image.mode in ("1", "L"):
        pixels = np.array(image.convert("L"))
    else:
        pixels = np.array(_straight(image).convert("RGB"))
    if alpha is not None:
        pixels = _laid_on(background, pixels, alpha)
    if color == "gray" and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    elif color == "rgb" and pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return np.ascontiguousarray(_upright(pixels, orientation))


def _straight(image: Image.Image) -> Image.Image:
    """Remove transparency of a kind that `convert` would turn into something else than a channel."""
    if image.mode == "RGBa":
        return image.convert("RGBA")
    if "transparency" in image.info and image.mode in ("RGB", "P"):
        image = image.copy()
        del image.info["transparency"]
    return image


def _alpha(image: Image.Image, data: bytes | memoryview) -> np.ndarray | None:
    """The opacity of each pixel, uint8 (H, W); None where all are opaque."""
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        return np.array(image.getchannel("A" if image.mode in ("RGBA", "LA", "PA") else "a"))
    if not image.has_transparency_data:
        return None
    if bytes(data[:8]) == PNG and data[25] in (0, 2):
        return _transparent_value(image, data, depth=data[24])
    return np.array(image.convert("RGBA").getchannel("A"))


def _transparent_value(image: Image.Image, data: bytes | memoryview, depth: int) -> np.ndarray:
    """Opacity of a PNG, gray or RGB, of `depth` bits, of which one value is transparent. Pillow compares that value with
    samples that are scaled already, and of 16-bit colors with one byte of them.
    """
    largest = 2**depth - 1
    value = np.array(image.info["transparency"]) & largest
    if image.mode == "RGB" and depth == 16:
        samples = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        return (np.asarray(samples)[..., 3] >> 8).astype(np.uint8)
    if image.mode == "RGB":
        same = (np.array(image) == value).all(axis=2)
    elif depth < 8:
        same = np.array(image.convert("L")) == value * (255 // largest)
    else:
        same = np.array(image) == value
    return np.where(same, np.uint8(0), np.uint8(255))


def _scaled(image: Image.Image) -> np.ndarray:
    """Scale samples of more than 8 bits to uint8."""
    samples = np.asarray(image)
    tiff = getattr(image, "tag_v2", {})
    if image.mode == "F":
        if not np.isfinite(samples).all():
            raise UnusablePixels("holds NaN or infinite samples")
        largest = _range_of(samples, (1, 255), "floats")
    elif image.mode == "I" and image.format != "PPM":
        largest = _range_of(samples, (255, 65535), "integers")
    else:
        largest = 2 ** int(tiff[_BITS_PER_SAMPLE][0]) - 1 if _BITS_PER_SAMPLE in tiff else 65535
    scaled = samples.astype(np.float32)
    scaled *= np.float32(255 / largest)
    pixels = np.rint(scaled, out=scaled).clip(0, 255, out=scaled).astype(np.uint8)
    # White is zero: Pillow inverts samples of 8 bits only.
    return 255 - pixels if tiff.get(_PHOTOMETRIC) == 0 else pixels


def _range_of(samples: np.ndarray, largest: tuple[int, ...], kind: str) -> int:
    """The smallest of the ranges 0..`largest` that holds all samples."""
    low, high = samples.min(), samples.max()
    fitting = [maximum for maximum in largest if high <= maximum]
    if low < 0 or not fitting:
        ranges = " or ".join(f"0 to {maximum}" for maximum in largest)
        raise UnusablePixels(f"holds {kind} from {low:g} to {high:g}, of which white is unknown; save it with samples {ranges}")
    return fitting[0]


def _laid_on(background: int, pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay pixels (H, W[, 3]) of the opacity `alpha` on one gray level."""
    layer = Image.fromarray(pixels)
    paper = Image.new(layer.mode, layer.size, background if layer.mode == "L" else (background,) * 3)
    paper.paste(layer, mask=Image.fromarray(alpha))
    return np.array(paper)


def _orientation(image: Image.Image) -> int:
    """The orientation, 1 to 8 as in EXIF. Pillow itself turns a TIFF upright."""
    if image.format == "TIFF":
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF says nothing of the pixels
        return 1


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror pixels as an EXIF orientation asks for."""
    if orientation in (5, 6, 7, 8):
        pixels = np.swapaxes(pixels, 0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
