"""Columns of predictions: what has no prediction has its own empty value, and no column takes the place of another."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.storage.base import open_storage
from tests.support.stroke_count import StrokeCountTask
from trainers.prediction.columns import require_own_columns
from trainers.prediction.parts import Parts
from trainers.tasks.sequence import SequenceTask


def test_an_input_that_cannot_be_read_has_no_number(tmp_path: Path) -> None:
    schema = pa.schema([("strokes", pa.int64()), ("shares", pa.list_(pa.float32())), ("label", pa.string())])
    parts = Parts(open_storage(tmp_path), "job", schema, ["a", "b"], {}, 8)
    assert parts.look() == {"a", "b"}
    parts.add({"id": "a", "strokes": 3, "shares": [0.25, 0.75], "label": "x", "error": ""})
    parts.add({"id": "b", "error": "a link that leads nowhere"})
    good, bad = pq.read_table(tmp_path / "predictions-00000.parquet").to_pylist()
    assert good["strokes"] == 3 and good["shares"] == [0.25, 0.75]
    assert bad == {"id": "b", "strokes": None, "shares": None, "label": "", "error": "a link that leads nowhere", "warning": ""}
    again = Parts(open_storage(tmp_path), "job", schema, ["a", "b"], {}, 8)
    assert again.look() == {"b"}
    again.add({"id": "b", "strokes": 1, "shares": [], "label": "y", "error": ""})
    assert [row["strokes"] for row in pq.read_table(tmp_path / "predictions-00000.parquet").to_pylist()] == [3, 1]


@pytest.mark.parametrize("name", ["id", "source", "error", "warning", "page", "count"])
def test_a_column_of_two_meanings_is_refused(name: str) -> None:
    class Doubtful(StrokeCountTask):
        prediction_schema: ClassVar[pa.Schema] = pa.schema([("strokes", pa.int64()), (name, pa.string())])

    with pytest.raises(UserError, match=f"a column '{name}'"):
        require_own_columns(Doubtful("strokes"))


def test_tasks_have_columns_of_their_own() -> None:
    require_own_columns(SequenceTask(Tokenizer(["a"])))
    require_own_columns(StrokeCountTask("strokes"))
