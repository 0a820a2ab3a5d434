"""Images at the border: sizes checked before a pixel is decoded, fitted once to a dataset's image policy."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import asdict, dataclass
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# Threads of a library inside tasks that are parallel already only get in each other's way.
cv2.setNumThreads(0)

_PNG_HEADER = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
MAX_PIXELS = 64_000_000  # an image from outside may claim any size: decoding stops here


class BadImage(Exception):
    """An image that cannot be used, with the reason. A row's trouble, not the run's: callers count and report it."""


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


def decode(
    data: bytes | memoryview, colour: Literal["gray", "rgb"], background: int = 255, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decode PNG, JPEG or anything else that OpenCV reads into uint8, (H, W) for gray, (H, W, 3) for rgb.

    What is transparent shows the grey level `background`.

    Raises:
        BadImage: empty, not an image, truncated, or larger than `max_pixels`.
    """
    if not data:
        raise BadImage("empty file")
    plain = _plain_png_size(data)
    if plain is not None and plain[0] * plain[1] <= max_pixels:
        return _decode_opaque(data, colour)
    try:
        with Image.open(io.BytesIO(data)) as header:
            width, height = header.size
            transparent = header.has_transparency_data
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(f"not an image: {type(error).__name__}") from None
    if width * height > max_pixels:
        raise BadImage(f"{width}x{height} pixels, more than the {max_pixels} allowed")
    return _decode_on(background, data, colour) if transparent else _decode_opaque(data, colour)


def _plain_png_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """Width and height of a PNG that cannot be transparent, as those of prepared shards; None for all else.

    An image that is gray or RGB and whose pixels follow its header at once: asking Pillow took a fifth of the decoding.
    """
    if len(data) < 45 or data[:16] != _PNG_HEADER or data[25] not in (0, 2) or data[37:41] != b"IDAT":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return (width, height) if width and height else None


def _decode_opaque(data: bytes | memoryview, colour: Literal["gray", "rgb"]) -> np.ndarray:
    flag = cv2.IMREAD_GRAYSCALE if colour == "gray" else cv2.IMREAD_COLOR
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    except cv2.error as error:
        raise BadImage(f"cannot be decoded: {error.code}") from None
    if pixels is None:
        raise BadImage("cannot be decoded: truncated or corrupt")
    return pixels if colour == "gray" else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _decode_on(background: int, data: bytes | memoryview, colour: Literal["gray", "rgb"]) -> np.ndarray:
    """Decode an image that is transparent in places, laid on grey level `background`. Pillow knows all kinds of them."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            layer = ImageOps.exif_transpose(image).convert("RGBA")
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error, zlib.error) as error:
        raise BadImage(f"cannot be decoded: {type(error).__name__}") from None
    paper = Image.new("RGB", layer.size, (background,) * 3)
    paper.paste(layer, mask=layer)
    pixels = np.array(paper)
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if colour == "gray" else pixels


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
