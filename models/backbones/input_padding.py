"""Padding of images to sizes that a network accepts.

Legend: B batch, C channels, H W height and width in pixels.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import ModelConfigError
from models.layers.padding import ceil_divide


class InputPadding(Protocol):
    """Interface of the padding of images (B, C, H, W) to a size that a network accepts."""

    def __call__(self, images: Tensor) -> Tensor:
        """Pads the images with 0 at the right and the bottom."""
        raise NotImplementedError

    def padded_sizes(self, sizes: Tensor) -> Tensor | None:
        """Sizes of images of true `sizes` (B, 2) when each is padded alone; None: all have the same size."""
        raise NotImplementedError


@dataclass(frozen=True)
class NoInputPadding:
    """No padding, for a network that accepts any image size."""

    def __call__(self, images: Tensor) -> Tensor:
        """The images unchanged."""
        return images

    def padded_sizes(self, sizes: Tensor) -> Tensor:
        """`sizes` (B, 2) unchanged."""
        return sizes


@dataclass(frozen=True)
class PadToMultiple:
    """Padding with 0 at the right and the bottom to multiples of `height` and `width`.

    For a network that rejects other sizes, or ignores the remainder.
    """

    height: int
    width: int

    def __call__(self, images: Tensor) -> Tensor:
        """Pads the images."""
        return F.pad(images, (0, -images.shape[-1] % self.width, 0, -images.shape[-2] % self.height))

    def padded_sizes(self, sizes: Tensor) -> Tensor:
        """`sizes` (B, 2) rounded up to multiples."""
        rows, columns = ceil_divide(sizes, (self.height, self.width)).unbind(1)
        return torch.stack([rows * self.height, columns * self.width], 1)


@dataclass(frozen=True)
class PadToSize:
    """Padding with 0 at the right and the bottom to the single size that a network accepts."""

    height: int
    width: int
    key: str  # the config key that an error names

    def __call__(self, images: Tensor) -> Tensor:
        """Pads the images; raises ModelConfigError for larger ones."""
        height, width = images.shape[-2:]
        if height > self.height or width > self.width:
            raise ModelConfigError(
                self.key,
                f"images of {height}x{width} pixels (H x W) are larger than the {self.height}x{self.width} that the network "
                "was built for; enlarge img_size or use another network",
            )
        return F.pad(images, (0, self.width - width, 0, self.height - height))

    def padded_sizes(self, sizes: Tensor) -> None:
        """None: all images have the same size."""
        return None
