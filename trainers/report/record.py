"""What a training run leaves behind for its report: plain data, no tensors, no model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Example:
    """One image of the test split with what it says and what the model read in it.

    `image` is (H, W) or (H, W, 3); `truth` and `prediction` are tokens joined by blanks; `source` names its kind.
    """

    id: str
    image: Image
    truth: str
    prediction: str
    source: str = ""

    @property
    def correct(self) -> bool:
        """Whether all tokens agree; blanks between them do not count."""
        return self.truth.split() == self.prediction.split()


@dataclass(frozen=True)
class AttentionExample:
    """One image, the T tokens read in it, and where the decoder looked for each: `maps` (T, h, w), not negative."""

    image: Image
    tokens: Sequence[str]
    maps: NDArray[np.floating[Any]]


@dataclass(frozen=True)
class RunReport:
    """All that a report shows. Whatever is empty is left out of the page.

    `history` has a row per logged interval or evaluation, keys such as `step`, `train/loss`, `val/exact_match`, any of
    them missing in any row. `metrics` holds the final metrics by name of a row ("test", "test, handwritten"), `sources` those
    of each source of the test split by the source's name alone; of their keys and of the history's, those that
    `figures.SHARES` names are shares of one. `dataset["licence"]` decides on a notice. `environment` says what the run was
    computed with; its `device` and `duration` stand below the title of the page.
    """

    title: str
    config_yaml: str = ""
    history: Sequence[Mapping[str, float]] = ()
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    examples: Sequence[Example] = ()
    attention: AttentionExample | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
