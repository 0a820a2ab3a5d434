"""The manifest of a dataset, `dataset.json`. Nothing is inferred from folder names, sort order or file footers."""

from __future__ import annotations

import builtins
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from cluster.errors import UserError
from cluster.redaction import printable, redacted
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.integrity import CHECK_BYTES
from data_pipeline.dataset.schema import shard_schema
from data_pipeline.dataset.schema_versions import READ_VERSIONS, SCHEMA_VERSION, content_digest, upgraded
from data_pipeline.dataset.target_stats import joined_stats
from data_pipeline.storage.base import Storage, StorageError, open_storage
from data_pipeline.storage.uris import invalid_name

MANIFEST = "dataset.json"
REJECTED = "rejected.parquet"


class DatasetError(UserError):
    """A dataset that cannot be used, with the reason."""


class Extent(NamedTuple):
    """The size of a row group, known without reading it.

    It has `rows` rows, none wider than `width` or higher than `height` pixels, and all its images take `bytes`, encoded. Height
    and bytes of datasets made before they were kept are 0: not known.
    """

    rows: int
    width: int
    height: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class RowGroup:
    """Row group number `index` of the shard `file`, and what shows that it is the one that was prepared.

    `check` are its digests (`data_pipeline.dataset.integrity`); where they are not known, `sha256` is the shard's.
    """

    file: str
    index: int
    extent: Extent
    sha256: str = ""
    check: bytes = b""

    def unchecked(self) -> RowGroup:
        """The same row group for a reader that has checked it before."""
        return RowGroup(self.file, self.index, self.extent)


@dataclass(frozen=True)
class Shard:
    """One Parquet file of a split and its row groups in order.

    `checks` are the digests of all row groups (`data_pipeline.dataset.integrity`) in hexadecimal, one after the other; empty in
    datasets made before they were kept.
    """

    file: str
    row_groups: list[Extent]
    bytes: int
    sha256: str
    checks: str = ""

    def check(self, index: int) -> builtins.bytes:
        """The digests of row group number `index`; empty if they are not known."""
        return builtins.bytes.fromhex(self.checks[2 * CHECK_BYTES * index : 2 * CHECK_BYTES * (index + 1)])

    @property
    def rows(self) -> int:
        """The number of rows in this shard."""
        return sum(extent.rows for extent in self.row_groups)


@dataclass(frozen=True)
class Split:
    """The shards of a split, and what its task has measured of its targets, such as {"max_tokens": 57}."""

    shards: list[Shard]
    target_stats: dict[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of rows in this split."""
        return sum(shard.rows for shard in self.shards)

    def row_groups(self) -> list[RowGroup]:
        """All row groups, in the order of the files."""
        return [
            RowGroup(shard.file, index, extent, shard.sha256, shard.check(index))
            for shard in self.shards
            for index, extent in enumerate(shard.row_groups)
        ]


@dataclass(frozen=True)
class Manifest:
    """The contents of `dataset.json`.

    `target` belongs to the task: {"charset": [...]} of a sequence dataset. `columns` are the task's columns of every shard,
    name to Arrow type.
    """

    name: str
    task: str
    target: dict[str, Any]
    columns: dict[str, str]
    image: ImagePolicy
    splits: dict[str, Split]
    rejected: int
    preparation: dict[str, Any]
    license: str = ""
    schema_version: int = SCHEMA_VERSION
    digest: str = field(default="")

    def __post_init__(self) -> None:
        # Frozen: the digest follows from the shards and is set here, once.
        object.__setattr__(self, "digest", self.digest or self._digest())

    def _digest(self) -> str:
        shards = [(shard.file, shard.sha256) for split in self.splits.values() for shard in split.shards]
        return content_digest(self.task, self.target, self.columns, self.image, shards)

    @property
    def charset(self) -> list[str]:
        """The tokens of a sequence dataset in their declared order.

        Raises:
            DatasetError: the dataset is of another task.
        """
        if "charset" not in self.target:
            raise DatasetError(
                f"Dataset '{self.name}' has no charset: it is damaged, or not of the task 'sequence' (its task: '{self.task}')."
            )
        charset: list[str] = self.target["charset"]
        return charset

    @property
    def folds(self) -> int:
        """The number of folds for cross-validation, the splits `fold-0`, `fold-1`, ...; 0 if there are none."""
        return next(number for number in itertools.count() if f"fold-{number}" not in self.splits)

    def missing_splits(self, name: str) -> list[str]:
        """The splits that `name` refers to and the dataset does not have; a joined name (`fold-0+fold-2`) refers to several."""
        return [part for part in self._parts(name) if part not in self.splits]

    def split(self, name: str) -> Split:
        """The split `name`, or several splits read as one: `fold-0+fold-2` has the shards of both, in this order.

        Raises:
            DatasetError: there is no such split; the message lists those that exist. Or one is named twice.
        """
        if missing := self.missing_splits(name):
            raise DatasetError(f"Dataset '{self.name}' has no split '{missing[0]}'. It has: {', '.join(self.splits)}.")
        parts = self._parts(name)
        if len(parts) == 1:
            return self.splits[name]
        if len(set(parts)) < len(parts):
            raise DatasetError(f"'{name}' names a split of dataset '{self.name}' twice: each row would be read twice.")
        joined = [self.splits[part] for part in parts]
        shards = [shard for split in joined for shard in split.shards]
        return Split(shards, joined_stats([split.target_stats for split in joined]))

    def _parts(self, name: str) -> list[str]:
        return [name] if name in self.splits else name.split("+")

    def filled_split(self, name: str) -> Split:
        """The split `name`, or several joined, which must have rows.

        Raises:
            DatasetError: there is no such split, or it is empty.
        """
        split = self.split(name)
        if not split.rows:
            filled = ", ".join(other for other, part in self.splits.items() if part.rows)
            raise DatasetError(f"Split '{name}' of dataset '{self.name}' is empty. With rows: {filled or 'none'}.")
        return split

    def to_json(self) -> bytes:
        """The bytes of `dataset.json`, with secrets removed from the preparation's configuration."""
        content = asdict(self) | {"preparation": redacted(self.preparation)}
        return json.dumps(content, ensure_ascii=False, indent=1).encode()

    @classmethod
    def from_json(cls, data: bytes, uri: str) -> Manifest:
        """Read `dataset.json`.

        Raises:
            DatasetError: it is not JSON, of another schema version, or incomplete.
        """
        try:
            content = json.loads(data)
            version = content["schema_version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise DatasetError(
                f"{MANIFEST} of '{uri}' cannot be read: it is not a manifest. Prepare the dataset again."
            ) from None
        if version not in READ_VERSIONS:
            raise DatasetError(
                f"Dataset '{uri}' has schema version {version}, this Inkray reads versions {_listed(READ_VERSIONS)}. "
                "Prepare it again with `python -m data_pipeline.prepare` or `synthesize`, or use the Inkray that made it."
            )
        try:
            content = upgraded(content)
            shard_schema(content["columns"])
            if not isinstance(content["task"], str):
                raise ValueError("task is not a name")
            charset = content["target"].get("charset", [])
            if not isinstance(charset, list) or not all(isinstance(token, str) for token in charset):
                raise ValueError("charset is not a list of texts")
            content["image"] = ImagePolicy.from_json(content["image"])
            content["splits"] = {
                name: Split([_shard(shard) for shard in split["shards"]], dict(split["target_stats"]))
                for name, split in content["splits"].items()
            }
            return cls(**content)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise DatasetError(
                f"{MANIFEST} of '{uri}' is incomplete or damaged ({error}). Prepare the dataset again."
            ) from None


def _listed(versions: Sequence[int]) -> str:
    return " and ".join(map(str, versions))


def _shard(content: dict[str, Any]) -> Shard:
    if problem := invalid_name(content["file"]):  # a manifest is a file that anyone may have written
        raise ValueError(f"shard '{printable(content['file'])}': {problem}")
    extents = [Extent(*map(int, values)) for values in content["row_groups"]]
    checks = str(content.get("checks", ""))
    if len(bytes.fromhex(checks)) != CHECK_BYTES * len(extents) * bool(checks):
        raise ValueError(f"shard '{content['file']}' has {len(extents)} row groups and other checks")
    return Shard(content["file"], extents, content["bytes"], content["sha256"], checks)


@dataclass(frozen=True)
class Dataset:
    """A manifest and the storage that holds its shards."""

    storage: Storage
    manifest: Manifest


def open_dataset(uri: str) -> Dataset:
    """Open the dataset at `uri`.

    Raises:
        DatasetError: there is no dataset, or one that this version cannot read.
        StorageError: the storage cannot be reached or read.
    """
    storage = open_storage(uri)
    file = storage.child(MANIFEST)
    if not file.exists():
        if not storage.is_local:
            storage.names()  # raises if the bucket is missing or access is denied, by name
        raise DatasetError(
            f"No dataset at '{uri}': there is no {MANIFEST}. Check `data.dataset`, or make one of your own "
            "images with `python -m data_pipeline.prepare`, or of made ones with `python -m data_pipeline.synthesize`."
        )
    return Dataset(storage, Manifest.from_json(file.read_bytes(), uri))


__all__ = ["Dataset", "DatasetError", "Extent", "Manifest", "RowGroup", "Shard", "Split", "StorageError", "open_dataset"]
