"""Reader of any table that names images and their labels: CSV, TSV, JSON lines, Parquet, Hugging Face's image Parquet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.importers.labels.classes import listed
from data_pipeline.importers.labels.image_files import is_hidden
from data_pipeline.importers.labels.label_targets import LabelOptions, LabelRow, read_targets
from data_pipeline.importers.labels.label_values import names_of, require_single
from data_pipeline.importers.labels.manifest_images import ImagePlaces
from data_pipeline.importers.labels.manifest_splits import splits_of
from data_pipeline.importers.labels.once import each_once
from data_pipeline.importers.labels.source import Item, LabelSource, rejection
from data_pipeline.importers.labels.table import SUFFIXES, TEXT_SUFFIXES, Record, Table, open_table

_IMAGE_COLUMNS = ("image", "file_name", "filename", "path", "file")


@dataclass(frozen=True)
class ManifestOptions:
    """Which columns of a table hold what; empty: none does, of `image` and `labels`: what the table itself tells."""

    image: str = ""
    images: Path | None = None  # the folder that paths are relative to; without it, that of the table
    labels: LabelOptions = field(default_factory=LabelOptions)
    split: str = ""
    fold: str = ""
    group: str = ""
    source: str = ""
    id: str = ""


def read_manifest(source: Path, options: ManifestOptions) -> LabelSource:
    """List the images that a table names, or all tables in a folder with the same columns.

    Of several Parquet files such as `train-00000-of-00002.parquet`, each name or folder tells the split.

    Raises:
        UserError: there is no table, it lacks a column, cannot be used as a whole, or no row names an image.
    """
    tables = [open_table(path) for path in _find_tables(source)]
    options = _completed(options, tables[0])
    extra = [name for name in (options.split, options.fold, options.group, options.source, options.id) if name]
    columns = [options.image, *options.labels.columns, *extra]
    for table in tables:
        table.require(columns)
        for name in options.labels.columns:
            if table.features.get(name) != tables[0].features.get(name):
                raise UserError(
                    f"Column '{printable(name)}' has other classes in '{table.name}' than in '{tables[0].name}': "
                    "prepare them apart."
                )
    records = [(table, record) for table in tables for record in table.records(columns, options.image)]
    readable = [(table, record) for table, record in records if not record.problem]
    rejected = [rejection(record.shown, record.shown, record.problem) for _, record in records if record.problem]

    last = 1 + len(options.labels.columns)
    more = {name: [record.values[last + i] for _, record in readable] for i, name in enumerate(extra)}
    shown = [record.shown for _, record in readable]
    paths = [table.path for table, _ in readable]
    splits, notes = splits_of(options.split, options.fold, more, paths, source, shown)
    places = ImagePlaces(options.image, options.images, source)
    images = [places.find(table, record) for table, record in readable]
    places.require_some(images)
    problems = [image.problem or split.problem for image, split in zip(images, splits, strict=True)]
    for record in (record for _, record in readable):
        for name, value in zip(extra, record.values[last:], strict=True):
            require_single(name, value, record.shown)
    notes += _line_ends([record for _, record in records])
    names = {name: names_of(name, column, shown) for name, column in more.items() if name not in (options.split, options.fold)}
    # Rows without an image say nothing of the classes.
    usable = [record for (_, record), problem in zip(readable, problems, strict=True) if not problem]
    label_rows = [LabelRow(record.shown, record.values[1:last]) for record in usable]
    if records and not usable:
        rejected += [
            rejection(image.id or place, place, problem, split.name)
            for image, place, problem, split in zip(images, shown, problems, splits, strict=True)
        ]
        LabelSource("", {}, [], rejected).require_items(str(source))
    targets = read_targets(options.labels, label_rows, tables[0].features, tables[0].name)
    of_rows = iter(targets.rows)

    items: list[Item] = []
    identities: list[Any] = []
    for i, (image, problem, split) in enumerate(zip(images, problems, splits, strict=True)):
        values = {name: column[i] for name, column in names.items()}
        name = printable(values[options.id]) if options.id else image.id
        target = problem or next(of_rows)
        reason = target if isinstance(target, str) else ""
        if not reason and not name:
            reason = f"column '{options.id}' has no value"
        if reason or isinstance(target, str):
            rejected.append(rejection(name or shown[i], shown[i], reason, split.name))
            continue
        item = Item(name, image.image, target, shown[i], split=split.name)
        group, origin = values.get(options.group, ""), values.get(options.source, "")
        items.append(replace(item, group=printable(group), source=printable(origin)))
        identities.append(image.identity)
    kept, doubled = each_once(items, identities)
    return LabelSource(targets.task, targets.target, kept, [*rejected, *doubled], notes)


def _find_tables(source: Path) -> list[Path]:
    """The tables of a source: the file itself; or all Parquet files below a folder, or the one text table in it.

    Raises:
        UserError: there are none, or several that are not Parquet.
    """
    try:
        if source.is_file():
            return [source]
        inside = source.is_dir()
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise UserError(f"No table '{printable(str(source))}'. Give a file ({', '.join(SUFFIXES)}) or a folder with one.")
    below = [path for path in sorted(source.rglob("*.parquet")) if not any(map(is_hidden, path.relative_to(source).parts))]
    texts = sorted(path for path in source.iterdir() if path.suffix.lower() in TEXT_SUFFIXES and not is_hidden(path.name))
    if below:
        return below
    if len(texts) == 1:
        return texts
    names = listed([path.name for path in texts]) or "none"
    raise UserError(f"'{printable(str(source))}' holds not one table but {names}. Give the file itself as SOURCE.")


def _line_ends(records: Sequence[Record]) -> list[str]:
    """A note on values of several lines: where a quote is too many, such a value is rows that are missing."""
    found = [record for record in records if record.lines > 1]
    if not found:
        return []
    return [f"Rows with a value of several lines: {len(found):,}, the first {found[0].shown} ({found[0].lines} lines)."]


def _completed(options: ManifestOptions, table: Table) -> ManifestOptions:
    """The options with what the table tells: its column of images, and of labels where none is named.

    Raises:
        UserError: it does not tell.
    """

    def only(kind: str) -> str:
        found = [name for name, feature in table.features.items() if feature.kind == kind]
        return found[0] if len(found) == 1 else ""

    def first(*names: str) -> str:
        return next((name for name in names if name in table.columns), "")

    image = options.image or only("image") or first(*_IMAGE_COLUMNS)
    if not image:
        raise UserError(f"Which column of '{table.name}' names the images? Set --image. It has: {listed(table.columns, 40)}.")
    labels = options.labels
    if not labels.columns:
        label = only("class")
        several = "" if label else only("classes")
        labels = replace(labels, label=label or ("" if several else first("label")), labels=several)
    if not labels.columns:
        labels = replace(labels, labels=first("labels"))
    if not labels.columns:
        raise UserError(
            f"Which columns of '{table.name}' hold the labels? Set --label, --labels, --label-columns or --heads. "
            f"It has: {listed(table.columns, 40)}."
        )
    return replace(options, image=image, labels=labels)
