"""A batch, and how it is made of encoded rows: images decoded, augmented and padded; targets as the task encodes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from data_pipeline.augmentation.augment import augment
from data_pipeline.dataset.targets import TargetEncoder, UnusableTarget
from data_pipeline.preparation.images import BadImage, ImagePolicy, decode
from data_pipeline.stream.config import Augmentation
from data_pipeline.stream.costs import Costs
from data_pipeline.stream.plan import HEIGHT_MULTIPLE, WIDTH_MULTIPLE, Position, padded
from data_pipeline.stream.read import Rows


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch. B rows, some of which may be padding: their `weights` are 0.

    Shapes:
        images: uint8 (B, C, H, W); sizes: int64 (B, 2), the true (height, width) in pixels, in the upper left of each.
        targets: the task's arrays by name, (B, ...) each.
        weights: float32 (B,), 1 for a sample, 0 for padding or a row that could not be used.

    `columns` are the values that the targets were made of, by the column's name; as `ids`, without padding rows.
    """

    images: np.ndarray
    sizes: np.ndarray
    targets: dict[str, np.ndarray]
    weights: np.ndarray
    ids: list[str]
    sources: list[str]
    columns: dict[str, list[Any]]
    position: Position  # where the run stands once this batch is done
    global_size: int = 0  # samples of the global batch, over all ranks
    errors: dict[str, str] = field(default_factory=dict)  # id -> why the row could not be used
    costs: Costs = field(default_factory=Costs)

    def __len__(self) -> int:
        return len(self.weights)


def pad_images(images: Sequence[np.ndarray], policy: ImagePolicy) -> tuple[np.ndarray, np.ndarray]:
    """Images of a policy, uint8 (H, W[, C]), padded on the right and below to one uint8 (B, C, H, W); their sizes (B, 2)."""
    sizes = np.array([image.shape[:2] for image in images], np.int64).reshape(-1, 2)
    height, width = sizes.max(0, initial=1).tolist()
    canvas = np.full(_shape(len(images), height, width, policy), policy.background, np.uint8)
    for index, image in enumerate(images):
        _put(canvas[index], image)
    return canvas, sizes


def _shape(count: int, height: int, width: int, policy: ImagePolicy) -> tuple[int, int, int, int]:
    height = policy.height if policy.fixed_height else padded(max(height, 1), HEIGHT_MULTIPLE)
    return count, policy.channels, height, padded(max(width, 1), WIDTH_MULTIPLE)


def _put(place: np.ndarray, image: np.ndarray) -> None:
    """Write an image (H, W[, C]) into the upper left of a canvas (C, H, W)."""
    height, width = image.shape[:2]
    place[:, :height, :width] = image if image.ndim == 2 else image.transpose(2, 0, 1)


@dataclass(frozen=True)
class Decoded:
    """The part of a `Batch` that is made of rows."""

    images: np.ndarray
    sizes: np.ndarray
    targets: dict[str, np.ndarray]
    weights: np.ndarray
    ids: list[str]
    sources: list[str]
    columns: dict[str, list[Any]]
    errors: dict[str, str]
    costs: Costs


Picked = tuple[Rows, int]  # a row among others


def columns_of(picked: Sequence[Picked], names: Sequence[str]) -> dict[str, list[Any]]:
    """The values of the columns `names` of these rows."""
    return {name: [rows.columns[name][index] for rows, index in picked] for name in names}


@dataclass(frozen=True)
class Decoder:
    """Makes batches of encoded rows. Pickled once a run; called in any thread or task."""

    policy: ImagePolicy
    targets: TargetEncoder
    augmentation: Augmentation
    seed: int

    def shape(self, size: int, picked: Sequence[Picked]) -> tuple[int, int, int, int]:
        """Of the images (B, C, H, W) of such a batch."""
        height = max((int(rows.heights[index]) for rows, index in picked), default=1)
        width = max((int(rows.widths[index]) for rows, index in picked), default=1)
        return _shape(size, min(height, self.policy.height), min(width, self.policy.width), self.policy)

    def __call__(self, epoch: int, size: int, picked: Sequence[Picked], images: np.ndarray | None = None) -> Decoded:
        """`size` rows: those that are `picked`, in order, filled up with blank rows of weight 0.

        What cannot be used becomes such a row, too: an image of one pixel with a blank target, which a model can take.

        The images are written into `images`, uint8 of `shape`, if it is given.

        Whatever goes wrong with one row's image, or a target that is unusable, is an entry of `errors`.

        Raises:
            UserError: a mistake in a target, such as a token outside the vocabulary.
        """
        started = time.perf_counter()
        images = np.empty(self.shape(size, picked), np.uint8) if images is None else images
        images.fill(self.policy.background)
        sizes, weights = [(1, 1)] * size, np.zeros(size, np.float32)
        columns = columns_of(picked, self.targets.columns)
        errors: dict[str, str] = {}
        targets: list[Any | None] = []
        pixels = 0
        for place, (rows, index) in enumerate(picked):
            try:
                target = self.targets.encode({name: values[place] for name, values in columns.items()})
                image = self._image(epoch, rows, index)
            except (UnusableTarget, BadImage) as reason:
                errors[rows.ids[index]] = str(reason)
                targets.append(None)
                continue
            targets.append(target)
            _put(images[place], image)
            sizes[place], weights[place] = image.shape[:2], 1
            pixels += image.shape[0] * image.shape[1]
        collated = self.targets.collate(targets, size)
        spent = time.perf_counter() - started
        return Decoded(
            images=images,
            sizes=np.array(sizes, np.int64).reshape(size, 2),
            targets=collated,
            weights=weights,
            ids=[rows.ids[index] for rows, index in picked],
            sources=[rows.sources[index] for rows, index in picked],
            columns=columns,
            errors=errors,
            costs=Costs(
                images=len(picked),
                decode_s=spent,
                pixels=pixels,
                padded_pixels=size * images.shape[2] * images.shape[3],
            ),
        )

    def _image(self, epoch: int, rows: Rows, index: int) -> np.ndarray:
        image = decode(rows.image(index), self.policy.color, self.policy.background)
        self.policy.require(image)
        size = int(rows.widths[index]), int(rows.heights[index])
        if image.shape[1::-1] != size:
            raise BadImage(f"{image.shape[1]}x{image.shape[0]} pixels, its row says {size[0]}x{size[1]}")
        try:
            return augment(image, self.augmentation, self.seed, epoch, rows.ids[index])
        except Exception as error:  # one image ends no run; OpenCV, for one, cannot handle more than 32,767 pixels
            reason = error.err if isinstance(error, cv2.error) else f"{type(error).__name__}: {error}"
            raise BadImage(f"cannot be augmented: {reason}") from None


def joined(parts: Sequence[Decoded], policy: ImagePolicy, encoder: TargetEncoder) -> Decoded:
    """Parts of one batch that were decoded apart, as one: padded to the largest."""
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
        rows = slice(first, first + len(part.weights))
        images[rows, :, : part.images.shape[2], : part.images.shape[3]] = part.images
        first = rows.stop
    costs = sum((part.costs for part in parts), Costs())
    costs.padded_pixels = len(images) * images.shape[2] * images.shape[3]
    return Decoded(
        images=images,
        sizes=np.concatenate([part.sizes for part in parts]),
        targets=encoder.concat([part.targets for part in parts]),
        weights=np.concatenate([part.weights for part in parts]),
        ids=[name for part in parts for name in part.ids],
        sources=[source for part in parts for source in part.sources],
        columns={name: [value for part in parts for value in part.columns[name]] for name in encoder.columns},
        errors={name: reason for part in parts for name, reason in part.errors.items()},
        costs=costs,
    )
