"""Images brought to sizes that a network takes.

Legend: B batch, C channels, H W height and width in pixels.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from models.errors import ModelConfigError
from models.layers.padding import divided_up


class Canvas(Protocol):
    """Images (B, C, H, W) to such as a network takes."""

    def __call__(self, images: Tensor) -> Tensor:
        """The images, widened at the right and the bottom with 0."""
        raise NotImplementedError

    def covered(self, sizes: Tensor) -> Tensor | None:
        """What images of true `sizes` (B, 2) take up when they are widened alone; None: as much as every other."""
        raise NotImplementedError


@dataclass(frozen=True)
class AsItIs:
    """Images as they are, for a network of any image size."""

    def __call__(self, images: Tensor) -> Tensor:
        """The images."""
        return images

    def covered(self, sizes: Tensor) -> Tensor:
        """`sizes` (B, 2)."""
        return sizes


@dataclass(frozen=True)
class Multiple:
    """Images (B, C, H, W) widened at the right and the bottom with 0 to multiples of `height` and `width`.

    For a network that refuses other sizes, or does not look at what is over.
    """

    height: int
    width: int

    def __call__(self, images: Tensor) -> Tensor:
        """The widened images."""
        return F.pad(images, (0, -images.shape[-1] % self.width, 0, -images.shape[-2] % self.height))

    def covered(self, sizes: Tensor) -> Tensor:
        """`sizes` (B, 2) as multiples."""
        rows, columns = divided_up(sizes, (self.height, self.width)).unbind(1)
        return torch.stack([rows * self.height, columns * self.width], 1)


@dataclass(frozen=True)
class Fixed:
    """Images (B, C, H, W) widened at the right and the bottom with 0 to the one size that a network takes."""

    height: int
    width: int
    key: str  # the config key that an error names

    def __call__(self, images: Tensor) -> Tensor:
        """The widened images; raises ModelConfigError for larger ones."""
        height, width = images.shape[-2:]
        if height > self.height or width > self.width:
            raise ModelConfigError(
                self.key,
                f"images of {height}x{width} pixels (H x W) are larger than the {self.height}x{self.width} that the network "
                "is built for; enlarge img_size or use another network",
            )
        return F.pad(images, (0, self.width - width, 0, self.height - height))

    def covered(self, sizes: Tensor) -> None:
        """All images take up all of it."""
        return None
