"""The images of a dataset's folds: where each lies, its perceptual hash, and a small copy to look at."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from cluster.progress import progress
from data_pipeline.dataset.manifest import Dataset, RowGroup
from data_pipeline.dataset.perceptual_hash import hash_of, thumbnail
from data_pipeline.dataset.row_groups import read_row_groups
from data_pipeline.dataset.schema import IMAGE
from data_pipeline.preparation.images import BadImage, decode
from trainers.config.data import fold_name

PICTURE_SIDE = 256  # pixels


@dataclass
class FoldImages:
    """The rows of a dataset's folds in the order of the files.

    `rows` have id, fold, source and labels; `groups` are the row groups that hold them. Where images were hashed, `hashes` are
    uint64 (N,) and `thumbnails` uint8 (N, 32, 32), and `bad` says why an image could not be decoded, by id.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    groups: list[RowGroup] = field(default_factory=list)
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    thumbnails: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    bad: dict[str, str] = field(default_factory=dict)


def scan_folds(dataset: Dataset, hashed: bool) -> FoldImages:
    """Read all folds once, one row group in memory; `hashed`: their images, too.

    Images that cannot be decoded are among the rows only where images are not hashed.

    Raises:
        DatasetError: a shard is not as the manifest describes it.
        StorageError: a shard cannot be read.
    """
    manifest = dataset.manifest
    columns = ["id", "source", *manifest.columns, *([IMAGE] if hashed else [])]
    found, hashes, small = FoldImages(), [], []
    splits = {fold: manifest.split(fold_name(fold)) for fold in range(manifest.folds)}
    with progress(sum(split.rows for split in splits.values()), "images", "compare") as bar:
        for fold, split in splits.items():
            groups = split.row_groups()
            for group, table in zip(groups, read_row_groups(dataset.storage, groups, columns), strict=True):
                for row in table.to_pylist():
                    bar.update()
                    if hashed:
                        try:
                            pixels = decode(row.pop(IMAGE), manifest.image.color, manifest.image.background)
                        except BadImage as reason:
                            found.bad[row["id"]] = str(reason)
                            continue
                        small.append(thumbnail(pixels))
                        hashes.append(hash_of(small[-1]))
                    found.rows.append({**row, "fold": fold})
                    found.groups.append(group)
    if hashed and small:
        found.hashes, found.thumbnails = np.array(hashes, np.uint64), np.stack(small)
    return found


def pictures(dataset: Dataset, found: FoldImages, ids: Collection[str]) -> Mapping[str, np.ndarray]:
    """Small copies of the images with these ids, uint8 (H, W[, 3]); those that cannot be decoded are left out."""
    wanted = set(ids)
    groups = dict.fromkeys(group for row, group in zip(found.rows, found.groups, strict=True) if row["id"] in wanted)
    policy, copies = dataset.manifest.image, {}
    for table in read_row_groups(dataset.storage, list(groups), ["id", IMAGE]):
        for name, image in zip(table.column("id").to_pylist(), table.column(IMAGE), strict=True):
            if name in wanted:
                try:
                    copies[name] = _small(decode(image.as_py(), policy.color, policy.background))
                except BadImage:
                    continue
    return copies


def _small(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    if scale == 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
