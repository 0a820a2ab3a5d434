"""What takes the figures of a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


class Sink:
    """Takes figures and pictures; this one ignores them. Whatever a sink raises is told once, and it is left out then."""

    def rewind(self, step: int) -> None:
        """The run goes on after `step`: what was told of later steps will come again."""

    def figures(self, row: dict[str, float]) -> None:
        """One row: an interval's or an epoch's, with `step`."""

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Pictures by name, each uint8 (H, W) or (H, W, 3) RGB."""

    def close(self) -> None:
        """No more will come."""
