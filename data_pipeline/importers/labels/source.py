"""What the readers of labeled images return: items that name an image and its labels, and what they rejected."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.label_columns import LABEL, LABELS
from data_pipeline.dataset.shards import Rejected


class Cell(NamedTuple):
    """An image inside a Parquet file: its bytes are read when it is prepared."""

    file: str
    row_group: int
    row: int  # in the row group
    column: str


@dataclass(frozen=True, slots=True)
class Item:
    """An image and its labels, not read yet.

    `image` is the path of a file or the cell of a Parquet file; `target` holds the values of the task's columns; `split` is the
    one that the source names, empty where it names none; `shown` says where the input is, for the list of the rejected ones.
    """

    id: str
    image: str | Cell
    target: Mapping[str, Any]
    shown: str
    source: str = ""
    group: str = ""
    split: str = ""


@dataclass
class LabelSource:
    """The inputs of a source: `items` that are to be prepared, and `rejected` ones.

    `task` and `target` are those of the dataset's manifest; `notes` are sentences that the user should read, `warnings` those
    about what is probably wrong. The dataset keeps both.
    """

    task: str
    target: dict[str, Any]
    items: list[Item]
    rejected: list[Rejected]
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def require_items(self, place: str) -> None:
        """Check that something can be prepared.

        Raises:
            UserError: there are no items.
        """
        if self.items:
            return
        if not self.rejected:
            raise UserError(f"'{printable(place)}' holds no images.")
        first = self.rejected[0]
        raise UserError(
            f"None of the {len(self.rejected):,} inputs of '{printable(place)}' could be used; the first: "
            f"{first.path}: {first.reason}."
        )


def labels_of(source: LabelSource, item: Item) -> list[str]:
    """The names of an item's classes, as a split is stratified by them: of several heads `head=class`, and the joint class."""
    if source.task == "multiclass":
        return [item.target[LABEL]]
    if source.task == "multilabel":
        return list(item.target[LABELS])
    heads = source.target["heads"]
    named = [f"{head}={item.target[head]}" for head in heads]
    return [*named, "/".join(item.target[head] for head in heads)] if "joint" in source.target else named


def rejection(name: str, shown: str, reason: str, split: str = "") -> Rejected:
    """The entry of an input that cannot be used, as a table can hold it."""
    return Rejected(printable(name), split, printable(shown), printable(reason))
