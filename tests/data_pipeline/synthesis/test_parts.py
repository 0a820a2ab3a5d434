"""Which samples are in which split."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.synthesis.parts import chunks_of, fold_parts, parts_of


@given(st.integers(1, 20), st.integers(1, 7), st.integers(1, 400))
def test_folds_divide_all_samples_and_no_run_of_them(folds: int, together: int, more: int) -> None:
    count = folds * together + more
    parts = fold_parts(count, folds, 3, together)
    assert parts.pop("test") == parts_of({"test": 3})["test"]
    assert list(parts) == [f"fold-{fold}" for fold in range(folds)]
    runs = [{index // together for index in range(part.first, part.first + part.count)} for part in parts.values()]
    assert sum(part.count for part in parts.values()) == count
    assert sum(map(len, runs)) == len(set().union(*runs)) == -(-count // together)
    assert max(map(len, runs)) - min(map(len, runs)) <= 1


def test_chunks_cover_each_split_once() -> None:
    chunks = chunks_of(parts_of({"train": 1200, "val": 10}))
    assert [(chunk.split, chunk.number, chunk.inputs, chunk.work) for chunk in chunks] == [
        ("train", 0, 512, 0), ("train", 1, 512, 512), ("train", 2, 176, 1024), ("val", 0, 10, 0),
    ]  # fmt: skip
