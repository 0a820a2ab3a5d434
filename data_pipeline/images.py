"""Images at the border: sizes checked before a pixel is decoded, fitted once to a dataset's image policy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np

from data_pipeline.decoding import MAX_PIXELS, BadImage, decode, page_count

__all__ = ["MAX_PIXELS", "BadImage", "ImagePolicy", "decode", "encode_png", "fit", "page_count"]


@dataclass(frozen=True)
class ImagePolicy:
    """What every image of a dataset is like.

    `height` in pixels is exact, or the most where `fixed_height` is off; `width` is the most. What is smaller stays smaller
    and is padded in its batch. `background` is the grey level (0-255) that padding gets.
    """

    height: int = 64
    width: int = 256
    colour: Literal["gray", "rgb"] = "gray"
    background: int = 255
    fixed_height: bool = True

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.colour == "gray" else 3

    def to_json(self) -> dict[str, Any]:
        """As it stands in `dataset.json`."""
        return asdict(self)

    def require(self, pixels: np.ndarray) -> None:
        """Check that a decoded image (H, W[, 3]) is one of a dataset with this policy.

        Raises:
            BadImage: it is too large, or of another height where that is fixed.
        """
        height, width = pixels.shape[:2]
        if (height != self.height if self.fixed_height else height > self.height) or width > self.width:
            raise BadImage(f"{width}x{height} pixels, not the dataset's {self.width}x{self.height}")


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) RGB as PNG bytes."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 4])
    return bytes(data.tobytes())


def fit(pixels: np.ndarray, policy: ImagePolicy) -> np.ndarray:
    """Bring an image (H, W[, 3]) to the policy: colour, shrunk (never enlarged) into height x width with its aspect kept,
    then, where the height is fixed, centred to it by repeating its border rows, so that paper goes on as paper.
    """
    if policy.colour == "gray" and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    elif policy.colour == "rgb" and pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    height, width = pixels.shape[:2]
    scale = min(policy.height / height, policy.width / width, 1.0)
    if scale < 1.0:
        size = max(1, min(policy.width, round(width * scale))), max(1, min(policy.height, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    missing = policy.height - pixels.shape[0]
    if missing and policy.fixed_height:
        pixels = cv2.copyMakeBorder(pixels, missing // 2, missing - missing // 2, 0, 0, cv2.BORDER_REPLICATE)
    return pixels
