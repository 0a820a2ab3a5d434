"""Interface of all that takes the metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class Sink:
    """Takes metrics and images; this one ignores them. Whatever a sink raises is reported once, and it is left out then."""

    def rewind(self, step: int) -> None:
        """The run continues after `step`: rows of later steps will come again."""

    def metrics(self, row: dict[str, float]) -> None:
        """Take a row: an interval's or an epoch's, with `step`."""

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Take images by name, each uint8 (H, W) or (H, W, 3) RGB."""

    def close(self) -> None:
        """Write what is left; nothing more comes."""
