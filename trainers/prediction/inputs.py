"""What prediction reads: a dataset, a folder of images, one image, or a list of them. All become rows of `id` and `image`.

Rows of files have a column `problem`, too: why there is no image, or nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import pyarrow.fs as pafs
import ray.data

from cluster.errors import UserError
from data_pipeline.dataset.manifest import MANIFEST, Dataset, open_dataset
from data_pipeline.storage.base import Storage, fsspec_of, open_storage, storage_errors
from trainers.prediction.files import (
    LeftOut,
    Listing,
    SourceFile,
    described,
    is_local,
    read_file,
    read_or_problem,
    stamp_of,
)
from trainers.prediction.folder import list_folder
from trainers.prediction.kinds import HEAD_BYTES, looks_like_image, named_as_image
from trainers.prediction.lists import is_text, read_list
from trainers.prediction.names import id_of
from trainers.prediction.pool import read_rows

DEFAULT_SPLIT = "test"


class Inputs:
    """Ids in order, what identifies them, and a way to read some of them."""

    notes: Sequence[str] = ()  # what its user should know of it, a sentence each
    left_out: Sequence[LeftOut] = ()  # what lies beside the images
    prepared = False  # whether the images are those of a dataset

    @property
    def ids(self) -> Sequence[str]:
        """The id of each input, in the order of the output. Those of a dataset are read in a Ray session."""
        raise NotImplementedError

    @property
    def identity(self) -> dict[str, str]:
        """What tells these inputs from others; of files what their `stamps` say comes on top."""
        raise NotImplementedError

    @property
    def stamps(self) -> dict[str, str]:
        """Of files: by id, what tells one state of a file from another."""
        return {}

    @property
    def problems(self) -> dict[str, str]:
        """By id, why there is nothing to read, where that is known already."""
        return {}

    def read(self, wanted: set[str]) -> ray.data.Dataset:
        """Rows (id, image bytes) of the `wanted` ids, in any order; of files with the `problem` of those that cannot be read.

        Raises (once consumed):
            StorageError: the storage does not answer; no row is made of that, for another attempt may succeed.
        """
        raise NotImplementedError


def open_inputs(uri: str, split: str = "") -> Inputs:
    """The images at `uri`; `split` (default `test`) is of a dataset.

    Raises:
        UserError: nothing is there, nothing that holds images, or a split of what is no dataset.
    """
    storage = open_storage(uri)
    kind = _kind(storage)
    if kind == pafs.FileType.NotFound and not storage.is_local:
        storage.names()  # a bucket that is missing or closed to us says so here, by name
    if kind == pafs.FileType.NotFound:
        raise UserError(
            f"No images at '{uri}': it does not exist. Give a dataset, a folder of images, an image, or a list of them."
        )
    if kind != pafs.FileType.File and _kind(storage.child(MANIFEST)) == pafs.FileType.File:
        return DatasetInputs(open_dataset(uri), split or DEFAULT_SPLIT)
    if split and split != DEFAULT_SPLIT:
        raise UserError(f"'{uri}' is no dataset, so it has no split '{split}'. Leave --split out.")
    if kind == pafs.FileType.File:
        head = read_file(storage.filesystem, storage.path.encode(errors="surrogateescape"), HEAD_BYTES)
        if named_as_image(storage.name) or looks_like_image(head):
            return FileInputs(_one_image(storage))
        if not is_text(head):
            raise UserError(f"'{uri}' is neither a folder, nor an image, nor a list of images: it is not text.")
        return FileInputs(read_list(storage))
    if kind != pafs.FileType.Directory:
        raise UserError(f"'{uri}' is neither a folder nor a file.")
    listing = list_folder(storage)
    if not listing.files:
        raise UserError(f"No images below '{uri}': {'; '.join(described(listing.left_out)) or 'it is empty'}.")
    return FileInputs(listing)


def _kind(storage: Storage) -> pafs.FileType:
    if storage.is_local:  # pyarrow takes no name that is not UTF-8
        if os.path.isdir(storage.path):
            return pafs.FileType.Directory
        if os.path.isfile(storage.path):
            return pafs.FileType.File
        return pafs.FileType.Unknown if os.path.lexists(storage.path) else pafs.FileType.NotFound
    with storage_errors(storage):
        return storage.filesystem.get_file_info(storage.path).type


def _one_image(storage: Storage) -> Listing:
    with storage_errors(storage):
        inner = fsspec_of(storage.filesystem)
        if is_local(storage.filesystem):
            stamp = stamp_of(os.stat(storage.path))
        else:
            stamp = stamp_of(inner.info(storage.path) if inner else storage.filesystem.get_file_info(storage.path))
    file = SourceFile(id_of(storage.name), storage.path.encode(errors="surrogateescape"), stamp)
    return Listing([file], [storage.filesystem])


class DatasetInputs(Inputs):
    """A split of a dataset."""

    prepared = True

    def __init__(self, dataset: Dataset, split: str) -> None:
        self._dataset, self._part = dataset, dataset.manifest.filled_split(split)
        self._identity = {"kind": "dataset", "digest": dataset.manifest.digest, "split": split}

    @cached_property
    def ids(self) -> Sequence[str]:
        """Read in a Ray session."""
        return sorted(row["id"] for row in read_rows(self._dataset, self._part, ["id"]).iter_rows())

    @property
    def identity(self) -> dict[str, str]:
        """By the dataset's digest."""
        return self._identity

    def read(self, wanted: set[str]) -> ray.data.Dataset:
        """Rows (id, image)."""
        rows = read_rows(self._dataset, self._part, ["id", "image"])
        return rows if len(wanted) == len(self.ids) else rows.filter(lambda row: row["id"] in wanted)


class FileInputs(Inputs):
    """Files of a folder or a list."""

    def __init__(self, listing: Listing) -> None:
        self._listing, self.left_out = listing, listing.left_out
        self.notes = [*listing.notes, *described(listing.left_out)]

    @cached_property
    def ids(self) -> Sequence[str]:
        """In the order of the folder or list."""
        return [file.id for file in self._listing.files]

    @property
    def identity(self) -> dict[str, str]:
        """By the ids."""
        return {"kind": "files", "ids": "sha256:" + hashlib.sha256("\n".join(self.ids).encode()).hexdigest()}

    @cached_property
    def stamps(self) -> dict[str, str]:
        """From the listing."""
        return {file.id: file.stamp for file in self._listing.files}

    @cached_property
    def problems(self) -> dict[str, str]:
        """From the listing."""
        return {file.id: file.problem for file in self._listing.files if file.problem}

    def read(self, wanted: set[str]) -> ray.data.Dataset:
        """Rows (id, image, problem)."""
        items = self.items(wanted)
        blocks = max(1, min(len(items) // 64, 1000))
        return ray.data.from_items(items, override_num_blocks=blocks).map_batches(self.reader(), num_cpus=0.5)

    def items(self, wanted: set[str]) -> list[dict[str, Any]]:
        """What `reader` takes, of the `wanted` ids."""
        files = (file for file in self._listing.files if file.id in wanted)
        return [{"id": file.id, "path": file.path, "at": file.at, "problem": file.problem} for file in files]

    def reader(self) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """The function that reads a batch of `items`; it runs on any machine."""
        filesystems = self._listing.filesystems

        def read_bytes(batch: dict[str, Any]) -> dict[str, Any]:
            images, problems = [], []
            for path, at, known in zip(batch["path"], batch["at"], batch["problem"], strict=True):
                data, problem = (b"", known) if known else read_or_problem(filesystems[int(at)], bytes(path))
                images.append(data)
                problems.append(problem)
            return {"id": batch["id"], "image": images, "problem": problems}

        return read_bytes


__all__ = ["DEFAULT_SPLIT", "DatasetInputs", "FileInputs", "Inputs", "open_inputs"]
