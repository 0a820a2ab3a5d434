"""True sizes and masks of the feature maps inside a network, by map size.

Legend: B batch, C channels, h w height and width of a map.
"""

from typing import Any

import torch
from torch import Tensor

from models.layers.padding import area_mask

Size = tuple[int, int]


class PaddingMasks:
    """True sizes and masks of the maps of the current forward pass, by map size.

    Registered are the size of the images, and those of smaller maps as modules compute them.
    """

    def __init__(self) -> None:
        # Lists, not dicts: compiled code compares symbolic sizes, which would become constants as keys.
        self._sizes: list[tuple[Size, Tensor]] = []
        self._masks: list[tuple[Size, torch.dtype, Tensor]] = []

    def begin(self, images: Tensor, sizes: Tensor | None) -> None:
        """Starts a pass over images (B, C, h, w) of true `sizes` (B, 2), or None for images without padding."""
        # Kept until the next pass: gradient checkpointing needs them again in the backward pass.
        self._masks = []
        self._sizes = [] if sizes is None else [((images.shape[-2], images.shape[-1]), sizes)]

    @property
    def active(self) -> bool:
        """Whether any image is padded."""
        return len(self._sizes) > 0

    def register(self, before: Size, after: Size, sizes: Tensor) -> None:
        """Registers maps of size `after`, computed from maps of `before`, with their true `sizes` (B, 2)."""
        if before != after and all(known != after for known, _ in self._sizes):
            self._sizes.append((after, sizes))

    def sizes(self, size: Size) -> Tensor:
        """True sizes (B, 2) of the images in maps of `size`."""
        for known, sizes in self._sizes:
            if known == size:
                return sizes
        raise KeyError(size)

    def mask(self, size: Size, dtype: torch.dtype) -> Tensor:
        """Mask (B, 1, h, w) of maps of `size`: 1 on the image, 0 in the padding."""
        for known, known_dtype, mask in self._masks:
            if known == size and known_dtype == dtype:
                return mask
        mask = area_mask(self.sizes(size), *size)[:, None].to(dtype)
        self._masks.append((size, dtype, mask))
        return mask

    def of(self, x: Tensor) -> Tensor | None:
        """Mask (B, 1, h, w) of a map (B, C, h, w), None where there is no padding."""
        return self.mask((x.shape[-2], x.shape[-1]), x.dtype) if self.active else None

    def __getstate__(self) -> dict[str, Any]:
        return {"_sizes": [], "_masks": []}
