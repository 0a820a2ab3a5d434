"""Application of corrected labels: a dataset with the same rows and images, other labels, and a record of what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cluster.errors import UserError
from cluster.progress import progress
from data_pipeline.dataset.manifest import Dataset, DatasetError, Manifest, Shard, Split
from data_pipeline.dataset.row_groups import iter_row_groups
from data_pipeline.dataset.schema import FIXED_COLUMNS
from data_pipeline.dataset.shards import Row, write_shard
from data_pipeline.preparation.corrections.record import all_rejected, history, text_of
from data_pipeline.preparation.corrections.sheet import Correction, CorrectionsError, read_corrections
from data_pipeline.preparation.destination import Destination, destination, shard_name
from data_pipeline.preparation.label_survey import LabelSurvey
from data_pipeline.storage.base import Storage


@dataclass(frozen=True)
class Corrected:
    """A corrected dataset, and how many labels changed and rows were dropped."""

    manifest: Manifest
    changed: int
    dropped: int


def correct_dataset(dataset: Dataset, sheet: Storage, out: Storage, overwrite: bool = False) -> Corrected:
    """Write the dataset at `out` with the corrections of `sheet`; images and all other values are the same to the bit.

    Shards without corrections are copied; memory holds one shard. `corrections.parquet` beside the manifest keeps the old
    labels, after those of earlier corrections, with the digest of the dataset that had them; dropped rows are also among the
    rejected.

    Raises:
        CorrectionsError: corrections that are not of this dataset: nothing is written.
        UserError: nothing is to be corrected, no row would be left, or `out` is taken.
        StorageError: a shard cannot be read, or `out` cannot be written.
    """
    manifest = dataset.manifest
    corrections = read_corrections(sheet, manifest)
    places = _checked(dataset, corrections, sheet)
    effective = [item for item in corrections if item.new != item.given]
    if not effective:
        raise UserError(f"'{sheet.shown}' changes nothing: no row has a `new` that differs from `given`.")
    by_id: dict[str, list[Correction]] = {}
    for item in effective:
        by_id.setdefault(item.id, []).append(item)
    dropped = {item.id for item in effective if item.new is None}
    if len(dropped) == sum(split.rows for split in manifest.splits.values()):
        raise UserError(f"'{sheet.shown}' drops all rows of the dataset. Nothing was changed.")
    changed = sum(item.new is not None for item in effective)
    with destination(out, overwrite) as place:
        splits = _write(dataset, by_id, set(places.values()), place)
        of_rows = {name: split for name, (split, _) in places.items()}
        preparation = {
            "command": "correct",
            "source_digest": manifest.digest,
            "corrections": changed,
            "dropped": len(dropped),
            "source": manifest.preparation,
        }
        count = manifest.rejected + len(dropped)
        finished = replace(manifest, splits=splits, rejected=count, preparation=preparation, digest="")
        place.publish(finished, all_rejected(dataset, effective, of_rows), history(dataset, effective, of_rows))
    return Corrected(finished, changed, len(dropped))


_Place = tuple[str, str]  # split and shard of a row


def _checked(dataset: Dataset, corrections: Sequence[Correction], sheet: Storage) -> dict[str, _Place]:
    """Where the row of each correction is; checks that it is there, has the given label, and is dropped or changed, not both.

    Raises:
        CorrectionsError: it is not; all such rows are named.
    """
    wanted: dict[str, list[Correction]] = {}
    for item in corrections:
        wanted.setdefault(item.id, []).append(item)
    places: dict[str, _Place] = {}
    mistakes: list[tuple[int, str]] = []
    columns = list(dict.fromkeys(item.column for item in corrections))
    for name, shard in _shards(dataset.manifest):
        for table in iter_row_groups(dataset.storage, Split([shard]), ["id", *columns]):
            for row in table.to_pylist() if columns else []:
                for item in wanted.get(row["id"], []):
                    if item.id in places and item is wanted[item.id][0]:
                        mistakes.append((item.row, f"'{item.id}' is the id of several rows of the dataset"))
                    if row[item.column] != item.given:
                        has = f"'{item.id}' has '{text_of(row[item.column])}' now, not '{text_of(item.given)}' as `given` says"
                        mistakes.append((item.row, f"{has}: the corrections are of another state of the dataset"))
                if row["id"] in wanted:
                    places[row["id"]] = (name, shard.file)
    for items in wanted.values():
        mistakes += [(item.row, f"no row has the id '{item.id}'") for item in items if item.id not in places]
        if len({item.new is None for item in items}) > 1:
            mistakes.append((items[-1].row, f"'{items[-1].id}' is dropped in one row and changed in another"))
    if mistakes:
        raise CorrectionsError.of(sheet.shown, [f"row {row}: {mistake}" for row, mistake in sorted(mistakes)])
    return places


def _write(
    dataset: Dataset, by_id: Mapping[str, list[Correction]], touched: set[_Place], place: Destination
) -> dict[str, Split]:
    """Write all shards, and survey the labels of each split."""
    manifest = dataset.manifest
    survey = LabelSurvey(manifest.task, manifest.target)
    splits: dict[str, Split] = {}
    with progress(sum(split.rows for split in manifest.splits.values()), "rows", manifest.name) as bar:
        for name, split in manifest.splits.items():
            shards, found = [], []
            for number, shard in enumerate(split.shards):
                place.claim.check()
                file = shard_name(name, number, place.suffix)
                if (name, shard.file) in touched:
                    rows = list(_corrected_rows(dataset, shard, by_id))
                    made = write_shard(place.storage, file, rows, manifest.columns) if rows else None
                    found.append(survey.of([row.target for row in rows]))
                else:
                    made = _copied(dataset, shard, place.storage, file)
                    columns = list(manifest.columns)
                    for table in iter_row_groups(dataset.storage, Split([shard]), columns):
                        found.append(survey.of(table.to_pylist()))
                shards += [made] if made else []
                bar.update(shard.rows)
            splits[name] = Split(shards, {**split.target_stats, **survey.stats(found)})
    return splits


def _corrected_rows(dataset: Dataset, shard: Shard, by_id: Mapping[str, list[Correction]]) -> Iterator[Row]:
    columns = dataset.manifest.columns
    for table in iter_row_groups(dataset.storage, Split([shard]), [*FIXED_COLUMNS, *columns]):
        for values in table.to_pylist():
            items = by_id.get(values["id"], [])
            if any(item.new is None for item in items):
                continue
            target: dict[str, Any] = {name: values[name] for name in columns}
            target |= {item.column: item.new for item in items}
            yield Row(target=target, **{name: values[name] for name in FIXED_COLUMNS})


def _copied(dataset: Dataset, shard: Shard, out: Storage, file: str) -> Shard:
    source = dataset.storage.child(shard.file)
    data = source.read_bytes()
    if hashlib.sha256(data).hexdigest() != shard.sha256:
        raise DatasetError(f"Shard '{source.shown}' is not the one that the manifest describes. Copy it again, or prepare it.")
    out.child(file).write_bytes(data)
    return replace(shard, file=file)


def _shards(manifest: Manifest) -> Iterator[tuple[str, Shard]]:
    for name, split in manifest.splits.items():
        for shard in split.shards:
            yield name, shard
