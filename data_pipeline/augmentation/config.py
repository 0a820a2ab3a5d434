"""How strongly images are augmented in training."""

from typing import Literal

Augmentation = Literal["none", "light", "strong"]
