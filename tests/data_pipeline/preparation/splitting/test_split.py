"""Splits and folds: every row once, groups whole, sizes and shares of labels kept, the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import UserError
from data_pipeline.preparation.splitting import split_folds, split_shares
from tests.support.places import ROOT

CLASSES = "abcdefghijklmnopqrstuvwxyz"
LABELS = st.lists(st.lists(st.sampled_from(CLASSES[:6]), max_size=4), min_size=1, max_size=80)
SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}
SHARES = st.sampled_from([SPLITS, {"train": 0.5, "val": 0.5}, {"all": 1.0}, {"a": 0.95, "b": 0.05}])


def boards(rows: int, seed: int = 0) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [[CLASSES[index] for index in rng.permutation(26)[: rng.integers(10, 15)]] for _ in range(rows)]


def indicators(labels: list[list[str]]) -> np.ndarray:
    return np.array([[name in row for name in CLASSES] for row in labels])


@settings(max_examples=120, deadline=None)
@given(LABELS, st.integers(2, 6), st.integers(1, 30), st.booleans(), st.booleans(), st.integers(0, 9))
def test_folds_have_every_row_once_and_groups_whole(
    labels: list[list[str]], folds: int, writers: int, grouped: bool, stratified: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    groups = [f"writer {number}" if number else "" for number in rng.integers(0, writers, len(labels))] if grouped else None
    units = Counter(name or str(row) for row, name in enumerate(groups)) if groups else Counter(map(str, range(len(labels))))
    if folds > len(units):
        with pytest.raises(UserError, match=f"{len(units)} {'groups' if grouped else 'rows'} cannot fill {folds} folds"):
            split_folds(labels, folds, groups, stratified, seed)
        return
    parts = split_folds(labels, folds, groups, stratified, seed)
    assert parts == split_folds(labels, folds, groups, stratified, seed) and len(parts) == len(labels)
    sizes = Counter(parts)
    assert sizes.keys() == {f"fold-{fold}" for fold in range(folds)}
    for name in set(groups or []) - {""}:
        assert len({part for part, group in zip(parts, groups or [], strict=True) if group == name}) == 1
    single = all(len(row) <= 1 for row in labels)
    if not stratified or (single and not grouped):
        assert max(sizes.values()) - min(sizes.values()) <= max(units.values())
    if stratified and single and not grouped:
        counts = Counter((row[0] if row else "", part) for row, part in zip(labels, parts, strict=True))
        for name in {row[0] if row else "" for row in labels}:
            of_class = [counts[name, part] for part in sizes]
            assert max(of_class) - min(of_class) <= 1


@settings(max_examples=60, deadline=None)
@given(LABELS, SHARES, st.booleans(), st.integers(0, 9))
def test_shares_are_kept_and_no_split_is_empty(
    labels: list[list[str]], shares: dict[str, float], stratified: bool, seed: int
) -> None:
    if len(labels) < len(shares):
        return
    single = [row[:1] for row in labels]
    sizes = Counter(split_shares(single, shares, None, stratified, seed))
    assert sizes.keys() == shares.keys() and sizes.total() == len(labels)
    if min(shares.values()) * len(labels) >= 1:  # else the smallest have one row, at the cost of the largest
        assert all(abs(sizes[name] - share * len(labels)) < 1 + 1e-9 for name, share in shares.items())
    assert Counter(split_shares(labels, shares, None, stratified, seed)).keys() == shares.keys()


@pytest.mark.parametrize("rows", [2, 3, 4])
@pytest.mark.parametrize("classes", [5, 12, 100])
def test_classes_of_few_rows_are_trained_on(classes: int, rows: int) -> None:
    for seed in range(3):
        labels = [[str(number % classes)] for number in range(classes * rows)]
        parts = split_shares(labels, SPLITS, None, True, seed)
        assert {row[0] for row, part in zip(labels, parts, strict=True) if part == "train"} == {row[0] for row in labels}
        sizes = Counter(parts)
        assert all(abs(sizes[name] - share * len(labels)) < 1 + 1e-9 for name, share in SPLITS.items())


@pytest.mark.parametrize("grouped", [False, True])
def test_labels_of_many_rows_are_shared_out_within_a_point(grouped: bool) -> None:
    labels = boards(4_000)
    matrix = indicators(labels)
    groups = [f"writer {number}" for number in np.random.default_rng(1).integers(0, 400, len(labels))] if grouped else None
    started = time.perf_counter()
    folds = split_folds(labels, 5, groups, True, 0)
    splits = split_shares(labels, SPLITS, groups, True, 0)
    assert time.perf_counter() - started < 10  # of 50,000 rows, one takes 1 to 2 s
    for parts in (np.array(folds), np.array(splits)):
        for part in np.unique(parts):
            assert np.abs(matrix[parts == part].mean(0) - matrix.mean(0)).max() < 0.01
    assert set(Counter(folds).values()) <= {799, 800, 801} and abs(Counter(splits)["train"] - 3200) <= 3
    assert folds != split_folds(labels, 5, groups, True, 1)


def test_the_same_parts_whatever_the_hash_seed() -> None:
    program = (
        "import zlib; from tests.data_pipeline.preparation.splitting.test_split import *;"
        "groups = [str(number // 7) for number in range(300)];"
        "print(zlib.crc32(repr([split_folds(boards(300), 3, g, True, 5) for g in (None, groups)]).encode()))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


def test_groups_of_all_sizes_are_in_all_parts() -> None:
    groups = [f"large {row // 20}" for row in range(2_000)] + [f"small {row // 2}" for row in range(200)] + ["huge"] * 800
    parts = split_shares([()] * 3_000, SPLITS, groups, False, 0)
    assert Counter(parts) == {"train": 2_400, "val": 300, "test": 300} and parts[-1] == "train"
    for name in ("val", "test"):
        of_part = [group for group, part in zip(groups, parts, strict=True) if part == name]
        assert min(Counter(group.split()[0] for group in of_part)[size] for size in ("large", "small")) >= 10


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({}, "not none"),
        ({"train": 0.9, "val": 0.0}, "positive numbers, not train=0.9, val=0"),
        ({"train": float("nan")}, "positive numbers"),
        ({"train": 0.8, "val": 0.1}, "add up to 0.9 instead of 1"),
        ({"train": 0.5, "val": 0.25, "test": 0.25}, "2 rows cannot fill 3 splits .train, val, test.: ask for fewer"),
    ],
)
def test_bad_shares_are_named(shares: dict[str, float], said: str) -> None:
    with pytest.raises(UserError, match=said):
        split_shares([["a"], ["b"]], shares, None, True, 0)
    with pytest.raises(UserError, match="at least 2 folds, not 1"):
        split_folds([["a"], ["b"]], 1, None, True, 0)
