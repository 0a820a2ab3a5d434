"""The image policy of a dataset: what every image of it is like, and how an image from elsewhere becomes like it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

Invert = Literal["never", "auto", "always"]
Scale = Literal["none", "ink", "fit", "crop", "stretch"]
_LARGEST_SIDE = 1_000_000  # pixels of a policy


@dataclass(frozen=True)
class ImagePolicy:
    """The properties that all images of a dataset have, and how an image from elsewhere gets them.

    `height` in pixels is exact, or the most where `fixed_height` is off; `width` is the most, or exact with `fixed_width`. What
    is smaller stays smaller and is padded in its batch. `background` is the gray level (0-255) that padding gets.

    `invert`: whether light ink on dark paper is inverted: never, always, or where it looks like that (auto).
    `scale`: none leaves images as large as they are, unless they are too large; fit makes each as large as the policy allows;
    ink makes the writing as large as that of the dataset, whose `ink_size` (pixels, 0: not known) `build_dataset` measures.
    crop and stretch make each exactly height x width: crop covers that, its aspect kept, and cuts the same from both sides of
    what is longer; stretch does not keep the aspect.
    """

    height: int = 64
    width: int = 256
    color: Literal["gray", "rgb"] = "gray"
    background: int = 255
    fixed_height: bool = True
    invert: Invert = "never"
    scale: Scale = "none"
    ink_size: float = 0.0
    fixed_width: bool = False

    def __post_init__(self) -> None:
        """Check the values; raises ValueError for one that no image can have."""
        size = self.ink_size
        fine = {
            "height": _is_whole(self.height) and 0 < self.height <= _LARGEST_SIDE,
            "width": _is_whole(self.width) and 0 < self.width <= _LARGEST_SIDE,
            "background": _is_whole(self.background) and 0 <= self.background <= 255,
            "fixed_height": isinstance(self.fixed_height, bool),
            "fixed_width": isinstance(self.fixed_width, bool),
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
        """The number of channels, 1 or 3."""
        return 1 if self.color == "gray" else 3

    def to_json(self) -> dict[str, Any]:
        """The policy as checkpoints and jobs state it; without `fixed_width` where it is off, as those before it have it."""
        content = asdict(self)
        return content if self.fixed_width else {key: value for key, value in content.items() if key != "fixed_width"}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> ImagePolicy:
        """Read what `to_json` gave; what was written before the key `color` had that name is read as well.

        Raises:
            TypeError: an unknown key.
            ValueError: a value that no image can have.
        """
        return cls(**{("color" if key == "colour" else key): value for key, value in content.items()})


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
