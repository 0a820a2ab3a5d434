"""A batch: images and targets of some rows as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.targets import TargetEncoder
from data_pipeline.stream.plan import StreamPosition
from data_pipeline.stream.row_groups import HEIGHT_MULTIPLE, WIDTH_MULTIPLE, padded
from data_pipeline.stream.stats import StreamStats


@dataclass(frozen=True)
class CollatedRows:
    """Rows as arrays: B rows, some of which may be blank padding, whose `weights` are 0.

    Shapes:
        images: uint8 (B, C, H, W); sizes: int64 (B, 2), the true (height, width) in pixels, in the upper left of each.
        targets: the task's arrays by name, (B, ...) each.
        weights: float32 (B,), 1 for a sample, 0 for padding or a row that could not be used.

    `ids`, `sources` and `columns` (the values that the targets were made of, by the column's name) leave padding out.
    `errors` tells why a row could not be used, by its id.
    """

    images: np.ndarray
    sizes: np.ndarray
    targets: dict[str, np.ndarray]
    weights: np.ndarray
    ids: list[str]
    sources: list[str]
    columns: dict[str, list[Any]]
    errors: dict[str, str] = field(default_factory=dict, kw_only=True)
    stats: StreamStats = field(default_factory=StreamStats, kw_only=True)

    def __len__(self) -> int:
        return len(self.weights)


@dataclass(frozen=True)
class Batch(CollatedRows):
    """One rank's part of a global batch of `global_size` samples over all ranks.

    `position` is where the run stands once this batch is done.
    """

    position: StreamPosition
    global_size: int = 0


def concat(parts: Sequence[CollatedRows], policy: ImagePolicy, encoder: TargetEncoder) -> CollatedRows:
    """Concatenate parts of one batch that were collated apart, padded to the largest."""
    if len(parts) == 1:
        return parts[0]
    shapes = [part.images.shape for part in parts]
    images = np.full(
        (sum(s[0] for s in shapes), policy.channels, max(s[2] for s in shapes), max(s[3] for s in shapes)),
        policy.background,
        np.uint8,
    )
    first = 0
    for part in parts:
        rows = slice(first, first + len(part))
        images[rows, :, : part.images.shape[2], : part.images.shape[3]] = part.images
        first = rows.stop
    stats = sum((part.stats for part in parts), StreamStats())
    stats.padded_pixels = len(images) * images.shape[2] * images.shape[3]
    return CollatedRows(
        images=images,
        sizes=np.concatenate([part.sizes for part in parts]),
        targets=encoder.concat([part.targets for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        ids=[name for part in parts for name in part.ids],
        sources=[source for part in parts for source in part.sources],
        columns={name: [value for part in parts for value in part.columns[name]] for name in encoder.columns},
        errors={name: reason for part in parts for name, reason in part.errors.items()},
        stats=stats,
    )


def pad_images(images: Sequence[np.ndarray], policy: ImagePolicy) -> tuple[np.ndarray, np.ndarray]:
    """Pad images of a policy, uint8 (H, W[, C]), on the right and below to one uint8 (B, C, H, W); with their sizes (B, 2)."""
    sizes = np.array([image.shape[:2] for image in images], np.int64).reshape(-1, 2)
    height, width = sizes.max(0, initial=1).tolist()
    canvas = np.full(canvas_shape(len(images), height, width, policy), policy.background, np.uint8)
    for index, image in enumerate(images):
        put_image(canvas[index], image)
    return canvas, sizes


def canvas_shape(count: int, height: int, width: int, policy: ImagePolicy) -> tuple[int, int, int, int]:
    """The shape (B, C, H, W) of `count` images of up to `height` x `width` pixels in a batch."""
    height = policy.height if policy.fixed_height else padded(max(height, 1), HEIGHT_MULTIPLE)
    return count, policy.channels, height, policy.width if policy.fixed_width else padded(max(width, 1), WIDTH_MULTIPLE)


def put_image(canvas: np.ndarray, image: np.ndarray) -> None:
    """Write an image (H, W[, C]) into the upper left of a canvas (C, H, W)."""
    height, width = image.shape[:2]
    canvas[:, :height, :width] = image if image.ndim == 2 else image.transpose(2, 0, 1)
