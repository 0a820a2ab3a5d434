"""Images brought to sizes that a network takes.

Legend: B batch, C channels, H W height and width in pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from models.errors import ModelConfigError

Canvas = Callable[[Tensor], Tensor]


def as_it_is(images: Tensor) -> Tensor:
    """For a network of any image size."""
    return images


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
