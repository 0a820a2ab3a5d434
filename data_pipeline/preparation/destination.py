"""The folder that a dataset is written into: claimed, and what it replaces stays readable until the new manifest is there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cluster.errors import UserError
from data_pipeline.dataset.manifest import MANIFEST, REJECTED, DatasetError, Manifest
from data_pipeline.dataset.shards import Rejected, write_rejected
from data_pipeline.storage.base import Storage
from data_pipeline.storage.claim import Claim, claim


@dataclass(frozen=True)
class Destination:
    """A claimed folder; the names of new shards have a `suffix`, so that they are not those of a dataset that is replaced."""

    storage: Storage
    suffix: str
    claim: Claim
    old: Sequence[str]  # shards of the dataset that is replaced

    def publish(self, manifest: Manifest, rejected: Sequence[Rejected]) -> None:
        """Write the list of rejected inputs, then the manifest; then remove the shards of the dataset that it replaces.

        Raises:
            InUse: another process has taken the folder over.
            StorageError: it cannot be written.
        """
        self.claim.check()
        write_rejected(self.storage.child(REJECTED), rejected)
        self.storage.child(MANIFEST).write_bytes(manifest.to_json())
        new = {shard.file for split in manifest.splits.values() for shard in split.shards}
        for file in self.old:
            if file not in new:
                self.storage.child(file).delete()


@contextlib.contextmanager
def destination(out: Storage, overwrite: bool) -> Iterator[Destination]:
    """Claim the folder `out` for a new dataset, which exists once it is published.

    Raises:
        UserError: there is a dataset already and `overwrite` is off, or another process writes one here.
        StorageError: `out` cannot be written.
    """
    _require_free(out, overwrite)
    with claim(out, "preparation of a dataset") as held:
        _require_free(out, overwrite)  # another process may have finished one in the meantime
        old = _files_of(out)
        yield Destination(out, _suffix(old), held, old)


def shard_name(split: str, number: int, suffix: str) -> str:
    """The name of shard `number` of a split."""
    return f"{split}/part-{number:05d}{suffix}.parquet"


def _require_free(out: Storage, overwrite: bool) -> None:
    if not overwrite and out.child(MANIFEST).exists():
        raise UserError(f"'{out.shown}' holds a dataset already. Choose another place, or pass --overwrite.")


def _files_of(out: Storage) -> list[str]:
    """The shards of the dataset at `out`; none of a damaged one, which cannot be read anyway."""
    if not out.child(MANIFEST).exists():
        return []
    try:
        splits = Manifest.from_json(out.child(MANIFEST).read_bytes(), out.uri).splits
    except DatasetError:
        return []
    return [shard.file for split in splits.values() for shard in split.shards]


def _suffix(old: Sequence[str]) -> str:
    """The suffix that distinguishes names of new shards from those of `old` ones: nothing, then `-1`, `-2`, ..."""
    numbers = [int(match[1] or 0) for file in old if (match := re.search(r"part-\d{5}(?:-(\d+))?\.parquet$", file))]
    return f"-{max(numbers) + 1}" if numbers else ""
