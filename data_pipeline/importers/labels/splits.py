"""The split of each item: as the source says, or in shares or folds that are drawn once and stay in the dataset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cluster.errors import UserError
from data_pipeline.importers.labels.classes import listed
from data_pipeline.importers.labels.source import Item, LabelSource, labels_of
from data_pipeline.preparation.splitting import split_folds, split_shares

DEFAULT_SHARE = 0.1  # of val and of test, where the source has no splits


@dataclass(frozen=True)
class SplitOptions:
    """How items are divided: shares of `val` and `test` (None: the default), or `folds` beside `test`."""

    val: float | None = None
    test: float | None = None
    folds: int = 0
    stratified: bool = True
    seed: int = 0


def with_splits(source: LabelSource, options: SplitOptions) -> LabelSource:
    """The source with a split for each item.

    What the source says stays: of its split `train`, a share becomes `val` or `test` if it has none and the share is asked for;
    its rows of `train` and `val` become folds if these are.

    Raises:
        UserError: a split that the source has is asked for, shares leave nothing, or too few rows or groups fill the splits.
    """
    named = Counter(item.split for item in source.items)
    if set(named) == {""}:
        shares = {
            "val": 0.0 if options.folds else _share(options.val),
            "test": _share(options.test),
        }
        if options.folds and options.val:
            raise UserError("--val and --folds: with folds, each fold is the val of the others. Leave out --val.")
    else:
        shares = {"val": options.val or 0.0, "test": options.test or 0.0}
        _check_named(set(named), shares, options.folds)
    divided = ("", "train", "val") if options.folds else ("", "train")
    chosen = [i for i, item in enumerate(source.items) if item.split in divided]
    items = list(source.items)
    for i, split in zip(chosen, _drawn(source, [items[i] for i in chosen], shares, options), strict=True):
        items[i] = replace(items[i], split=split)
    notes = [*source.notes, *_notes(set(named), options), *_group_notes(items)]
    return replace(source, items=items, notes=notes, warnings=[*source.warnings, *_torn_groups(items)])


def _share(value: float | None) -> float:
    return DEFAULT_SHARE if value is None else value


def _check_named(named: set[str], shares: dict[str, float], folds: int) -> None:
    if "" in named:
        raise UserError("Some images of the source have a split and some have none.")
    for split, share in shares.items():
        if share and split in named:
            raise UserError(f"--{split}: the source has the split '{split}' itself. Leave out --{split}.")
        if share and "train" not in named:
            raise UserError(f"--{split}: the source has no split 'train' to take it from, but {', '.join(sorted(named))}.")
    if folds and not {"train", "val"} & named:
        raise UserError(f"--folds: the source has neither train nor val to divide, but {', '.join(sorted(named))}.")


def _drawn(source: LabelSource, items: Sequence[Item], shares: dict[str, float], options: SplitOptions) -> list[str]:
    """The split of each of `items`, by the labels, the groups and the seed."""
    if sum(shares.values()) >= 1:
        raise UserError(f"--val {shares['val']:g} --test {shares['test']:g}: nothing is left for training.")
    labels = [labels_of(source, item) for item in items]
    groups = [item.group for item in items] if any(item.group for item in items) else None
    wanted = {"train": 1 - sum(shares.values()), **{name: share for name, share in shares.items() if share}}
    splits = ["train"] * len(items)
    if len(wanted) > 1:
        splits = split_shares(labels, wanted, groups, options.stratified, options.seed)
    if not options.folds:
        return splits
    rest = [i for i, split in enumerate(splits) if split == "train"]
    names = split_folds(
        [labels[i] for i in rest], options.folds, groups and [groups[i] for i in rest], options.stratified, options.seed
    )
    for i, name in zip(rest, names, strict=True):
        splits[i] = name
    return splits


def _group_notes(items: Sequence[Item]) -> list[str]:
    """How many items have no group, where others have one."""
    without = sum(not item.group for item in items)
    if not without or without == len(items):
        return []
    return [f"{without:,} of {len(items):,} images have no group: each of them is one of its own."]


def _torn_groups(items: Sequence[Item]) -> list[str]:
    """The groups that are in several splits, as splits of the source may have it."""
    splits: dict[str, dict[str, None]] = {}
    for item in items:
        if item.group:
            splits.setdefault(item.group, {})[item.split] = None
    torn = [f"'{group}' ({', '.join(found)})" for group, found in splits.items() if len(found) > 1]
    if not torn:
        return []
    return [f"{len(torn):,} of {len(splits):,} groups are in several splits, as the source has them: {listed(torn, 3)}"]


def _notes(named: set[str], options: SplitOptions) -> list[str]:
    if "train" in named and "val" not in named and not options.folds and not options.val:
        return ["The source has no split val. To take one from train: --val SHARE."]
    return []
