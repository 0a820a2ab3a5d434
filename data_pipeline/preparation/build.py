"""Building of datasets in parallel: one Ray Data task makes one shard, so any number of workers makes the same bytes."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import ray.data

from cluster.errors import UserError
from cluster.progress import progress
from cluster.redaction import printable
from data_pipeline.dataset.manifest import Manifest, Shard, Split
from data_pipeline.dataset.shards import Rejected, Row, write_shard
from data_pipeline.preparation.destination import Destination, destination, shard_name
from data_pipeline.preparation.images import BadImage, decode
from data_pipeline.preparation.ink import ink_size, inverted_line
from data_pipeline.preparation.target_survey import NoSurvey, TargetSurvey
from data_pipeline.storage.base import Storage

MAX_SIDE = 16_384  # pixels of an image's height or width, the most that a dataset is made with


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
    targets: Any  # what the survey of the task found in its targets
    ink_sizes: list[float]  # of some of its images, in pixels
    inverted: int


INK_SAMPLES = 64  # images of a shard whose ink is measured

Builder = Callable[[Chunk], tuple[list[Row], list[Rejected]]]


def build_dataset(
    out: Storage,
    manifest: Manifest,
    chunks: Sequence[Chunk],
    builder: Builder,
    overwrite: bool = False,
    unit: str = "images",
    survey: TargetSurvey | None = None,
) -> Manifest:
    """Build every chunk into a shard below `out` and write the manifest last: a dataset exists whole or not at all.

    `survey` says which targets cannot be used, whose rows are rejected, and what the manifest states of the others. How large
    the ink of the images is, at the median, becomes part of the image policy.

    Nothing is written to a shard that a dataset in this place has: one that `overwrite` replaces can be read until the new
    manifest takes the place of the old one; only then its shards are removed. Of two builds into one place, one is refused.

    `manifest` brings name, task, target, columns, image policy and preparation; splits, digest, the number of rejected inputs
    and what the survey adds to `target` come from what was built, which is returned.

    Raises:
        UserError: there is a dataset already and `overwrite` is off, nothing usable came out, or another process builds here.
        StorageError: `out` cannot be written.
    """
    with destination(out, overwrite) as place:
        return _build(place, manifest, chunks, builder, survey or NoSurvey(), unit)


def _build(
    place: Destination, manifest: Manifest, chunks: Sequence[Chunk], builder: Builder, survey: TargetSurvey, unit: str
) -> Manifest:
    built: list[BuiltShard] = []
    total = sum(chunk.inputs for chunk in chunks)
    sizes = {(chunk.split, chunk.number): chunk.inputs for chunk in chunks}
    with progress(total, unit, manifest.name) as bar:
        for shard in _run(chunks, functools.partial(_build_shard, place.storage, builder, survey, manifest, place.suffix)):
            place.claim.check()
            bar.update(sizes[shard.split, shard.number])
            built.append(shard)
    built.sort(key=lambda shard: (list(dict.fromkeys(c.split for c in chunks)).index(shard.split), shard.number))
    rejected = [row for shard in built for row in shard.rejected]
    splits = {
        name: Split(
            [shard.shard for shard in built if shard.split == name and shard.shard],
            survey.stats([shard.targets for shard in built if shard.split == name]),
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
    inverted = sum(shard.inverted for shard in built)
    if manifest.image.invert != "never":
        print(inverted_line(inverted, rows, manifest.image.invert))
    image = replace(manifest.image, ink_size=_median([size for shard in built for size in shard.ink_sizes]))
    target = survey.target(manifest.target, [shard.targets for shard in built])
    finished = replace(manifest, image=image, target=target, splits=splits, rejected=len(rejected), digest="")
    place.publish(finished, rejected)
    return finished


def _run(chunks: Sequence[Chunk], task: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    items = [{"chunk": pickle.dumps(chunk)} for chunk in chunks]
    results = ray.data.from_items(items, override_num_blocks=len(items)).map(task)
    for row in results.iter_rows():
        yield pickle.loads(row["built"])  # made by our own task a moment ago, never read from storage


def _build_shard(
    out: Storage, builder: Builder, survey: TargetSurvey, manifest: Manifest, suffix: str, row: dict[str, Any]
) -> dict[str, Any]:
    chunk: Chunk = pickle.loads(row["chunk"])
    made, rejected = builder(chunk)
    problems = [survey.problem(row.target) for row in made]
    rows = [row for row, problem in zip(made, problems, strict=True) if not problem]
    unusable = [Rejected(row.id, chunk.split, row.id, problem) for row, problem in zip(made, problems, strict=True) if problem]
    file = shard_name(chunk.split, chunk.number, suffix)
    built = BuiltShard(
        split=chunk.split,
        number=chunk.number,
        shard=write_shard(out, file, rows, manifest.columns) if rows else None,
        rejected=[*rejected, *unusable],
        targets=survey.of([row.target for row in rows]),
        ink_sizes=[] if manifest.image.fixed_width else _ink_sizes(rows),  # of images of one size nobody scales the ink
        inverted=sum(row.inverted for row in rows),
    )
    return {"built": pickle.dumps(built)}


def _ink_sizes(rows: Sequence[Row]) -> list[float]:
    """The known ink sizes of up to `INK_SAMPLES` rows, evenly spread."""
    sizes = []
    for row in rows[:: max(1, -(-len(rows) // INK_SAMPLES))]:
        try:
            sizes.append(ink_size(decode(row.image, "gray")))
        except BadImage:  # the builder did not check: readers of the dataset report it
            continue
    return [size for size in sizes if size]


def _median(sizes: list[float]) -> float:
    return round(float(np.median(sizes)), 2) if sizes else 0.0
