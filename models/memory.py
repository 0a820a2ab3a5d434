"""What an encoder hands to decoders.

Legend: B batch, S source positions, M width of the memory, h w height and width of the feature map.
"""

from typing import NamedTuple

from torch import Tensor


class Memory(NamedTuple):
    """Encoded images.

    `tokens` (B, S, M): `prefix` positions that belong to no place, then the h * w of the feature map row by row;
    `mask` (B, S): True on image, or None where every position is; `size`: (h, w).
    """

    tokens: Tensor
    mask: Tensor | None
    size: tuple[int, int]
    prefix: int = 0

    def area(self) -> Tensor | None:
        """Which places of the map are image, bool (B, h, w): a rectangle in the upper left; None where all are."""
        return None if self.mask is None else self.mask[:, self.prefix :].unflatten(1, self.size)

    def for_rows(self, rows: int) -> "Memory":
        """The same for a multiple of B `rows`: all images, one time after the other."""
        copies = rows // len(self.tokens)
        if copies == 1:
            return self
        mask = None if self.mask is None else self.mask.repeat(copies, 1)
        return self._replace(tokens=self.tokens.repeat(copies, 1, 1), mask=mask)
