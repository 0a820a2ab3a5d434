"""The warning of texts that a CTC head has no columns for."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.shards import read_split
from tests.support.runs import KINDS, small_config
from trainers.run.preflight import begin_run, new_run
from trainers.tasks.ctc_room import columns_for, texts_without_room


@pytest.mark.parametrize(("text", "columns"), [("", 0), ("a", 1), ("a b a", 3), ("a a", 3), ("} } }", 5)])
def test_equal_neighbours_need_a_blank_between(text: str, columns: int) -> None:
    assert columns_for(text) == columns


def test_texts_without_room_are_counted_and_said(formulas: str, tmp_path: Path) -> None:
    dataset = open_dataset(formulas)
    rows = read_split(dataset, "train", ["width", "text"]).to_pylist()
    config = small_config(formulas, tmp_path, *KINDS["ctc"])  # stride 4
    crowded = sum(columns_for(row["text"]) > row["width"] // 4 for row in rows)
    assert 0 < crowded < len(rows) and texts_without_room(config, dataset) == crowded
    warnings: list[str] = []
    begin_run(config, new_run(config), warnings.append)
    assert len(warnings) == 1 and f"{crowded} of 300 training texts" in warnings[0]
    assert texts_without_room(small_config(formulas, tmp_path), dataset) == 0
