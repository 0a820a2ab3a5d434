"""The commands for labels, one after the other, as docs/classification.md has them: from folds to corrected labels."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from data_pipeline.dataset.manifest import open_dataset
from tests.support.commands import command_here

SMALL = [
    "classifier.backbone.name=test_resnet",
    "epochs=1",
    "global_batch_size=16",
    "scaling.num_train_workers=1",
    "compute.threads_per_worker=1",
    "tracking.wandb=false",
    "report.enabled=false",
]


def run(module: str, *words: str | Path) -> str:
    finished = command_here(module, *map(str, words))
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.services
@pytest.mark.ray
def test_from_folds_to_corrected_labels(ray_cluster: None, tmp_path: Path) -> None:
    data = tmp_path / "letters"
    counts = ("--count", "60", "--test-count", "12", "--folds", "2")
    printed = run("data_pipeline.synthesize", "letters", data, "--size", "32", "--easy", *counts)
    assert "Absent labels" in printed and open_dataset(str(data)).manifest.folds == 2
    leaks = command_here("data_pipeline.leaks", str(data))
    assert leaks.returncode in (0, 1), leaks.stderr

    study = tmp_path / "folds.yaml"
    content = {
        "name": "by_fold",
        "runs_dir": str(tmp_path / "studies"),
        "overrides": [f"data.dataset={data}", "classifier.in_channels=1", "stream.augmentation=boards", *SMALL],
        "grid": {"data.fold": [0, 1]},
        "max_concurrent": 1,
    }
    study.write_text(json.dumps(content))
    table = run("trainers.tune", study)
    assert "val/map" in table and "fold=1" in table and "FAILED" not in table, table

    oof = tmp_path / "oof.parquet"
    printed = run("trainers.out_of_fold", tmp_path / "studies" / "by_fold", oof, "labeling.tta=[identity,rotate_90]")
    assert "60 rows of 2 folds" in printed
    assert pq.read_table(oof).column("fold").to_pylist().count(0) == 30
    tuned = tmp_path / "tuned.yaml"
    assert "judged on other folds" in run("trainers.calibrate", oof, tuned, "--per-class")

    (one, *_) = [path for path in (tmp_path / "studies" / "by_fold").iterdir() if (path / "config.yaml").exists()]
    out, sheet = tmp_path / "predictions", tmp_path / "sheet.csv"
    words = (one, data, out, f"labeling={tuned}", "--csv", sheet, "--csv-values", "probabilities")
    assert "12 predictions" in run("trainers.predict", *words)
    lines = list(csv.reader(sheet.read_text().splitlines()))
    assert lines[0] == ["index", *"abcdefghijklmnopqrstuvwxyz"] and len(lines) == 13
    assert json.loads((out / "job.json").read_bytes())["decoding"]["tta"] == ["identity", "rotate_90"]
    assert command_here("trainers.predict", *map(str, words)).returncode == 2, "the table is there already"
    assert "12 predictions" in run("trainers.predict", *words, "--overwrite")
    assert "mAP" in run("trainers.evaluate", one, data, f"labeling={tuned}")

    review = tmp_path / "review"
    run("trainers.label_errors", oof, review, "--count", "5", "--accept")
    assert (review / "index.html").exists() and (review / "corrections.csv").exists()
    corrected = tmp_path / "corrected"
    run("data_pipeline.correct", data, review / "corrections.csv", corrected)
    before, after = open_dataset(str(data)).manifest, open_dataset(str(corrected)).manifest
    assert before.digest != after.digest
    assert sum(split.rows for split in after.splits.values()) == sum(split.rows for split in before.splits.values())
