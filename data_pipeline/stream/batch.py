"""Rows to a batch: padded pixels, padded token ids, weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from data_pipeline.images import ImagePolicy
from data_pipeline.stream.plan import Position
from data_pipeline.tokenizer import Tokenizer

WIDTH_MULTIPLE = 32  # padded widths are multiples of this, so that few different shapes occur


@dataclass(frozen=True)
class Batch:
    """One rank's part of a global batch. B rows, some of which may be padding: their `weights` are 0.

    Shapes:
        images: uint8 (B, C, H, W); widths: int64 (B,), the true widths in pixels.
        targets: int64 (B, T), `<bos>` ... `<eos>` `<pad>` ...
        weights: float32 (B,), 1 for a sample, 0 for padding or an image that could not be decoded.
    """

    images: np.ndarray
    widths: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    ids: list[str]
    texts: list[str]
    sources: list[str]
    position: Position  # where the run stands once this batch is done
    global_size: int = 0  # samples of the global batch, over all ranks
    errors: dict[str, str] = field(default_factory=dict)  # id -> why the image could not be used

    def __len__(self) -> int:
        return len(self.weights)


def pad_images(images: Sequence[np.ndarray], policy: ImagePolicy) -> tuple[np.ndarray, np.ndarray]:
    """Images of a policy, uint8 (H, W[, C]), as one padded on the right, uint8 (B, C, H, W), and their widths int64 (B,)."""
    widths = np.array([image.shape[1] for image in images], np.int64)
    width = -(-int(widths.max(initial=1)) // WIDTH_MULTIPLE) * WIDTH_MULTIPLE
    padded = np.full((len(images), policy.channels, policy.height, width), policy.background, np.uint8)
    for index, image in enumerate(images):
        padded[index, :, :, : image.shape[1]] = image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)
    return padded, widths


def collate(
    table: pa.Table, size: int, policy: ImagePolicy, tokenizer: Tokenizer, position: Position, global_size: int
) -> Batch:
    """Make a batch of `size` rows from the rows of `table` (DECODED_SCHEMA), filled up with blank rows of weight 0."""
    rows = table.to_pylist()
    pictures = [np.full((policy.height, WIDTH_MULTIPLE, policy.channels), policy.background, np.uint8)] * size
    weights = np.zeros(size, np.float32)
    encoded = [tokenizer.encode(row["text"]) for row in rows]
    length = max([len(ids) for ids in encoded], default=2)
    targets = np.full((size, length), tokenizer.pad_id, np.int64)
    targets[:, :2] = tokenizer.bos_id, tokenizer.eos_id
    errors = {}
    for index, (row, ids) in enumerate(zip(rows, encoded, strict=True)):
        if row["error"]:
            errors[row["id"]] = row["error"]
            continue
        pictures[index] = np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], row["width"], -1)
        weights[index] = 1
        targets[index, : len(ids)] = ids
    images, widths = pad_images(pictures, policy)
    return Batch(
        images=images,
        widths=widths,
        targets=targets,
        weights=weights,
        ids=[row["id"] for row in rows],
        texts=[row["text"] for row in rows],
        sources=[row["source"] for row in rows],
        position=position,
        global_size=global_size,
        errors=errors,
    )
