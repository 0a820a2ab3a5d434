"""Settings of the stream."""

from dataclasses import dataclass
from typing import Literal

Augmentation = Literal["none", "light", "strong"]


@dataclass
class StreamConfig:
    """How a dataset becomes batches. None of these but `window_row_groups` changes the order of the samples."""

    window_row_groups: int = 32  # rows are shuffled inside a window of this many row groups
    augmentation: Augmentation = "light"
    prefetch_batches: int = 4  # batches made ready ahead of the step
    prefetch_windows: int = 2  # windows of decoded rows kept ahead on each worker
    task_cpus: float = 0.5  # CPU slots of a reading task
