"""Row groups of a split, as the plan sees them: columns of sizes, padded as in a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Split

# Pixels: padded sizes are multiples of these, and row groups of one padded size are mixed with each other. Heights are told
# apart more finely: images whose heights vary are wide and low, so a few more rows of pixels are many pixels.
WIDTH_MULTIPLE, HEIGHT_MULTIPLE = 32, 16

Pixels = TypeVar("Pixels", int, np.ndarray)


def padded(pixels: Pixels, multiple: int) -> Pixels:
    """Round widths or heights up to what they are in a batch."""
    return -(-pixels // multiple) * multiple


@dataclass(frozen=True)
class RowGroups:
    """The row groups of a split as columns, since there may be millions.

    `shard` is an index into `files`, `index` one into the shard; `width` and `height` (pixels) are those of the images in a
    batch, padding included; `bytes` is the size of the encoded images. All int64 (G,).
    """

    files: tuple[str, ...]
    shard: np.ndarray
    index: np.ndarray
    rows: np.ndarray
    width: np.ndarray
    height: np.ndarray
    bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, split: Split, policy: ImagePolicy) -> RowGroups:
        """The row groups of `split`. Sizes that an old manifest lacks: the policy's maximum, or the shard's mean."""
        lengths = [len(shard.row_groups) for shard in split.shards]
        extents = np.array([extent for shard in split.shards for extent in shard.row_groups], np.int64).reshape(-1, 4)
        rows, width, height, size = extents.T
        shard = np.repeat(np.arange(len(lengths)), lengths)
        mean = np.array([shard.bytes / max(shard.rows, 1) for shard in split.shards])
        index = np.arange(len(shard)) - np.repeat(np.cumsum([0, *lengths[:-1]]), lengths) if lengths else shard
        return cls(
            files=tuple(shard.file for shard in split.shards),
            shard=shard,
            index=index,
            rows=rows,
            width=np.full_like(width, policy.width) if policy.fixed_width else padded(width, WIDTH_MULTIPLE),
            height=np.full_like(height, policy.height)
            if policy.fixed_height
            else padded(np.where(height > 0, height, policy.height), HEIGHT_MULTIPLE),
            bytes=np.where(size > 0, size, np.ceil(rows * mean[shard]).astype(np.int64) if len(shard) else size),
        )

    def part(self, first: int, step: int) -> RowGroups:
        """Every `step`-th row group, beginning with number `first`."""
        columns = (self.shard, self.index, self.rows, self.width, self.height, self.bytes)
        return RowGroups(self.files, *(column[first::step] for column in columns))
