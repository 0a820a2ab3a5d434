"""What prediction reads: a dataset, a folder of images, or a manifest that lists them. All become rows of `id` and `image`.

Rows of files have a column `problem`, too: why there is no image, or nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import ray.data

from cluster.errors import UserError
from data_pipeline.manifest import MANIFEST, open_dataset
from data_pipeline.storage import Storage, StorageError, open_storage, storage_errors
from trainers.judge import read_rows

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Inputs:
    """Ids in order, and a way to read some of them."""

    ids: Sequence[str]
    digest: str
    _source: Any
    prepared: bool = False  # rows of a dataset

    def read(self, wanted: set[str]) -> ray.data.Dataset:
        """Rows (id, image bytes) of the `wanted` ids, in any order. A file that does not exist has that as its `problem`.

        Raises (once consumed):
            StorageError: the storage cannot be read; no row is made of that, for another attempt may succeed.
        """
        data: ray.data.Dataset = self._source(wanted)
        return data


def open_inputs(uri: str, split: str) -> Inputs:
    """The images at `uri`; `split` matters for a dataset only.

    Raises:
        UserError: nothing is there, or nothing that holds images.
    """
    storage = open_storage(uri)
    if storage.child(MANIFEST).exists():
        return _dataset(uri, split)
    names = storage.names() if not _is_file(storage) else []
    if names:
        return _files(storage, _images_below(storage))
    if storage.exists():
        return _files(*_listed(storage))
    raise UserError(f"No images at '{uri}': it does not exist. Give a dataset, a folder of images, or a file that lists them.")


def _is_file(storage: Storage) -> bool:
    import pyarrow.fs as pafs

    with storage_errors(storage):
        return bool(storage.filesystem.get_file_info(storage.path).type == pafs.FileType.File)


def _dataset(uri: str, split: str) -> Inputs:
    dataset = open_dataset(uri)
    part = dataset.manifest.filled_split(split)
    ids = [row["id"] for row in read_rows(dataset, part, ["id"]).iter_rows()]

    def read(wanted: set[str]) -> ray.data.Dataset:
        rows = read_rows(dataset, part, ["id", "image"])
        return rows if len(wanted) == len(ids) else rows.filter(lambda row: row["id"] in wanted)

    return Inputs(sorted(ids), _digest(ids), read, prepared=True)


def _images_below(storage: Storage) -> list[str]:
    import pyarrow.fs as pafs

    with storage_errors(storage):
        infos = storage.filesystem.get_file_info(pafs.FileSelector(storage.path, recursive=True))
    names = [str(PurePosixPath(info.path).relative_to(storage.path)) for info in infos if info.is_file]
    images = sorted(name for name in names if name.lower().endswith(IMAGE_SUFFIXES))
    if not images:
        raise UserError(f"No images below '{storage.uri}': no file ends in {', '.join(IMAGE_SUFFIXES)}.")
    return images


def _listed(file: Storage) -> tuple[Storage, list[str]]:
    """A manifest: a path a line (the first column of a TSV), relative to the manifest's folder or its folder `images`."""
    folder = file.parent
    try:
        lines = [line.split("\t")[0].strip() for line in file.read_bytes().decode("utf-8").splitlines()]
    except UnicodeDecodeError:
        raise UserError(f"'{file.uri}' is neither a folder nor a list of images: it is not UTF-8 text.") from None
    names = [line for line in lines if line]
    if not names:
        raise UserError(f"'{file.uri}' lists no images.")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"'{file.uri}' lists '{twice}' twice. Each image is predicted once: remove one.")
    if not folder.follow(names[0]).exists() and folder.child("images").follow(names[0]).exists():
        return folder.child("images"), names
    return folder, names


def _files(folder: Storage, names: list[str]) -> Inputs:
    def read_bytes(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        images, problems = [], []
        for name in batch["id"]:
            data, problem = b"", ""
            try:
                data = folder.follow(str(name)).read_bytes()
            except StorageError as error:
                if not error.missing:
                    raise
                problem = "does not exist"
            images.append(data)
            problems.append(problem)
        return {"id": batch["id"], "image": images, "problem": problems}

    def read(wanted: set[str]) -> ray.data.Dataset:
        items = [{"id": name} for name in names if name in wanted]
        blocks = max(1, min(len(items) // 64, 1000))
        return ray.data.from_items(items, override_num_blocks=blocks).map_batches(read_bytes, num_cpus=0.5)

    return Inputs(names, _digest(names), read)


def _digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
