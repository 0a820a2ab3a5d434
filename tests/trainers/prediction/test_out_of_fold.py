"""Out-of-fold predictions: each row by the run that left it out; what is tuned on them is judged on other folds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from cluster.errors import UserError
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.storage.base import open_storage
from tests.support.commands import command_here, only_message
from tests.support.fold_datasets import predicted, write_fold_dataset
from tests.support.label_datasets import TINY, write_labels
from tests.support.predict_here import without_ray
from tests.support.runs import train_here
from trainers import calibrate as calibrate_command
from trainers.checkpoint.load import open_checkpoint
from trainers.config.load import load_config
from trainers.prediction.calibration import calibrate
from trainers.prediction.local import predict_split_here
from trainers.prediction.out_of_fold import (
    dataset_of,
    fold_runs,
    predict_out_of_fold,
    read_out_of_fold,
    require_all_folds,
    runs_below,
    write_out_of_fold,
)

pytestmark = pytest.mark.xdist_group("out_of_fold")  # one process trains for all

FOLDS = 3
SECRET = {"classes": ["a", "b", "c", "d", "password=x"]}  # a name is no secret


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in folds, and a run for each."""
    folder = tmp_path_factory.mktemp("folds")
    write_labels(folder / "data", "multilabel", {f"fold-{fold}": 64 for fold in range(FOLDS)}, SECRET)
    for fold in range(FOLDS):
        own = [f"data.dataset={folder}/data", f"runs_dir={folder}/runs", f"data.fold={fold}", f"name=fold{fold}", "epochs=2"]
        train_here(load_config(None, [*TINY, *own]))
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["calibrate", *arguments])
    return calibrate_command.main()


def test_every_row_is_predicted_by_the_run_that_left_it_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_below([str(folder / "runs")])
    assert len(runs) == FOLDS
    found = fold_runs(runs, ["labeling.tta=[identity,rotate_180]"])
    dataset = open_dataset(str(folder / "data"))
    require_all_folds(found, dataset)
    with pytest.raises(UserError, match=r"No run left out fold 1 of the 3: train it with data\.fold=1"):
        require_all_folds([found[0], found[2]], dataset)
    with pytest.raises(UserError, match="both left out fold 0"):
        fold_runs([*runs, runs[0]], [])
    predicted = predict_out_of_fold(found, dataset, predict_split_here)
    assert sorted(row["id"] for row in predicted.rows) == sorted(
        f"fold-{fold}-{number:04d}" for fold in range(FOLDS) for number in range(64)
    )
    assert all(row["id"].startswith(f"fold-{row['fold']}-") for row in predicted.rows)

    file = folder / "oof.parquet"
    write_out_of_fold(open_storage(file), predicted, found[0].checkpoint.config)
    again = read_out_of_fold(str(file))
    assert again.task == predicted.task and again.made_by == predicted.made_by
    assert [row["probs"] for row in again.rows] == [row["probs"] for row in predicted.rows]
    assert dataset_of(again).manifest.digest == dataset.manifest.digest
    assert json.loads(pq.read_metadata(file).metadata[b"inkray"])["checkpoints"].keys() == {"0", "1", "2"}

    # Tuned on all, judged on other folds; the file predicts as it says, with the views that it was tuned with.
    tuned = folder / "tuned.yaml"
    assert run(monkeypatch, str(file), str(tuned), "--per-class") == 0
    printed = capsys.readouterr().out
    assert "tuned, judged on other folds" in printed and "as predicted" in printed and "password=x" in printed
    checkpoint = open_checkpoint(runs[0]).with_options([f"labeling={tuned}"])
    labeling = checkpoint.config.labeling
    assert labeling.tta == ["identity", "rotate_180"] and set(labeling.thresholds) == set("abcd") and labeling.temperature > 0
    assert all(0 < threshold < 1 for threshold in labeling.thresholds.values())
    images = torch.zeros((1, 1, 32, 32), dtype=torch.uint8)
    (row,) = checkpoint.task.predict(checkpoint.task.build_model().eval(), images, torch.tensor([[32, 32]]))
    assert np.isfinite(row["probs"]).all()
    with pytest.raises(UserError, match=r"tuned\.yaml' is there already"):
        run(monkeypatch, str(file), str(tuned))
    assert run(monkeypatch, str(file), str(tuned), "--overwrite") == 0


def test_wrong_labels_are_found_in_what_runs_predict(folder: Path, tmp_path: Path) -> None:
    runs, out = runs_below([str(folder / "runs")]), str(tmp_path / "review")
    with without_ray():
        assert "No run left out fold 2" in only_message(command_here("trainers.label_errors", *runs[:2], out))
        assert not (tmp_path / "review").exists()
        result = command_here("trainers.label_errors", *runs[:2], out, "labeling.tta=[identity,rotate_90]", "--some-folds")
    assert result.returncode == 0, result.stderr
    found = read_out_of_fold(f"{out}/out_of_fold.parquet")
    assert found.made_by["options"]["tta"] == ["identity", "rotate_90"] and set(found.by_fold()) == {0, 1}
    page = (tmp_path / "review" / "index.html").read_text()
    assert "Nothing was predicted for fold 2" in page and f"of {128 * 5:,} labels" in result.stdout
    assert command_here("trainers.label_errors", f"{out}/out_of_fold.parquet", str(tmp_path / "again")).returncode == 0


def test_what_is_no_such_file_is_refused(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.parquet"
    other.write_bytes(b"PAR1")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "table.parquet")
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"inkray": "{}"}), tmp_path / "predictions.parquet")
    for file, message in (
        (other, "no file of out-of-fold predictions: it is no Parquet file"),
        (tmp_path / "table.parquet", "it is another Parquet file"),
        (tmp_path / "predictions.parquet", "it is another Parquet file, such as predictions of images"),
        (folder / "runs", r"[Dd]irectory.*Make one with `python -m trainers\.out_of_fold"),
        (tmp_path / "none", "No file at"),
    ):
        with pytest.raises(UserError, match=message):
            run(monkeypatch, str(file), str(tmp_path / "tuned.yaml"))
    checkpoint = open_checkpoint(runs_below([str(folder / "runs")])[0])
    for wrong in (f"labeling={tmp_path}/tuned.yml.txt", "labeling=3", f"labeling={tmp_path}/none.yaml"):
        with pytest.raises(UserError) as caught:
            checkpoint.with_options([wrong])
        assert "labeling" in str(caught.value) or "none.yaml" in str(caught.value)
        assert len(str(caught.value)) < 300, "one message, no wall"
    with pytest.raises(UserError, match="No run at"):
        runs_below([str(tmp_path)])


def test_runs_that_predict_differently_are_told_apart(tmp_path: Path) -> None:
    """By the key that differs, or by the columns."""
    write_labels(tmp_path / "data", "multitask", {f"fold-{fold}": 16 for fold in range(3)})
    ways = (
        ["classifier.head.name=attention", "classifier.head.hidden_dim=8"],
        ["classifier.head.name=flat"],
        ["classifier.head.name=flat", "labeling.temperatures={shade: 2.0}"],
    )
    runs = []
    for fold, own in enumerate(ways):
        given = [f"data.dataset={tmp_path}/data", f"runs_dir={tmp_path}/runs", f"data.fold={fold}", "epochs=1", *own]
        runs.append(train_here(load_config(None, [*TINY, *given]))[0].uri)
    with pytest.raises(UserError, match=r"different columns: only one has joint_attention"):
        fold_runs(runs[:2], [])
    with pytest.raises(UserError, match=r"labeling\.temperatures is \{\} and \{'shade': 2\.0\}.*as in labeling\.temp"):
        fold_runs(runs[1:], [])
    assert [run.fold for run in fold_runs(runs[1:], ["labeling.temperatures={}"])] == [1, 2]


def test_a_temperature_at_the_end_of_what_is_tried_is_said(tmp_path: Path) -> None:
    """Answers that are always right, however uncertain, could always be more certain."""
    labels = [{"label": "ab"[number % 2]} for number in range(40)]
    dataset = write_fold_dataset(tmp_path, "multiclass", {"classes": ["a", "b"]}, labels)
    rows = [{"id": str(number), "source": "", "fold": number % 3, **row} for number, row in enumerate(labels)]

    def notes(right: Callable[[int], float]) -> list[str]:
        def prediction(number: int) -> dict[str, Any]:
            probs = [right(number), 1 - right(number)]
            return {"prediction": "ab"[int(probs[1] > probs[0])], "probs": probs if number % 2 == 0 else probs[::-1]}

        return calibrate(predicted(dataset, prediction, rows), per_class=False).notes

    assert "at the end of what is tried, 0.05 to 20" in notes(lambda number: 0.6)[0]
    assert not notes(lambda number: 0.3 if number % 5 == 0 else 0.8)
