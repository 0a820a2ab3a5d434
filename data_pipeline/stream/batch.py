"""A batch, and how it is made of encoded rows: decoded, augmented, padded; texts as token ids."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from data_pipeline.augmentation.augment import augment
from data_pipeline.dataset.manifest import MAX_TOKENS
from data_pipeline.dataset.tokenizer import Tokenizer
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
        targets: int64 (B, T), `<bos>` ... `<eos>` `<pad>` ...
        weights: float32 (B,), 1 for a sample, 0 for padding or an image that could not be decoded.
    """

    images: np.ndarray
    sizes: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    ids: list[str]
    texts: list[str]
    sources: list[str]
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
    targets: np.ndarray
    weights: np.ndarray
    ids: list[str]
    texts: list[str]
    sources: list[str]
    errors: dict[str, str]
    costs: Costs


Picked = tuple[Rows, int]  # a row among others


@dataclass(frozen=True)
class Decoder:
    """Makes batches of encoded rows. Pickled once a run; called in any thread or task."""

    policy: ImagePolicy
    tokenizer: Tokenizer
    augmentation: Augmentation
    seed: int
    max_tokens: int = MAX_TOKENS

    def shape(self, size: int, picked: Sequence[Picked]) -> tuple[int, int, int, int]:
        """Of the images (B, C, H, W) of such a batch."""
        height = max((int(rows.heights[index]) for rows, index in picked), default=1)
        width = max((int(rows.widths[index]) for rows, index in picked), default=1)
        return _shape(size, min(height, self.policy.height), min(width, self.policy.width), self.policy)

    def __call__(self, epoch: int, size: int, picked: Sequence[Picked], images: np.ndarray | None = None) -> Decoded:
        """`size` rows: those that are `picked`, in order, filled up with blank rows of weight 0.

        What cannot be decoded becomes such a row, too: an image of one pixel with an empty text, which a model can take.

        The images are written into `images`, uint8 of `shape`, if it is given.

        Whatever goes wrong with one row's image, or a text of more than `max_tokens` tokens, is an entry of `errors`.

        Raises:
            UserError: a text has a token outside the vocabulary.
        """
        started = time.perf_counter()
        images = np.empty(self.shape(size, picked), np.uint8) if images is None else images
        images.fill(self.policy.background)
        sizes, weights = [(1, 1)] * size, np.zeros(size, np.float32)
        encoded = [self._token_ids(rows.texts[index]) for rows, index in picked]
        targets = np.full((size, max(map(len, encoded), default=2)), self.tokenizer.pad_id, np.int64)
        targets[:, :2] = self.tokenizer.bos_id, self.tokenizer.eos_id
        errors: dict[str, str] = {}
        pixels = 0
        for place, ((rows, index), ids) in enumerate(zip(picked, encoded, strict=True)):
            try:
                if not ids:
                    count = len(rows.texts[index].split())
                    raise BadImage(f"{count:,} tokens, more than the {self.max_tokens:,} allowed (stream.max_tokens)")
                image = self._image(epoch, rows, index)
            except BadImage as reason:
                errors[rows.ids[index]] = str(reason)
                continue
            _put(images[place], image)
            sizes[place], weights[place] = image.shape[:2], 1
            targets[place, : len(ids)] = ids
            pixels += image.shape[0] * image.shape[1]
        spent = time.perf_counter() - started
        return Decoded(
            images=images,
            sizes=np.array(sizes, np.int64).reshape(size, 2),
            targets=targets,
            weights=weights,
            ids=[rows.ids[index] for rows, index in picked],
            texts=[rows.texts[index] for rows, index in picked],
            sources=[rows.sources[index] for rows, index in picked],
            errors=errors,
            costs=Costs(
                images=len(picked),
                decode_s=spent,
                pixels=pixels,
                padded_pixels=size * images.shape[2] * images.shape[3],
            ),
        )

    def _token_ids(self, text: str) -> list[int]:
        """The target of a text; empty where it is too long to be one, for the longest decides the shape of the batch."""
        short = len(text) <= self.max_tokens or len(text.split()) <= self.max_tokens
        return self.tokenizer.encode(text) if short else []

    def _image(self, epoch: int, rows: Rows, index: int) -> np.ndarray:
        image = decode(rows.image(index), self.policy.colour, self.policy.background)
        self.policy.require(image)
        size = int(rows.widths[index]), int(rows.heights[index])
        if image.shape[1::-1] != size:
            raise BadImage(f"{image.shape[1]}x{image.shape[0]} pixels, its row says {size[0]}x{size[1]}")
        try:
            return augment(image, self.augmentation, self.seed, epoch, rows.ids[index])
        except Exception as error:  # one image ends no run; OpenCV, for one, cannot handle more than 32,767 pixels
            reason = error.err if isinstance(error, cv2.error) else f"{type(error).__name__}: {error}"
            raise BadImage(f"cannot be augmented: {reason}") from None


def joined(parts: Sequence[Decoded], policy: ImagePolicy, pad_id: int) -> Decoded:
    """Parts of one batch that were decoded apart, as one: padded to the largest."""
    if len(parts) == 1:
        return parts[0]
    shapes = [part.images.shape for part in parts]
    images = np.full(
        (sum(s[0] for s in shapes), policy.channels, max(s[2] for s in shapes), max(s[3] for s in shapes)),
        policy.background,
        np.uint8,
    )
    targets = np.full((len(images), max(part.targets.shape[1] for part in parts)), pad_id, np.int64)
    first = 0
    for part in parts:
        rows = slice(first, first + len(part.weights))
        images[rows, :, : part.images.shape[2], : part.images.shape[3]] = part.images
        targets[rows, : part.targets.shape[1]] = part.targets
        first = rows.stop
    costs = sum((part.costs for part in parts), Costs())
    costs.padded_pixels = len(images) * images.shape[2] * images.shape[3]
    return Decoded(
        images=images,
        sizes=np.concatenate([part.sizes for part in parts]),
        targets=targets,
        weights=np.concatenate([part.weights for part in parts]),
        ids=[name for part in parts for name in part.ids],
        texts=[text for part in parts for text in part.texts],
        sources=[source for part in parts for source in part.sources],
        errors={name: reason for part in parts for name, reason in part.errors.items()},
        costs=costs,
    )
