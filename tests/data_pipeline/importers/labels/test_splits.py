"""Splits of items: what the source says stays, the rest is drawn once, by labels and groups."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from cluster.errors import UserError
from data_pipeline.importers.labels.prepare import chunks_of
from data_pipeline.importers.labels.source import Cell, Item, LabelSource, labels_of, rejection
from data_pipeline.importers.labels.splits import SplitOptions, with_splits

ITEMS = [Item(f"{i}.png", f"/{i}.png", {"label": "ab"[i % 4 == 0]}, f"line {i}", group=f"g{i // 5}") for i in range(100)]


def source(**changes: Any) -> LabelSource:
    """100 images, a quarter of class b, five of each group."""
    return LabelSource("multiclass", {"classes": ["a", "b"]}, [replace(item, **changes) for item in ITEMS], [])


def sizes(made: LabelSource) -> dict[str, int]:
    return dict(Counter(item.split for item in made.items))


def test_a_source_without_splits_is_divided_in_shares_or_folds() -> None:
    made = with_splits(source(group=""), SplitOptions(val=0.2, test=0.2))
    assert sizes(made) == {"train": 60, "val": 20, "test": 20}
    by_label = Counter((item.split, item.target["label"]) for item in made.items)
    assert (by_label["val", "b"], by_label["test", "b"]) == (5, 5), "stratified"
    assert sizes(with_splits(source(group=""), SplitOptions())) == {"train": 80, "val": 10, "test": 10}
    assert sizes(with_splits(source(group=""), SplitOptions(folds=4, test=0.2))) == {
        "test": 20, "fold-0": 20, "fold-1": 20, "fold-2": 20, "fold-3": 20,
    }  # fmt: skip
    assert sizes(with_splits(source(group=""), SplitOptions(val=0, test=0))) == {"train": 100}
    drawn = [[item.split for item in with_splits(source(), SplitOptions(seed=seed)).items] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("options", [SplitOptions(val=0.2, test=0.2), SplitOptions(folds=4, test=0.2)])
def test_a_group_is_in_one_split(options: SplitOptions) -> None:
    places = {(item.group, item.split) for item in with_splits(source(), options).items}
    assert len(places) == len({group for group, _ in places}) == 20


def test_splits_of_the_source_stay_and_train_may_be_divided() -> None:
    own = source()
    own.items = [replace(item, split="test" if i < 20 else "train") for i, item in enumerate(own.items)]
    test = {item.id for item in own.items if item.split == "test"}
    plain = with_splits(own, SplitOptions())
    assert [item.split for item in plain.items] == [item.split for item in own.items]
    assert plain.notes == ["The source has no split val. To take one from train: --val SHARE."]
    for options, expected in [
        (SplitOptions(val=0.25), {"test": 20, "train": 60, "val": 20}),
        (SplitOptions(folds=2), {"test": 20, "fold-0": 40, "fold-1": 40}),
    ]:
        made = with_splits(own, options)
        assert sizes(made) == expected and {item.id for item in made.items if item.split == "test"} == test
    with pytest.raises(UserError, match="--test: the source has the split 'test' itself"):
        with_splits(own, SplitOptions(test=0.1))
    with pytest.raises(UserError, match="--val: the source has no split 'train' to take it from, but extra"):
        with_splits(source(split="extra"), SplitOptions(val=0.1))
    with pytest.raises(UserError, match="--folds: the source has neither train nor val to divide, but extra"):
        with_splits(source(split="extra"), SplitOptions(folds=3))


def test_groups_that_the_source_tears_apart_are_named() -> None:
    """Splits of the source stay as they are, also where they share a person."""
    own = source()
    own.items = [
        replace(item, split="test" if i < 22 else "train", group=item.group * (i < 90)) for i, item in enumerate(own.items)
    ]
    made = with_splits(own, SplitOptions())
    assert made.warnings == ["1 of 18 groups are in several splits, as the source has them: 'g4' (test, train)"]
    assert made.notes[-1] == "10 of 100 images have no group: each of them is one of its own."


def test_mistakes_about_shares_are_one_message() -> None:
    with pytest.raises(UserError, match="nothing is left for training"):
        with_splits(source(), SplitOptions(val=0.5, test=0.5))
    with pytest.raises(UserError, match="--val and --folds"):
        with_splits(source(), SplitOptions(val=0.5, folds=3))
    with pytest.raises(UserError, match="20 groups cannot fill 30 folds"):
        with_splits(source(), SplitOptions(folds=30, test=0))


def test_labels_of_heads_count_one_by_one_and_together() -> None:
    heads = LabelSource("multitask", {"heads": {"mask": ["on", "off"], "age": ["1"]}, "joint": {}}, [], [])
    assert labels_of(heads, replace(ITEMS[0], target={"mask": "off", "age": "1"})) == ["mask=off", "age=1", "off/1"]


def test_every_input_is_in_one_chunk_and_files_of_a_class_do_not_lie_together() -> None:
    made = with_splits(source(group=""), SplitOptions(folds=11, test=0.1, val=None))
    made.items += [replace(item, id=f"more{i}", split="fold-10") for i, item in enumerate(ITEMS * 11)]
    made.rejected = [rejection("x", "line 7", "no")] * 3
    chunks = chunks_of(made)
    assert sum(chunk.inputs for chunk in chunks) == 1203 and len(chunks[0].work.rejected) == 3
    assert [chunk.split for chunk in chunks] == ["test", *(f"fold-{i}" for i in range(11)), "fold-10"]
    assert sorted(item.id for chunk in chunks for item in chunk.work.items) == sorted(item.id for item in made.items)
    order = [int(item.id.removeprefix("more")) for item in chunks[-2].work.items if item.id.startswith("more")]
    assert sum(abs(a - b) for a, b in itertools.pairwise(order)) / len(order) > 200
    cells = source(image=Cell("f", 0, 0, "image"), split="train")
    assert [item.id for item in chunks_of(cells)[0].work.items] == [item.id for item in ITEMS], "row groups are read in order"
