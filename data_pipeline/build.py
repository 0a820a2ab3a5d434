"""From inputs to a dataset, in parallel: one Ray Data task makes one shard, so any number of workers makes the same bytes."""

from __future__ import annotations

import functools
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.data

from cluster.errors import UserError
from cluster.progress import progress
from cluster.redaction import printable
from data_pipeline.claim import claim
from data_pipeline.manifest import MANIFEST, REJECTED, SCHEMA_VERSION, DatasetError, Manifest, Shard, Split
from data_pipeline.shards import Rejected, Row, write_rejected, write_shard
from data_pipeline.storage import Storage


@dataclass(frozen=True)
class Chunk:
    """The inputs of one shard: `inputs` of them, described by `work`, which the builder understands."""

    split: str
    number: int
    inputs: int
    work: Any


@dataclass(frozen=True)
class BuiltShard:
    """A finished shard and what became of its inputs."""

    split: str
    number: int
    shard: Shard | None  # None when every input was rejected
    rejected: list[Rejected]
    tokens: set[str]
    max_tokens: int


Builder = Callable[[Chunk], tuple[list[Row], list[Rejected]]]


def build_dataset(
    out: Storage,
    manifest: Manifest,
    chunks: Sequence[Chunk],
    builder: Builder,
    overwrite: bool = False,
    unit: str = "images",
) -> Manifest:
    """Build every chunk into a shard below `out` and write the manifest last: a dataset is there whole or not at all.

    Nothing is written to a file that a dataset in this place has: one that `overwrite` replaces can be read until the new
    manifest takes the place of the old one; only then its shards are removed. Of two builds into one place, one is refused.

    `manifest` brings name, image policy, charset (empty: the sorted tokens that occur) and preparation; splits, digest and the
    number of rejected inputs come from what was built, which is returned.

    Raises:
        UserError: there is a dataset already and `overwrite` is off, nothing usable came out, or another process builds here.
        StorageError: `out` cannot be written.
    """
    _require_free(out, overwrite)
    with claim(out, "preparation of a dataset"):
        _require_free(out, overwrite)  # another process may have finished one in the meantime
        old = _files_of(out)
        finished = _build(out, manifest, chunks, builder, unit, _suffix(old))
        new = {shard.file for split in finished.splits.values() for shard in split.shards}
        for file in old:
            if file not in new:
                out.child(file).delete()
    return finished


def _require_free(out: Storage, overwrite: bool) -> None:
    if not overwrite and out.child(MANIFEST).exists():
        raise UserError(f"'{out.shown}' holds a dataset already. Choose another place, or pass --overwrite.")


def _build(out: Storage, manifest: Manifest, chunks: Sequence[Chunk], builder: Builder, unit: str, suffix: str) -> Manifest:
    built: list[BuiltShard] = []
    total = sum(chunk.inputs for chunk in chunks)
    sizes = {(chunk.split, chunk.number): chunk.inputs for chunk in chunks}
    with progress(total, unit, manifest.name) as bar:
        for shard in _run(out, chunks, builder, suffix):
            bar.update(sizes[shard.split, shard.number])
            built.append(shard)
    built.sort(key=lambda shard: (list(dict.fromkeys(c.split for c in chunks)).index(shard.split), shard.number))
    rejected = [row for shard in built for row in shard.rejected]
    splits = {
        name: Split(
            [shard.shard for shard in built if shard.split == name and shard.shard],
            max((shard.max_tokens for shard in built if shard.split == name), default=0),
        )
        for name in dict.fromkeys(chunk.split for chunk in chunks)
    }
    rows = sum(split.rows for split in splits.values())
    if rows == 0:
        raise UserError(
            f"None of the {total} inputs could be used; the first: {printable(rejected[0].path)}: {rejected[0].reason}."
        )
    if rows + len(rejected) != total:
        raise RuntimeError(f"{total} inputs became {rows} rows and {len(rejected)} rejections")
    charset = manifest.charset or sorted(set().union(*(shard.tokens for shard in built)))
    finished = replace(
        manifest, charset=charset, splits=splits, rejected=len(rejected), schema_version=SCHEMA_VERSION, digest=""
    )
    write_rejected(out.child(REJECTED), rejected)
    out.child(MANIFEST).write_bytes(finished.to_json())
    return finished


def _files_of(out: Storage) -> list[str]:
    """The shards of the dataset that is there; none of a damaged one, which cannot be read anyway."""
    if not out.child(MANIFEST).exists():
        return []
    try:
        splits = Manifest.from_json(out.child(MANIFEST).read_bytes(), out.uri).splits
    except DatasetError:
        return []
    return [shard.file for split in splits.values() for shard in split.shards]


def _suffix(old: Sequence[str]) -> str:
    """What tells the names of new shards from those of `old` ones: nothing, then `-1`, `-2`, ..."""
    numbers = [int(match[1] or 0) for file in old if (match := re.search(r"part-\d{5}(?:-(\d+))?\.parquet$", file))]
    return f"-{max(numbers) + 1}" if numbers else ""


def _run(out: Storage, chunks: Sequence[Chunk], builder: Builder, suffix: str) -> Any:
    task = functools.partial(_build_shard, out, builder, suffix)
    items = [{"chunk": pickle.dumps(chunk)} for chunk in chunks]
    results = ray.data.from_items(items, override_num_blocks=len(items)).map(task)
    for row in results.iter_rows():
        yield pickle.loads(row["built"])  # made by our own task a moment ago, never read from storage


def _build_shard(out: Storage, builder: Builder, suffix: str, row: dict[str, Any]) -> dict[str, Any]:
    chunk: Chunk = pickle.loads(row["chunk"])
    rows, rejected = builder(chunk)
    lengths = [row.text.split() for row in rows]
    file = f"{chunk.split}/part-{chunk.number:05d}{suffix}.parquet"
    built = BuiltShard(
        split=chunk.split,
        number=chunk.number,
        shard=write_shard(out, file, rows) if rows else None,
        rejected=rejected,
        tokens=set().union(*lengths) if lengths else set(),
        max_tokens=max(map(len, lengths), default=0),
    )
    return {"built": pickle.dumps(built)}
