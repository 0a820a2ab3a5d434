"""The collator: encoded rows to arrays, with images decoded, augmented and padded, and targets as the task encodes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from cluster.errors import UserError
from data_pipeline.augmentation.chain import Chain
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.targets import TargetEncoder, UnusableTarget
from data_pipeline.preparation.images import BadImage, decode, require_policy
from data_pipeline.stream.batch import CollatedRows, canvas_shape, put_image
from data_pipeline.stream.rows import RowRef, Rows, columns_of
from data_pipeline.stream.stats import StreamStats


@dataclass(frozen=True)
class Collator:
    """Collates encoded rows. Pickled once a run; called in any thread or task."""

    policy: ImagePolicy
    targets: TargetEncoder
    augmentation: Chain
    seed: int

    def shape(self, size: int, refs: Sequence[RowRef]) -> tuple[int, int, int, int]:
        """The shape of the images (B, C, H, W) of a batch of these rows."""
        height = max((int(rows.heights[index]) for rows, index in refs), default=1)
        width = max((int(rows.widths[index]) for rows, index in refs), default=1)
        return canvas_shape(size, min(height, self.policy.height), min(width, self.policy.width), self.policy)

    def __call__(self, epoch: int, size: int, refs: Sequence[RowRef], images: np.ndarray | None = None) -> CollatedRows:
        """Collate the rows `refs`, in order, filled up to `size` with blank rows of weight 0.

        A row that cannot be used becomes blank as well: an image of one pixel with a blank target, which a model can take.
        Whatever is wrong with its image or its target is an entry of `errors`.

        Args:
            epoch: decides on the augmentation, together with the seed and the row's id.
            images: uint8 of `shape` to write the images into, if given.

        Raises:
            UserError: a mistake in a target, such as a token outside the vocabulary.
        """
        started = time.perf_counter()
        images = np.empty(self.shape(size, refs), np.uint8) if images is None else images
        images.fill(self.policy.background)
        sizes, weights = [(1, 1)] * size, np.zeros(size, np.float32)
        columns = columns_of(refs, self.targets.columns)
        errors: dict[str, str] = {}
        targets: list[Any | None] = []
        pixels = 0
        for position, (rows, index) in enumerate(refs):
            try:
                target = self.targets.encode({name: values[position] for name, values in columns.items()})
                image = self._image(epoch, rows, index)
            except (UnusableTarget, BadImage) as reason:
                errors[rows.ids[index]] = str(reason)
                targets.append(None)
                continue
            targets.append(target)
            put_image(images[position], image)
            sizes[position], weights[position] = image.shape[:2], 1
            pixels += image.shape[0] * image.shape[1]
        collated = self.targets.collate(targets, size)
        spent = time.perf_counter() - started
        return CollatedRows(
            images=images,
            sizes=np.array(sizes, np.int64).reshape(size, 2),
            targets=collated,
            weights=weights,
            ids=[rows.ids[index] for rows, index in refs],
            sources=[rows.sources[index] for rows, index in refs],
            columns=columns,
            errors=errors,
            stats=StreamStats(
                images=len(refs),
                decode_s=spent,
                pixels=pixels,
                padded_pixels=size * images.shape[2] * images.shape[3],
            ),
        )

    def _image(self, epoch: int, rows: Rows, index: int) -> np.ndarray:
        image = decode(rows.image(index), self.policy.color, self.policy.background)
        require_policy(image, self.policy)
        width, height = int(rows.widths[index]), int(rows.heights[index])
        if image.shape[:2] != (height, width):
            raise BadImage(f"{image.shape[1]}x{image.shape[0]} pixels, its row says {width}x{height}")
        try:
            return self.augmentation(image, self.seed, epoch, rows.ids[index])
        except UserError:  # albumentations is not installed on this machine
            raise
        except Exception as error:  # one image ends no run; OpenCV, for one, cannot handle more than 32,767 pixels
            reason = error.err if isinstance(error, cv2.error) else f"{type(error).__name__}: {error}"
            raise BadImage(f"cannot be augmented: {reason}") from None
