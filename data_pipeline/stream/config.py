"""Configuration of the stream."""

from dataclasses import dataclass, field
from typing import Any, Literal

from cluster.values import Renames
from data_pipeline.augmentation.config import read_chain
from data_pipeline.dataset.token_targets import MAX_TOKENS

Execution = Literal["auto", "threads", "process", "ray"]
CacheLocation = Literal["off", "disk", "memory"]

MAX_THREADS = 1024

RENAMED = Renames({"cache.place": "cache.location"})  # keys that had another name before


@dataclass
class CacheConfig:
    """Cache of row groups near the processes that read them: the first epoch reads remotely, later ones do not."""

    location: CacheLocation = "off"  # disk; or memory: shared by all processes of a machine (/dev/shm), gone when they end
    directory: str = ""  # of the cache on disk, on every machine; empty: ~/.cache/inkray
    limit_mb: int = 20_000  # on each machine; the least recently used row groups are removed first


@dataclass
class StreamConfig:
    """How a dataset becomes batches. Only `window_row_groups` and `batch_pixels` of these decide the order of samples."""

    window_row_groups: int = 32  # rows are shuffled inside a window of this many row groups
    batch_pixels: int = 0  # padded pixels of a global batch, at most; 0: batches are counted in samples alone
    augmentation: Any = (
        "light"  # of training images: a preset (none, light, strong, boards, flips, formulas) or a list of steps
    )
    # Decoding in threads of the training worker, in a process beside it, or in Ray tasks anywhere.
    # auto: tasks if machines are spare, else a process where a GPU trains or albumentations augments, else threads.
    execution: Execution = "auto"
    threads: int = 0  # decoding threads of each training worker; 0: its part of the machine's cores
    task_cpus: float = 0.5  # CPU slots of a decoding task
    prefetch_batches: int = 4  # batches prepared ahead of the step
    prefetch_windows: int = 1  # windows of encoded rows read ahead
    memory_mb: int = 1024  # limit on all that the stream of a training worker holds
    cache: CacheConfig = field(default_factory=CacheConfig)
    storage_timeout_s: float = 120.0  # how long a failing storage is retried, with growing pauses
    max_tokens: int = MAX_TOKENS  # of a text; an image with a longer text counts as unusable
    max_rejected: float = 0.01  # share of an epoch's images that may turn out unusable before the run fails

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        minimum = {
            "window_row_groups": 1,
            "batch_pixels": 0,
            "threads": 0,
            "prefetch_batches": 1,
            "prefetch_windows": 0,
            "memory_mb": 1,
            "storage_timeout_s": 0,
            "max_tokens": 1,
        }
        rules = [
            *(
                (getattr(self, key) >= value, f"{key}={getattr(self, key)}: at least {value}")  # NaN is not, either
                for key, value in minimum.items()
            ),
            (self.threads <= MAX_THREADS, f"threads={self.threads}: at most {MAX_THREADS}"),
            (self.cache.limit_mb >= 1, f"cache.limit_mb={self.cache.limit_mb}: at least 1"),
            (self.task_cpus > 0, f"task_cpus={self.task_cpus}: above 0"),
            (0 <= self.max_rejected <= 1, f"max_rejected={self.max_rejected}: a share, from 0 to 1"),
        ]
        _, problems = read_chain(self.augmentation, "augmentation")
        return [f"stream.{message}" for message in [*problems, *(message for holds, message in rules if not holds)]]
