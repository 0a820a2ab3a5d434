"""Targets of rows from the columns of a table, for each way in which columns can hold labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.label_columns import LABEL, LABELS
from data_pipeline.importers.labels.classes import heads_target, listed, ordered, require_target
from data_pipeline.importers.labels.hf_images import Feature
from data_pipeline.importers.labels.label_values import (
    flags_of,
    is_missing,
    list_of,
    require_single,
    text_of,
    whole_numbers,
)

Features = Mapping[str, Feature]


@dataclass(frozen=True)
class LabelOptions:
    """Which columns hold the labels; one of `label`, `labels`, `label_columns` and `heads` is set.

    `label` holds one class, `labels` several (a list, or a text with `separator` between them); each of `label_columns` is a
    class and holds 0 or 1; each of `heads` holds a class of that head, declared or None. `joint` names a joint class of all
    heads. `classes` are declared; otherwise they are those that occur.
    """

    label: str = ""
    labels: str = ""
    separator: str = ","
    label_columns: Sequence[str] = ()
    heads: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    joint: str = ""
    classes: Sequence[str] | None = None

    @property
    def columns(self) -> list[str]:
        """The columns that hold labels."""
        return [name for name in (self.label, self.labels) if name] or list(self.label_columns) or list(self.heads)


class LabelRow(NamedTuple):
    """Where a row is, and its values of the label columns."""

    shown: str
    values: Sequence[Any]


class Targets(NamedTuple):
    """The task and target of a dataset, and the target of each row, or the reason why it has none."""

    task: str
    target: dict[str, Any]
    rows: list[Mapping[str, Any] | str]


def read_targets(options: LabelOptions, rows: Sequence[LabelRow], features: Features, where: str) -> Targets:
    """The targets of rows; `features` say where a column holds the indices of names.

    Raises:
        UserError: a column mixes numbers with and without a decimal point, holds lists where it should not, or classes or heads
            have names that they cannot have.
    """
    if options.label_columns:
        classes = list(options.label_columns)
        found = Targets("multilabel", {"classes": classes}, [flagged(classes, row.values) for row in rows])
    elif options.labels:
        found = _several(options, rows, features)
    elif options.heads:
        found = _by_heads(options, rows, features)
    else:
        names, texts = _names_of(options.label, [row.values[0] for row in rows], rows, features, options.classes)
        known = set(names)
        reasons = [_problem(options.label, text, known, names) for text in texts]
        found = Targets(
            "multiclass", {"classes": names}, [reason or {LABEL: text} for reason, text in zip(reasons, texts, strict=True)]
        )
    require_target(found.task, found.target, where)
    return found


def flagged(classes: Sequence[str], values: Sequence[Any]) -> Mapping[str, Any] | str:
    """The target of a row with a column of 0 or 1 for each class, or the reason why it has none."""
    flags = flags_of(values)
    if None in flags:
        place = flags.index(None)
        value = values[place]
        missing = is_missing(value) or str(value).lower() == "nan"
        said = "has no value" if missing else f"is '{str(value)[:40]}', which is neither 0 nor 1"
        return f"column '{classes[place]}' {said}"
    return {LABELS: [name for name, flag in zip(classes, flags, strict=True) if flag]}


def _names_of(
    column: str, values: Sequence[Any], rows: Sequence[LabelRow], features: Features, declared: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The classes of a column in order, and the class of each row, empty where it is missing."""
    for value, row in zip(values, rows, strict=True):
        require_single(column, value, row.shown)
    indexed = features[column].names if column in features else ()
    texts = [text_of(value, indexed, declared or ()) for value in values]
    if not indexed:
        texts = whole_numbers(column, texts, [row.shown for row in rows], declared or ())
    names = list(declared or indexed or ordered(text for text in texts if text))
    if not names:
        raise UserError(f"No row has a label: column '{printable(column)}' has no value in any of {len(rows):,} rows.")
    return names, texts


def _problem(column: str, text: str, known: Collection[str], names: Sequence[str]) -> str:
    if not text:
        return f"column '{column}' has no label"
    return "" if text in known else f"label '{text}' of column '{column}' is none of the {len(names):,} classes {listed(names)}"


def _several(options: LabelOptions, rows: Sequence[LabelRow], features: Features) -> Targets:
    """Each row has a list of labels."""
    column = options.labels
    lists = [list_of(row.values[0], options.separator) for row in rows]
    if not any(lists) and not options.classes and not (column in features and features[column].names):
        raise UserError(f"No row has a label: column '{printable(column)}' has no list with one in any of {len(rows):,} rows.")
    flat = [(value, row) for found, row in zip(lists, rows, strict=True) for value in found or ()]
    names, texts = _names_of(column, [value for value, _ in flat], [row for _, row in flat], features, options.classes)
    position = {name: i for i, name in enumerate(names)}
    made: list[Mapping[str, Any] | str] = []
    first = 0
    for found, row in zip(lists, rows, strict=True):
        if found is None:
            made.append(_no_list(column, row.values[0]))
            continue
        labels = list(dict.fromkeys(texts[first : first + len(found)]))
        first += len(found)
        reasons = (_problem(column, label, position.keys(), names) for label in labels)
        reason = (
            f"column '{column}' has a list with a label that is missing" if "" in labels else next(filter(None, reasons), "")
        )
        made.append(reason or {LABELS: sorted(labels, key=position.__getitem__)})
    return Targets("multilabel", {"classes": names}, made)


def _no_list(column: str, value: Any) -> str:
    if is_missing(value):
        return f"column '{column}' has no label; where there is none, write []"
    return f"column '{column}' is {str(value)[:40]!r}, which is no list of labels"


def _by_heads(options: LabelOptions, rows: Sequence[LabelRow], features: Features) -> Targets:
    """Each head has a column."""
    classes: dict[str, list[str]] = {}
    columns: list[list[str]] = []
    for place, (head, declared) in enumerate(options.heads.items()):
        classes[head], texts = _names_of(head, [row.values[place] for row in rows], rows, features, declared)
        columns.append(texts)
    known = {head: set(names) for head, names in classes.items()}
    made: list[Mapping[str, Any] | str] = []
    for texts_of_row in zip(*columns, strict=True):
        target = dict(zip(classes, texts_of_row, strict=True))
        reasons = (_problem(head, text, known[head], classes[head]) for head, text in target.items())
        made.append(next(filter(None, reasons), "") or target)
    return Targets("multitask", heads_target(classes, options.joint), made)
