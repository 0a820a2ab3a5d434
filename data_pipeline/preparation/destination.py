"""The folder that a dataset is written into: claimed, and what it replaces stays readable until the new manifest is there."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.manifest import MANIFEST, REJECTED, DatasetError, Manifest
from data_pipeline.dataset.shards import Rejected, write_rejected
from data_pipeline.storage.base import Storage
from data_pipeline.storage.claim import Claim, claim

HISTORY = "corrections.parquet"  # of a dataset whose labels were corrected
UNFINISHED = ".unfinished"  # of a preparation that did not end: the suffix of its shards, which may be replaced
_SHARD = re.compile(r"part-\d{5}((?:-\d{1,9})?)\.parquet")


@dataclass(frozen=True)
class Destination:
    """A claimed folder; the names of new shards have a `suffix`, so that they are not those of a dataset that is replaced."""

    storage: Storage
    suffix: str
    claim: Claim
    old: Sequence[str]  # shards of the dataset that is replaced

    def publish(self, manifest: Manifest, rejected: Sequence[Rejected], history: bytes = b"") -> None:
        """Write the list of rejected inputs and the history of corrections, then the manifest; then remove what it replaces:
        the shards of the dataset that was there, and its history where the new one has none.

        Raises:
            InUse: another process has taken the folder over.
            StorageError: it cannot be written.
        """
        self.claim.check()
        write_rejected(self.storage.child(REJECTED), rejected)
        if history:
            self.storage.child(HISTORY).write_bytes(history)
        self.storage.child(MANIFEST).write_bytes(manifest.to_json())
        if not history:
            self.storage.child(HISTORY).delete()
        new = {shard.file for split in manifest.splits.values() for shard in split.shards}
        for file in self.old:
            if file not in new:
                self.storage.child(file).delete()
        self.storage.child(UNFINISHED).delete()


@contextlib.contextmanager
def destination(out: Storage, overwrite: bool) -> Iterator[Destination]:
    """Claim the folder `out` for a new dataset, which exists once it is published.

    No file is replaced that is not of a dataset here, nor of a preparation that did not end. With `overwrite`, the lists beside
    the manifest are, whoever wrote them, but no shard.

    Raises:
        UserError: there is a dataset or another's file already and `overwrite` is off, or another process writes one here.
        StorageError: `out` cannot be written.
    """
    _require_free(out, overwrite)
    with claim(out, "preparation of a dataset") as held:
        _require_free(out, overwrite)  # another process may have finished one in the meantime
        old = _files_of(out)
        suffix = _free_suffix(out, old)
        out.child(UNFINISHED).write_bytes(suffix.encode())
        yield Destination(out, suffix, held, old)


def require_apart(source: Path, out: Storage, splits: Iterable[str] = ()) -> None:
    """Check that a dataset at `out` with these splits is not among the files that it is made of.

    Raises:
        UserError: `out` is the folder `source` or inside it, or that is in the folder of a split.
    """
    try:
        apart = not out.is_local or not source.is_dir()
    except (OSError, ValueError):  # a name too long, say: the reader of the source says so
        apart = True
    if apart:
        return
    place, folder = Path(out.path).resolve(), source.resolve()
    where = "is SOURCE" if place == folder else "is inside SOURCE" if folder in place.parents else ""
    if mixed := [split for split in splits if place / split in (folder, *folder.parents)]:
        where = f"has a folder for the split '{mixed[0]}', where SOURCE is"
    if where:
        raise UserError(f"OUT '{out.shown}' {where}: files of both would be mixed. Choose a folder beside SOURCE.")


def shard_name(split: str, number: int, suffix: str) -> str:
    """The name of shard `number` of a split."""
    return f"{split}/part-{number:05d}{suffix}.parquet"


def _require_free(out: Storage, overwrite: bool) -> None:
    if overwrite:
        return
    if out.child(MANIFEST).exists():
        raise UserError(f"'{out.shown}' holds a dataset already. Choose another place, or pass --overwrite.")
    if out.child(UNFINISHED).exists():
        return
    lists = [name for name in (REJECTED, HISTORY) if out.child(name).exists()]
    if foreign := [*lists, *_shards_in(out)]:
        raise UserError(
            f"'{out.shown}' holds no dataset, but {printable(foreign[0])}, which is not of an unfinished preparation either. "
            f"Choose another place, or pass --overwrite: {REJECTED} and {HISTORY} are replaced, all else stays."
        )


def _shards_in(out: Storage) -> list[str]:
    """The files below `out` that have names of shards, whoever wrote them."""
    files = out.sizes()
    folders = [name for name in out.names() if name not in files and name.isprintable() and not name.startswith(".")]
    return [f"{name}/{file}" for name in folders for file in sorted(out.child(name).sizes()) if _SHARD.fullmatch(file)]


def _files_of(out: Storage) -> list[str]:
    """The shards of the dataset at `out`; none of a damaged one, which cannot be read anyway."""
    if not out.child(MANIFEST).exists():
        return []
    try:
        splits = Manifest.from_json(out.child(MANIFEST).read_bytes(), out.uri).splits
    except DatasetError:
        return []
    return [shard.file for split in splits.values() for shard in split.shards]


def _free_suffix(out: Storage, old: Sequence[str]) -> str:
    """The suffix of new shards: that of a preparation that did not end, or one that no shard has: nothing, `-1`, `-2`, ..."""
    marker = out.child(UNFINISHED)
    left = marker.read_bytes().decode("ascii", "replace") if marker.exists() else None
    if left is not None and re.fullmatch(r"(-\d+)?", left) and left not in map(_suffix_of, old):
        return left
    numbers = [int(suffix[1:] or 0) for suffix in map(_suffix_of, (*old, *_shards_in(out))) if suffix is not None]
    return f"-{max(numbers) + 1}" if numbers else ""


def _suffix_of(file: str) -> str | None:
    """The suffix of a shard; None of another file."""
    match = _SHARD.fullmatch(file.rpartition("/")[2])
    return None if match is None else match[1]
