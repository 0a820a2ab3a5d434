"""Images at the border: sizes checked before a pixel is decoded, fitted once to a dataset's image policy."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import cv2
import numpy as np

from data_pipeline.preparation.decoding import MAX_PIXELS, BadImage, decode, page_count
from data_pipeline.preparation.ink import Invert, ink_size, orient

__all__ = ["MAX_PIXELS", "BadImage", "ImagePolicy", "Scale", "decode", "encode_png", "fit", "page_count", "prepare"]

Scale = Literal["none", "ink", "fit"]
_LARGEST_SIDE = 1_000_000  # pixels of a policy
MOST_ENLARGED = 8.0  # times: what was photographed smaller has no strokes left to be read


@dataclass(frozen=True)
class ImagePolicy:
    """What every image of a dataset is like, and how an image from elsewhere becomes like it.

    `height` in pixels is exact, or the most where `fixed_height` is off; `width` is the most. What is smaller stays smaller
    and is padded in its batch. `background` is the gray level (0-255) that padding gets.

    `invert`: whether light ink on dark paper is inverted: never, always, or where it looks like that (auto).
    `scale`: none leaves images as large as they are, unless they are too large; fit makes each as large as the policy allows;
    ink makes the writing as large as that of the dataset, whose `ink_size` (pixels, 0: not known) `build_dataset` measures.
    """

    height: int = 64
    width: int = 256
    color: Literal["gray", "rgb"] = "gray"
    background: int = 255
    fixed_height: bool = True
    invert: Invert = "never"
    scale: Scale = "none"
    ink_size: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError: a value that no image can have."""
        size = self.ink_size
        fine = {
            "height": _is_whole(self.height) and 0 < self.height <= _LARGEST_SIDE,
            "width": _is_whole(self.width) and 0 < self.width <= _LARGEST_SIDE,
            "background": _is_whole(self.background) and 0 <= self.background <= 255,
            "fixed_height": isinstance(self.fixed_height, bool),
            "color": self.color in ("gray", "rgb"),
            "invert": self.invert in get_args(Invert),
            "scale": self.scale in get_args(Scale),
            "ink_size": isinstance(size, int | float) and 0 <= size < math.inf,
        }
        wrong = next((key for key, holds in fine.items() if not holds), None)
        if wrong:
            raise ValueError(f"image policy: {wrong} is {getattr(self, wrong)!r}")

    @property
    def channels(self) -> int:
        """1 or 3."""
        return 1 if self.color == "gray" else 3

    def to_json(self) -> dict[str, Any]:
        """The policy as `dataset.json` and checkpoints state it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ImagePolicy:
        """Read what `to_json` gave; what was written before the key `color` had that name is read as well.

        Raises:
            TypeError: an unknown key.
            ValueError: a value that no image can have.
        """
        return cls(**{("color" if key == "colour" else key): value for key, value in content.items()})

    def require(self, pixels: np.ndarray) -> None:
        """Check that a decoded image (H, W[, 3]) is one of a dataset with this policy.

        Raises:
            BadImage: it is too large, or of another height where that is fixed.
        """
        height, width = pixels.shape[:2]
        if (height != self.height if self.fixed_height else height > self.height) or width > self.width:
            raise BadImage(f"{width}x{height} pixels, not the dataset's {self.width}x{self.height}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def encode_png(pixels: np.ndarray) -> bytes:
    """uint8 (H, W) or (H, W, 3) RGB as PNG bytes."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 4])
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
    """Bring an image (H, W[, 3]) to the policy: color, scaled as it says, its aspect kept, so that it fits into height x width,
    then, where the height is fixed, centered in it by repeating its border rows, so that paper goes on as paper.
    """
    if policy.color == "gray" and pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    elif policy.color == "rgb" and pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    height, width = pixels.shape[:2]
    scale = min(policy.height / height, policy.width / width, _wanted_scale(pixels, policy))
    if scale != 1.0:
        size = max(1, min(policy.width, round(width * scale))), max(1, min(policy.height, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    missing = policy.height - pixels.shape[0]
    if missing and policy.fixed_height:
        pixels = cv2.copyMakeBorder(pixels, missing // 2, missing - missing // 2, 0, 0, cv2.BORDER_REPLICATE)
    return pixels


def _wanted_scale(pixels: np.ndarray, policy: ImagePolicy) -> float:
    """By how much an image is to be scaled if it fits then."""
    if policy.scale == "fit":
        return MOST_ENLARGED
    size = ink_size(pixels) if policy.scale == "ink" and policy.ink_size else 0.0
    return min(policy.ink_size / size, MOST_ENLARGED) if size else 1.0
