"""Declared classes in words: what is doubtful about them before training, their order, and how two orders differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.manifest import Manifest
from trainers.config.label_loss import LabelLossConfig

_SHOWN = 10  # classes that a note names


def dataset_notes(manifest: Manifest, train: str, classes: Mapping[str, Sequence[str]]) -> list[str]:
    """Sentences about classes that training never sees, that no evaluation asks for, or that are alone."""
    notes = []
    trained = set(train.split("+"))
    others = [name for name, split in manifest.splits.items() if name not in trained and split.rows]
    for head, names in classes.items():
        if len(names) == 1 and manifest.task != "multilabel":
            notes.append(f"'{head}' has one class, '{printable(names[0])}': there is nothing to tell apart.")
        rows = class_rows(manifest, train, head)
        elsewhere = {name for split in others for name, count in class_rows(manifest, split, head).items() if count}
        untrained = [name for name in names if not rows.get(name)]
        if seen := [name for name in untrained if name in elsewhere]:
            notes.append(f"No row of split '{train}' has {_listed(seen)}, other splits have: it cannot be learned.")
        if unused := [name for name in untrained if name not in elsewhere]:
            notes.append(f"No row of the dataset has {_listed(unused)}: declared, but empty.")
        alone = [name for name in names if rows.get(name) and name not in elsewhere]
        if others and alone:
            notes.append(f"Only split '{train}' has {_listed(alone)}: no evaluation will tell whether it is learned.")
    return notes


def class_rows(manifest: Manifest, split: str, head: str) -> Mapping[str, int]:
    """The rows of each class of a head in a split, as the manifest counts them; none where it does not."""
    rows = manifest.split(split).target_stats.get("class_rows", {})
    return rows.get(head, {}) if manifest.task == "multitask" else rows


def require_defaults(loss: LabelLossConfig, keys: Sequence[str], task: str) -> None:
    """Check that no key of `label_loss` was set that changes nothing in this task.

    Raises:
        UserError: one was.
    """
    for key in keys:
        value = getattr(loss, key)
        if value != getattr(LabelLossConfig(), key):
            raise UserError(f"label_loss.{key}={value}: it has no part in the loss of '{task}'. Leave it out.")


def _listed(names: Sequence[str]) -> str:
    quoted = ", ".join(f"'{printable(name)}'" for name in names[:_SHOWN])
    return f"class {quoted}" if len(names) == 1 else f"classes {quoted}{', ...' if len(names) > _SHOWN else ''}"


def mapping(names: Sequence[str]) -> str:
    """Class to index, as it is stored."""
    shown = ", ".join(f"{index} {_short(name)}" for index, name in enumerate(names[:40]))
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 40 else shown


def difference(mine: Mapping[str, Sequence[str]], theirs: Mapping[str, Sequence[str]]) -> str:
    """The first difference of two declarations of classes by head, in words."""
    if list(mine) != list(theirs):
        return f"heads {', '.join(mine)} and {', '.join(theirs)}"
    for head, names in mine.items():
        others = theirs[head]
        for index, (one, other) in enumerate(zip(names, others, strict=False)):
            if one != other:
                return f"class {index} is '{printable(one)}' and '{printable(other)}'"
        if len(names) != len(others):
            return f"{len(names)} and {len(others)} classes"
    return "the joint classes differ"


def _short(name: str) -> str:
    text = printable(name)
    return text if len(text) <= 40 else f"{text[:37]}..."
