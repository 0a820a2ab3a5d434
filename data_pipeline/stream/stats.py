"""Statistics of the stream: counts that add up over batches, steps and ranks."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields
from typing import Any

from cluster.sums import Sums


@dataclass
class StreamStats(Sums):
    """What reading and collating batches took.

    `read_bytes` came from the dataset's storage, in `reads` row groups, after `retries` failed attempts; `cached` row groups
    came from the cache. `decode_s` is the time of decoding and augmenting, summed over all threads or tasks. `pixels` are those
    of the images, `padded_pixels` those of the batches that hold them.
    """

    read_bytes: int = 0
    reads: int = 0
    cached: int = 0
    retries: int = 0
    images: int = 0
    decode_s: float = 0.0
    pixels: int = 0
    padded_pixels: int = 0

    def metrics(self, seconds: float) -> dict[str, float]:
        """The metrics of `seconds` of a run."""
        return {
            "data/read_mb_per_s": self.read_bytes / 1e6 / max(seconds, 1e-9),
            "data/cache_hit_share": self.cached / max(self.cached + self.reads, 1),
            "data/retries": float(self.retries),
            "data/decode_ms": 1000 * self.decode_s / max(self.images, 1),
            "data/padding_share": 1 - self.pixels / max(self.padded_pixels, 1),
        }

    def to_list(self) -> list[float]:
        """The fields as floats that ranks can reduce."""
        return [float(value) for value in astuple(self)]

    @classmethod
    def from_list(cls, values: list[float]) -> StreamStats:
        """The inverse of `to_list`: each field gets the type of its default."""
        kinds: list[Any] = [int if isinstance(item.default, int) else float for item in fields(cls)]
        return cls(*(kind(value) for kind, value in zip(kinds, values, strict=True)))
