"""What the stream did for its batches: counts that add up over batches, steps and ranks."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields


@dataclass
class Costs:
    """`read_bytes` came from the dataset's storage, in `reads` row groups, after `retries` failed attempts; `cached` row groups
    came from the cache. `decode_s` is time of decoding and augmenting, over all threads or tasks. `pixels` are those of the
    images, `padded_pixels` those of the batches that hold them.
    """

    read_bytes: int = 0
    reads: int = 0
    cached: int = 0
    retries: int = 0
    images: int = 0
    decode_s: float = 0.0
    pixels: int = 0
    padded_pixels: int = 0

    def __add__(self, other: Costs) -> Costs:
        return Costs(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def figures(self, seconds: float) -> dict[str, float]:
        """As metrics: of `seconds` of a run."""
        return {
            "data/read_mb_per_s": self.read_bytes / 1e6 / max(seconds, 1e-9),
            "data/cache_hit_share": self.cached / max(self.cached + self.reads, 1),
            "data/retries": float(self.retries),
            "data/decode_ms": 1000 * self.decode_s / max(self.images, 1),
            "data/padding_share": 1 - self.pixels / max(self.padded_pixels, 1),
        }

    def to_list(self) -> list[float]:
        """As numbers that ranks can add up."""
        return [float(value) for value in asdict(self).values()]

    @classmethod
    def from_list(cls, values: list[float]) -> Costs:
        """The inverse of `to_list`."""
        read_bytes, reads, cached, retries, images, decode_s, pixels, padded_pixels = values
        return cls(
            int(read_bytes), int(reads), int(cached), int(retries), int(images), decode_s, int(pixels), int(padded_pixels)
        )
