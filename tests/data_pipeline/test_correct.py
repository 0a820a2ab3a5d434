"""Corrections of labels as a user applies them: what changes, what stays to the bit, and what is refused before anything is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from data_pipeline import correct
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.label_columns import label_columns
from data_pipeline.dataset.manifest import Manifest, Split, open_dataset
from data_pipeline.dataset.schema import FIXED_COLUMNS
from data_pipeline.dataset.shards import Rejected, Row, read_split, write_rejected, write_shard
from data_pipeline.preparation.images import encode_png
from data_pipeline.preparation.label_survey import LabelSurvey
from data_pipeline.storage.base import open_storage

TARGETS: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "multiclass": ({"classes": ["10", "2", "ü"]}, [{"label": "10"}, {"label": "2"}]),
    "multilabel": ({"classes": ["a", "b", "c"]}, [{"labels": ["a", "c"]}, {"labels": []}]),
    "multitask": ({"heads": {"mask": ["worn", "drop"], "age": ["old", "new"]}}, [{"mask": "worn", "age": "new"}] * 2),
}


def write_dataset(folder: Path, task: str) -> str:
    """Two shards of four rows as `train` and one of two rows as `val`; targets alternate."""
    target, values = TARGETS[task]
    columns, survey, storage = label_columns(task, target), LabelSurvey(task, target), open_storage(folder)
    images = [encode_png(np.full((8, 8 + number), number, np.uint8)) for number in range(10)]
    rows = [Row(f"r{n}", image, 8 + n, 8, values[n % 2], "src", "w", 3) for n, image in enumerate(images)]
    splits = {}
    for name, parts in {"train": [rows[:4], rows[4:8]], "val": [rows[8:]]}.items():
        shards = [write_shard(storage, f"{name}/part-{n:05d}.parquet", part, columns) for n, part in enumerate(parts)]
        splits[name] = Split(shards, survey.stats([survey.of([row.target for row in part]) for part in parts]))
    write_rejected(storage.child("rejected.parquet"), [Rejected("bad", "train", "bad.png", "empty")])
    manifest = Manifest("made", task, target, columns, ImagePolicy(8, 32), splits, 1, {"command": "made"})
    storage.child("dataset.json").write_bytes(manifest.to_json())
    return str(folder)


def apply(monkeypatch: pytest.MonkeyPatch, dataset: str, sheet: str | bytes, out: Path | str, *options: str) -> Manifest:
    file = Path(dataset).parent / "corrections.csv"
    file.write_bytes(sheet if isinstance(sheet, bytes) else sheet.encode())
    monkeypatch.setattr(sys, "argv", ["correct", dataset, str(file), str(out), *options])
    assert correct.main() == 0
    return open_dataset(str(out)).manifest


def rows_of(uri: str | Path, split: str) -> dict[str, dict[str, Any]]:
    dataset = open_dataset(str(uri))
    columns = [*FIXED_COLUMNS, *dataset.manifest.columns]
    return {row["id"]: row for row in read_split(dataset, split, columns).to_pylist()}


CASES: dict[str, tuple[str, dict[str, dict[str, Any] | None]]] = {
    # A byte order mark, semicolons and CRLF as spreadsheets write them; further columns; a row left as it is, whatever it says.
    "multiclass": ("\ufeffid;given;suggested;new;p\r\nr0;10;2;2;.9\r\nr1;2;;;.5\r\nr9;2;10; ü ;\r\nr5;2;10;drop;\r\n\r\n", {
        "r0": {"label": "2"}, "r9": {"label": "ü"}, "r5": None}),
    "multilabel": ('id,given,new\nr0,a|c,"c|b"\nr1,[],"[""b"", ""a""]"\nr2,"[""a"", ""c""]",[]\nr4,a|c,drop\n', {
        "r0": {"labels": ["b", "c"]}, "r1": {"labels": ["a", "b"]}, "r2": {"labels": []}, "r4": None}),
    # A class may have the name of the word that removes a row.
    "multitask": ("id,column,given,suggested,new\nr0,mask,worn,,drop\nr0,age,new,,old\nr9,age,new,,drop\nr8,age,new,,old\n", {
        "r0": {"mask": "drop", "age": "old"}, "r9": None, "r8": {"age": "old"}}),
}  # fmt: skip


@pytest.mark.parametrize("task", CASES)
def test_labels_change_and_everything_else_stays_to_the_bit(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sheet, changes = CASES[task]
    dataset, out = write_dataset(tmp_path / "data", task), tmp_path / "new" / "corrected"
    before = open_dataset(dataset).manifest
    made = apply(monkeypatch, dataset, sheet, out)
    for split in ("train", "val"):
        expected = rows_of(dataset, split)
        for name, change in changes.items():
            if change is None:
                expected.pop(name, None)
            elif name in expected:
                expected[name] |= change
        assert rows_of(out, split) == expected
        survey = LabelSurvey(task, made.target)
        assert made.split(split).target_stats == survey.stats([survey.of(list(expected.values()))])
    dropped = [name for name, change in changes.items() if change is None]
    rejected = pq.read_table(out / "rejected.parquet").to_pylist()
    assert [row["id"] for row in rejected] == ["bad", *dropped] and "dropped by a correction" in rejected[1]["reason"]
    assert made.rejected == 2 and made.digest != before.digest and made.preparation["source"] == {"command": "made"}
    assert made.preparation["source_digest"] == before.digest and made.preparation["dropped"] == 1
    history = pq.read_table(out / "corrections.parquet").to_pylist()
    assert len(history) == made.preparation["corrections"] + 1 and {row["digest"] for row in history} == {before.digest}
    assert [row["id"] for row in history if row["new"] is None] == dropped


def test_a_dataset_is_corrected_in_its_place_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write_dataset(tmp_path / "data", "multiclass")
    sheet = "id,given,new\nr0,10,2\n"
    with pytest.raises(UserError, match="holds a dataset already"):
        apply(monkeypatch, dataset, sheet, dataset)
    first = apply(monkeypatch, dataset, sheet, dataset, "--overwrite")
    assert rows_of(dataset, "train")["r0"]["label"] == "2"
    assert sorted(path.name for path in Path(dataset).glob("train/*")) == ["part-00000-1.parquet", "part-00001-1.parquet"]
    with pytest.raises(UserError, match="row 2: 'r0' has '2' now, not '10' as `given` says"):
        apply(monkeypatch, dataset, sheet, dataset, "--overwrite")
    second = apply(monkeypatch, dataset, "id,given,new\nr0,2,ü\n", dataset, "--overwrite")
    history = pq.read_table(Path(dataset, "corrections.parquet")).to_pylist()
    assert [(row["old"], row["new"]) for row in history] == [("10", "2"), ("2", "ü")]
    assert history[1]["digest"] == first.digest != second.digest


def test_a_correction_that_was_killed_is_repeated_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, sheet = write_dataset(tmp_path / "data", "multiclass"), "id,given,new\nr0,10,2\nr1,2,drop\n"
    written = (tmp_path / "data" / "dataset.json").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Manifest, "to_json", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        apply(patch, dataset, sheet, dataset, "--overwrite")
    assert (tmp_path / "data" / "dataset.json").read_bytes() == written
    apply(monkeypatch, dataset, sheet, dataset, "--overwrite")
    history = pq.read_table(Path(dataset, "corrections.parquet")).to_pylist()
    assert [(row["id"], row["new"]) for row in history] == [("r0", "2"), ("r1", None)]
    assert [row["id"] for row in pq.read_table(Path(dataset, "rejected.parquet")).to_pylist()] == ["bad", "r1"]


@pytest.mark.parametrize(
    ("task", "sheet", "said"),
    [
        ("multiclass", "id,given,new\nr0,10,3\nr77,10,2\n", "row 2: '3' is none of the 3 classes: 10, 2, ü"),
        ("multiclass", "id,given,new\nr77,10,2\nr1,10,2\n", "(?s)row 2: no row has the id 'r77'.*row 3: 'r1' has '2' now"),
        ("multiclass", "id,given,new\nr0,10,2\nr0,10,ü\n", "row 3: the label of 'r0' is corrected in row 2 already"),
        ("multiclass", "id,given,new\nr0,10,\nr1,2,2\n", "changes nothing"),
        ("multiclass", "id,given\nr0,10\n", "row 1: no column 'new'; it has: id, given"),
        ("multiclass", "id,given,new\nr0,10\n", "row 2: 2 cells instead of 3"),
        ("multiclass", "id,given,new,new\nr0,10,2,\n", "row 1: several columns have the name 'new'"),
        ("multiclass", 'id,given,new\nr0,10,"2\nr1,2,10"\n', "row 2: 'new' goes on over several lines"),
        ("multiclass", 'id,given,new\nr0,10,"2\n', "row 2: unexpected end of data"),
        ("multilabel", "id,given,new\nr1,,a\n", "row 2: `given` is empty: .* .. where it has none"),
        ("multiclass", "", "it is empty; its first row names the columns id, given, new"),
        ("multiclass", "id,given,new\nr0,10,2\n".encode("utf-16"), "is not UTF-8"),
        ("multiclass", "id,given,new\n" + "".join(f"r{n},{(10, 2)[n % 2]},drop\n" for n in range(10)), "drops all"),
        ("multilabel", "id,given,new\nr0,a|c,a|a\n", "row 2: 'a.a' names a class twice"),
        ("multilabel", 'id,given,new\nr0,a|c,"[1]"\n', "row 2: '.1.' is no list of names"),
        ("multilabel", "id,given,new\nr0,a|c,[a\n", "row 2: '.a' is no JSON list"),
        ("multitask", "id,given,new\nr0,worn,drop\n", "row 1: no column 'column'"),
        ("multitask", "id,column,given,new\nr0,nose,worn,drop\n", "row 2: the dataset has no labels 'nose'; it has: mask, age"),
        ("multitask", "id,column,given,new\nr0,age,new,drop\nr0,mask,worn,drop\n", "row 3: 'r0' is dropped in one row"),
    ],
    ids=range(19),
)
def test_a_mistake_is_named_with_its_row_and_nothing_is_written(
    task: str, sheet: str | bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_dataset(tmp_path / "data", task)
    with pytest.raises(UserError, match=said):
        apply(monkeypatch, dataset, sheet, tmp_path / "out")
    assert not (tmp_path / "out").exists()
