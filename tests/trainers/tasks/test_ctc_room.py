"""The warning of texts that a CTC head has no columns for."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.shards import read_split
from tests.support.overrides import KINDS
from tests.support.runs import small_config
from trainers.run.preflight import preflight
from trainers.tasks.ctc_room import columns_for, texts_without_room


@pytest.mark.parametrize(("text", "columns"), [("", 0), ("a", 1), ("a b a", 3), ("a a", 3), ("} } }", 5)])
def test_equal_neighbors_need_a_blank_between(text: str, columns: int) -> None:
    assert columns_for(text) == columns


def test_texts_without_room_are_counted_and_reported(formulas_dataset: str, tmp_path: Path) -> None:
    dataset = open_dataset(formulas_dataset)
    rows = read_split(dataset, "train", ["width", "text"]).to_pylist()
    crowded = sum(columns_for(row["text"]) > row["width"] // 4 for row in rows)  # the backbone's stride is 4
    assert 0 < crowded < len(rows)
    spec = preflight(small_config(formulas_dataset, tmp_path, *KINDS["ctc"]))
    assert texts_without_room(spec.task.build_model(), dataset, "train") == crowded
    (note,) = spec.notes
    assert f"{crowded} of 300 training texts" in note
    assert preflight(small_config(formulas_dataset, tmp_path)).notes == (), "without such a head there is nothing to warn of"
