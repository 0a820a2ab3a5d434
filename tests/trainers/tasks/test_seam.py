"""The task seam: the commands train, evaluate, predict, compare and report a second task without knowing it."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.predict_here import without_ray
from tests.support.stroke_count import StrokeCountTask, write_stroke_dataset
from trainers import evaluate, predict, train, tune
from trainers.checkpoint.load import load_checkpoint
from trainers.tasks import TASKS

SMALL = [
    "epochs=6",
    "global_batch_size=32",
    "optim.lr=2e-2",
    "tracking.wandb=false",
    "report.examples=6",
    "seed=1",
    "compute.threads_per_worker=1",
]


@pytest.fixture
def strokes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A dataset of the second task, which is registered."""
    monkeypatch.setitem(TASKS, "stroke_count", StrokeCountTask)
    write_stroke_dataset(tmp_path / "strokes", train=320, val=48, test=48)
    return str(tmp_path / "strokes")


def run(monkeypatch: pytest.MonkeyPatch, main: object, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["command", *arguments])
    assert main() == 0  # type: ignore[operator]


@pytest.mark.parametrize("local", [pytest.param(False, marks=pytest.mark.services, id="ray"), pytest.param(True, id="local")])
def test_a_second_task_goes_all_the_way(
    ray_cluster: None,
    strokes: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    local: bool,
) -> None:
    own = [f"data.dataset={strokes}", f"runs_dir={tmp_path}/runs", "scaling.num_train_workers=2", *SMALL]
    run(monkeypatch, train.main, *(["--local", *own[:2], *SMALL] if local else own))
    printed = capsys.readouterr().out
    assert "a number of strokes" in printed and "right" in printed and "off by" in printed and "exact" not in printed
    assert "always answering" in printed
    (folder,) = (tmp_path / "runs").iterdir()
    record = json.loads((folder / "evaluation.json").read_bytes())
    metrics = record["metrics"]["test"]
    assert metrics["count"] == 48 and metrics["mean_error"] < 0.8  # a constant answer is off by 1.2
    assert {"test, drawn", "test, drawn, even"} < set(record["metrics"])
    page = (folder / "report" / "index.html").read_text()
    assert "How far off the counts are" in page and "Mean error" in page
    checkpoint = Path(record["checkpoint"])
    assert (checkpoint / "unit.txt").read_text() == "strokes" and "Mean error" in (checkpoint / "README.md").read_text()
    assert json.loads((checkpoint / "checkpoint.json").read_bytes())["best_by"] == ["val/mean_error", "min"]
    assert isinstance(load_checkpoint(str(folder)).task, StrokeCountTask)

    with without_ray() if local else contextlib.nullcontext():
        run(monkeypatch, evaluate.main, str(folder), strokes, "--json", str(tmp_path / "metrics.json"))
        run(monkeypatch, predict.main, str(folder), strokes, str(tmp_path / "out"))
    assert json.loads((tmp_path / "metrics.json").read_bytes())["metrics"]["test"] == pytest.approx(metrics)
    table = pq.read_table(tmp_path / "out" / "predictions-00000.parquet")
    assert table.column_names == ["id", "strokes", "error", "warning"] and str(table.schema.field("strokes").type) == "int64"
    assert table.num_rows == 48
    monkeypatch.setattr("sys.argv", ["predict", str(folder), strokes, str(tmp_path / "other"), "decoding.method=beam"])
    with pytest.raises(Exception, match="no key can be changed here"):
        predict.main()


@pytest.mark.services
def test_in_a_study(
    ray_cluster: None, strokes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(
        json.dumps(
            {
                "name": "rates",
                "runs_dir": str(tmp_path / "studies"),
                "overrides": [f"data.dataset={strokes}", "scaling.num_train_workers=1", "epochs=2", "global_batch_size=32"],
                "arms": {"slow": ["optim.lr=1e-4"], "fast": ["optim.lr=2e-2"]},
                "metric": "auto",
            }
        )
    )
    run(monkeypatch, tune.main, str(study))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert lines[0].startswith("| arm | seeds | val/mean_error | val/accuracy |")
    assert lines[2].startswith("| fast |"), "the smaller error comes first"
