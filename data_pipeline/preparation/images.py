"""Preparation of images: sizes checked before a pixel is decoded, and fitted once to a dataset's image policy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.preparation.decoding import MAX_PIXELS, BadImage, decode, page_count
from data_pipeline.preparation.ink import ink_size, orient

__all__ = ["MAX_PIXELS", "BadImage", "decode", "encode_jpeg", "encode_png", "fit", "page_count", "prepare", "require_policy"]

JPEG_QUALITY = 95
MOST_ENLARGED = 8.0  # times: what was photographed smaller has no strokes left to be read


def require_policy(pixels: np.ndarray, policy: ImagePolicy) -> None:
    """Check that a decoded image (H, W[, 3]) is one of a dataset with this policy.

    Raises:
        BadImage: it is larger than the policy allows, or of another height or width where that is fixed.
    """
    height, width = pixels.shape[:2]
    if (height != policy.height if policy.fixed_height else height > policy.height) or (
        width != policy.width if policy.fixed_width else width > policy.width
    ):
        raise BadImage(f"{width}x{height} pixels, not the dataset's {policy.width}x{policy.height}")


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W) or (H, W, 3) RGB as PNG bytes."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    return bytes(data.tobytes())


def encode_jpeg(pixels: np.ndarray) -> bytes:
    """Encode uint8 (H, W) or (H, W, 3) RGB as JPEG bytes, nearly without loss."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return bytes(data.tobytes())


@dataclass(frozen=True)
class Prepared:
    """An image as a dataset with its policy holds it: uint8 (H, W[, 3]); and whether it was light ink on dark paper."""

    pixels: np.ndarray
    inverted: bool


def prepare(data: bytes | memoryview, policy: ImagePolicy, page: int | None = None) -> Prepared:
    """Decode an encoded image and bring it to a policy: upright, dark ink on light paper, of the right color and size.

    What is transparent shows the policy's background; where light ink would vanish on that, a dark one.

    Raises:
        BadImage: as `decode`, and nothing else.
    """
    dark = 255 - policy.background
    pixels = decode(data, policy.color, dark if policy.invert == "always" else policy.background, page=page)
    pixels, inverted = orient(pixels, policy.invert)
    if policy.invert == "auto" and int(pixels.min()) == int(pixels.max()):  # nothing is to be seen
        on_dark, inverted = orient(decode(data, policy.color, dark, page=page), "auto")
        pixels = on_dark if inverted else pixels
    return Prepared(fit(pixels, policy), inverted)


def fit(pixels: np.ndarray, policy: ImagePolicy) -> np.ndarray:
    """Bring an image (H, W[, 3]) to the policy: color, and scaled as it says.

    Unless that is crop or stretch, its aspect is kept, so that it fits into height x width; then, where the height or the width
    is fixed, it is centered in that by repeating its border, so that paper continues as paper.
    """
    if policy.color == "gray" and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    elif policy.color == "rgb" and pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    height, width = pixels.shape[:2]
    if policy.scale == "stretch":
        return _resized(pixels, policy.height, policy.width)
    if policy.scale == "crop":
        return _cropped(pixels, policy.height, policy.width)
    scale = min(policy.height / height, policy.width / width, _wanted_scale(pixels, policy))
    if scale != 1.0:
        high, wide = min(policy.height, round(height * scale)), min(policy.width, round(width * scale))
        pixels = _resized(pixels, max(1, high), max(1, wide))
    missing_height = (policy.height - pixels.shape[0]) * policy.fixed_height
    missing_width = (policy.width - pixels.shape[1]) * policy.fixed_width
    if missing_height or missing_width:
        top, left = missing_height // 2, missing_width // 2
        pixels = cv2.copyMakeBorder(pixels, top, missing_height - top, left, missing_width - left, cv2.BORDER_REPLICATE)
    return pixels


def _cropped(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """The middle of an image, scaled to cover height x width."""
    scale = max(height / pixels.shape[0], width / pixels.shape[1])
    # Cut first: of a panorama only the middle is scaled.
    high, wide = min(pixels.shape[0], round(height / scale)), min(pixels.shape[1], round(width / scale))
    top, left = (pixels.shape[0] - high) // 2, (pixels.shape[1] - wide) // 2
    return _resized(pixels[top : top + max(1, high), left : left + max(1, wide)], height, width)


def _resized(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def _wanted_scale(pixels: np.ndarray, policy: ImagePolicy) -> float:
    """The scale that the policy wants, before its limits on the size."""
    if policy.scale == "fit":  # with both sides fixed there is nothing smaller to fall back on
        return math.inf if policy.fixed_width else MOST_ENLARGED
    size = ink_size(pixels) if policy.scale == "ink" and policy.ink_size else 0.0
    return min(policy.ink_size / size, MOST_ENLARGED) if size else 1.0
