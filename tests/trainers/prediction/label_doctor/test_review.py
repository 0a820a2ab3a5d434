"""The command from a file of out-of-fold predictions to page and corrections, on datasets that no network has seen."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.shards import read_split
from tests.support.commands import command_here, only_message
from tests.support.fold_datasets import predicted, spots, write_fold_dataset, write_predicted
from tests.trainers.report.test_page import Page
from trainers.prediction.out_of_fold import OutOfFold
from trainers.report.rendering import render_html

HOSTILE = "<script>alert(1)</script>"
CLASSES = [HOSTILE, "b & 'c'", "文字", "שלום", "x" * 300]
ROWS = 120


def probs_of(index: int, classes: int) -> list[float]:
    return [0.9 if other == index else 0.1 / (classes - 1) for other in range(classes)]


def one_class(folder: Path, wrong: Mapping[int, int], images: Mapping[int, bytes] | None = None) -> tuple[Dataset, OutOfFold]:
    """Rows of the classes in turns, `wrong` of them labeled with another one; the predictions are right."""
    labels = [{"label": CLASSES[wrong.get(row, row % len(CLASSES))]} for row in range(ROWS)]
    dataset = write_fold_dataset(
        folder, "multiclass", {"classes": CLASSES}, labels, images=images, ids=lambda row: f"<b>{row}</b>", name=HOSTILE
    )
    rows = [{"id": f"<b>{row}</b>", "source": "&", "fold": row % 3, **labels[row]} for row in range(ROWS)]

    def predictions(row: int) -> dict[str, Any]:
        return {"prediction": CLASSES[row % len(CLASSES)], "probs": probs_of(row % len(CLASSES), len(CLASSES))}

    return dataset, predicted(dataset, predictions, rows)


def corrections(out: Path) -> list[dict[str, str]]:
    with (out / "corrections.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def corrected(dataset: Dataset, folder: Path) -> dict[str, Any]:
    """The labels by id after the corrections of the review `out` are applied."""
    places = [dataset.storage.uri, str(folder / "out" / "corrections.csv"), str(folder / "corrected")]
    result = command_here("data_pipeline.correct", *places)
    assert result.returncode == 0, result.stderr
    found, columns = open_dataset(places[2]), list(dataset.manifest.columns)
    tables = [read_split(found, name, ["id", *columns]).to_pylist() for name in found.manifest.splits]
    return {row["id"]: {name: row[name] for name in columns} for rows in tables for row in rows}


def test_a_review_of_one_class_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {20: spots(3), 40: b"\x89PNG broken", 6: b"not an image"}
    wrong = {7: 0, 20: 1, 6: 4}  # row 20 has the image of row 3, and so another label
    dataset, found = one_class(tmp_path / "data", wrong, images)
    found = OutOfFold(found.task, found.rows[:40] + found.rows[41:], found.truth_columns, {**found.made_by, "rejected": 1})
    file, out = write_predicted(tmp_path / "oof.parquet", found), tmp_path / "new" / "review"
    result = command_here("trainers.label_errors", file, str(out), "--count", "2")
    assert result.returncode == 0, result.stderr
    assert "3 of 119 labels are likely wrong (2.52 %), the 2 surest are listed, 1 groups of near-duplicates" in result.stdout
    lines = {row["id"]: row for row in corrections(out)}
    assert list(lines) == ["<b>6</b>", "<b>7</b>", "<b>3</b>", "<b>20</b>"]
    assert lines["<b>6</b>"] == {"id": "<b>6</b>", "given": CLASSES[4], "suggested": CLASSES[1], "new": ""}
    assert lines["<b>20</b>"]["suggested"] == "" and lines["<b>3</b>"]["given"] == CLASSES[3]
    html = (out / "index.html").read_text()
    page = Page(html)
    assert "script" not in page.tags and not page.open
    assert not any("://" in place or place.startswith("//") for place in page.sources + page.links) and "url(" not in html
    assert len(page.sources) == 3 and all((out / source).is_file() for source in page.sources), "of row 6 there is no image"
    text = " ".join("".join(page.text["body"]).split())
    for part in (
        HOSTILE, "<b>7</b>", CLASSES[4], "the image cannot be decoded", "Only the 2 surest of 3", "1 images could not be used",
        "2 images cannot be decoded", f"python -m data_pipeline.correct {dataset.storage.uri}", "fold 1", "90 %", "corrected",
    ):  # fmt: skip
        assert part in text, part
    record = json.loads((out / "label_errors.json").read_text())
    assert (record["labels"], record["likely_wrong"], record["listed"], record["duplicates"]) == (119, 3, 2, 1)

    # Again: refused, unless it may overwrite, which leaves alone what it has not made; the page comes last.
    assert "--overwrite" in only_message(command_here("trainers.label_errors", file, str(out)))
    (out / "mine.txt").write_text("kept")
    monkeypatch.setattr("trainers.report.label_review.render_html", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        command_here("trainers.label_errors", file, str(out), "--overwrite")
    assert not (out / "index.html").exists() and not (out / "corrections.csv").exists()
    monkeypatch.setattr("trainers.report.label_review.render_html", render_html)
    again = [file, str(out), "--overwrite", "--no-duplicates", "--accept", "--method", "cleanlab"]
    result = command_here("trainers.label_errors", *again)
    assert result.returncode == 0 and "near-duplicates" not in result.stdout, result.stderr
    assert [row["new"] for row in corrections(out)] == [CLASSES[1], CLASSES[2], CLASSES[0]]
    labels = corrected(dataset, out.rename(tmp_path / "out").parent)
    assert labels == {f"<b>{row}</b>": {"label": CLASSES[row % len(CLASSES)]} for row in range(ROWS)}
    out = tmp_path / "out"
    assert (out / "mine.txt").read_text() == "kept" and len(list((out / "images").iterdir())) == 2


def test_a_review_of_several_classes_a_row(tmp_path: Path) -> None:
    classes = ["a", "b", "c"]
    truth = [[name for index, name in enumerate(classes) if row >> index & 1] for row in range(ROWS)]
    labels = [{"labels": list(names)} for names in truth]
    labels[0]["labels"] = ["a", "c"]  # none in truth
    labels[7]["labels"] = ["b"]  # all in truth
    dataset = write_fold_dataset(tmp_path / "data", "multilabel", {"classes": classes}, labels)
    rows = [{"id": f"row-{row:03d}", "source": "", "fold": row % 3, **labels[row]} for row in range(ROWS)]

    def predictions(row: int) -> dict[str, Any]:
        return {"predictions": truth[row], "probs": [0.95 if name in truth[row] else 0.04 for name in classes]}

    file = write_predicted(tmp_path / "oof.parquet", predicted(dataset, predictions, rows))
    result = command_here("trainers.label_errors", file, str(tmp_path / "out"), "--accept")
    assert result.returncode == 0, result.stderr
    assert f"4 of {3 * ROWS} labels" in result.stdout
    assert corrections(tmp_path / "out") == [
        {"id": "row-000", "given": '["a", "c"]', "suggested": "[]", "new": "[]"},
        {"id": "row-007", "given": '["b"]', "suggested": '["a", "b", "c"]', "new": '["a", "b", "c"]'},
    ]
    assert corrected(dataset, tmp_path) == {f"row-{row:03d}": {"labels": truth[row]} for row in range(ROWS)}
    page = Page((tmp_path / "out" / "index.html").read_text())
    text = " ".join(" ".join(page.text["main"]).split())
    assert (
        "− a 4 % − c 4 %" in text and "+ a 95 %" in text and "a absent present 1" in text and "label a c predicted none" in text
    )


def test_a_review_of_several_heads(tmp_path: Path) -> None:
    heads = {"mask": ["worn", "none"], "age": ["young", "middle", "old"]}
    truth = [{"mask": heads["mask"][row % 2], "age": heads["age"][row % 3]} for row in range(ROWS)]
    labels = [dict(row) for row in truth]
    labels[4]["mask"], labels[4]["age"], labels[9]["age"] = "none", "old", "middle"
    target = {"heads": heads, "joint": {"name": "class", "classes": [f"{a}/{b}" for a in heads["mask"] for b in heads["age"]]}}
    dataset = write_fold_dataset(tmp_path / "data", "multitask", target, labels)
    rows = [{"id": f"row-{row:03d}", "source": "", "fold": row % 3, **labels[row]} for row in range(ROWS)]
    task = predicted(dataset, lambda _: {}, []).task

    def predictions(row: int) -> dict[str, Any]:
        found = dict(task.perfect_prediction(truth[row]))
        return found | {f"{head}_probs": probs_of(names.index(truth[row][head]), len(names)) for head, names in heads.items()}

    file = write_predicted(tmp_path / "oof.parquet", predicted(dataset, predictions, rows))
    result = command_here("trainers.label_errors", file, str(tmp_path / "out"), "--accept")
    assert result.returncode == 0, result.stderr
    assert corrected(dataset, tmp_path) == {f"row-{row:03d}": truth[row] for row in range(ROWS)}
    assert {(row["id"], row["column"], row["given"], row["suggested"]) for row in corrections(tmp_path / "out")} == {
        ("row-004", "mask", "none", "worn"),
        ("row-004", "age", "old", "middle"),
        ("row-009", "age", "middle", "young"),
    }
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count("<article") == 2, "a card for each image"


def test_where_all_is_right_there_is_nothing_to_review(tmp_path: Path) -> None:
    _, found = one_class(tmp_path / "data", {})
    result = command_here("trainers.label_errors", write_predicted(tmp_path / "oof.parquet", found), str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr
    assert "0 of 120 labels" in result.stdout and "correct" not in result.stdout
    assert "Nothing to review" in (tmp_path / "out" / "index.html").read_text() and not corrections(tmp_path / "out")


def test_mistakes_have_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = one_class(tmp_path / "data", {})
    one_class(tmp_path / "changed", {0: 1})
    file, out = write_predicted(tmp_path / "oof.parquet", found), str(tmp_path / "out")

    def refused(*args: str) -> str:
        message = only_message(command_here("trainers.label_errors", *args))
        assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
        return message

    (tmp_path / "other.parquet").write_bytes(b"PAR1")
    assert "no file of out-of-fold predictions" in refused(str(tmp_path / "other.parquet"), out)
    assert "No file at" in refused(str(tmp_path / "none.parquet"), out)
    assert "No run at" in refused(str(tmp_path / "data"), out)
    assert "folder" in refused(file)
    assert "labeling.tta=[identity]" in refused(file, out, "labeling.tta=[identity]")
    assert "--some-folds" in refused(file, out, "--some-folds")
    assert "digest differs" in refused(file, out, "--dataset", str(tmp_path / "changed"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "index.html").write_text("mine")
    assert "no review of labels" in refused(file, str(tmp_path / "full"), "--overwrite")
    assert (tmp_path / "full" / "index.html").read_text() == "mine"
    monkeypatch.setattr("trainers.prediction.label_doctor.cleanlab_method.find_spec", lambda _: None)
    assert "pip install -e '.[labels]'" in refused(file, out, "--method", "cleanlab")
    rows = [{**row, "probs": [float("nan"), *row["probs"][1:]]} if row["id"] == "<b>9</b>" else row for row in found.rows]
    diverged = OutOfFold(found.task, rows, found.truth_columns, found.made_by)
    message = only_message(command_here("trainers.label_errors", write_predicted(tmp_path / "nan.parquet", diverged), out))
    assert "<b>9</b>" in message and "fold 0" in message and "NaN" in message
    (tmp_path / "data").rename(tmp_path / "moved")
    assert "No dataset" in only_message(command_here("trainers.label_errors", file, str(tmp_path / "x")))
    assert (
        command_here("trainers.label_errors", file, str(tmp_path / "x"), "--dataset", str(tmp_path / "moved")).returncode == 0
    )
