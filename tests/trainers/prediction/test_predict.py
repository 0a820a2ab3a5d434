"""The command `predict` from end to end: what is read again, what is refused, what it says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from data_pipeline.dataset.manifest import MANIFEST
from data_pipeline.preparation.images import encode_png
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import command_here, only_message
from tests.support.encoded_images import SizePredictor
from trainers.checkpoint.load import Checkpoint
from trainers.prediction import pool
from trainers.prediction.inputs import open_inputs
from trainers.prediction.parts import part_name
from trainers.prediction.run_job import LEFT_OUT


class Sees(SizePredictor):
    """Predicts the size of an image, in the place of a predictor."""

    def __init__(self, checkpoint: Checkpoint, **options: Any) -> None:
        super().__init__()


def blank(height: int) -> bytes:
    return encode_png(np.zeros((height, 8), np.uint8))


def rows(out: Path) -> dict[str, str]:
    return {row["id"]: row["prediction"] + row["error"] for row in pq.read_table(out / part_name(0)).to_pylist()}


@pytest.fixture
def place(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a checkpoint and images, a broken one among them."""
    monkeypatch.setattr(pool, "Predictor", Sees)
    write_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(blank(10))
    (tmp_path / "images" / "b.png").write_bytes(blank(10)[:40])
    (tmp_path / "images" / "c.png").symlink_to("nowhere")
    (tmp_path / "images" / "notes.txt").write_text("x")
    return tmp_path


def test_images_that_are_replaced_or_repaired_are_read_again(place: Path) -> None:
    images, out = place / "images", place / "out"
    args = (str(place / "checkpoint"), str(images), str(out))
    result = command_here("trainers.predict", *args)
    assert result.returncode == 0, result.stderr
    assert (
        "1 file is no image: notes.txt" in result.stdout and "3 predictions, 2 of them images that could not" in result.stdout
    )
    assert json.loads((out / LEFT_OUT).read_text()) == [{"path": "notes.txt", "reason": "no image"}]
    first = rows(out)
    assert list(first) == ["a.png", "b.png", "c.png"] and first["a.png"] == "(10, 8)" and "nowhere" in first["c.png"]
    (images / "a.png").write_bytes(blank(20))  # another image of the same name
    (images / "b.png").write_bytes(blank(30))
    (images / "notes.txt").unlink()
    result = command_here("trainers.predict", *args)
    assert "Again: 2 inputs that have changed, 1 that had an error" in result.stdout, (result.stdout, result.stderr)
    assert rows(out) == {"a.png": "(20, 8)", "b.png": "(30, 8)", "c.png": first["c.png"]} and not (out / LEFT_OUT).exists()
    (images / "d.png").write_bytes(blank(10))
    assert "predictions of other images" in only_message(command_here("trainers.predict", *args))
    (out / "job.json").unlink()
    assert "no job.json" in only_message(command_here("trainers.predict", *args))


def test_a_place_that_cannot_be_written_is_said_before_a_session_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    write_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "a.png").write_bytes(blank(10))
    (tmp_path / "file").write_text("")
    for out in (str(tmp_path / "file"), "/proc/out", str(tmp_path / "\udcff")):
        message = only_message(command_here("trainers.predict", str(tmp_path / "checkpoint"), str(tmp_path / "a.png"), out))
        assert "Cannot write to" in message, message


def test_datasets_of_the_same_ids_are_not_the_same_images(formulas_dataset: str, tmp_path: Path) -> None:
    shutil.copytree(formulas_dataset, tmp_path / "other")
    manifest = json.loads((tmp_path / "other" / MANIFEST).read_bytes())
    manifest["digest"] = "sha256:1"
    (tmp_path / "other" / MANIFEST).write_text(json.dumps(manifest))
    known = [
        open_inputs(uri, split).identity for uri in (formulas_dataset, str(tmp_path / "other")) for split in ("val", "test")
    ]
    assert len({tuple(identity.values()) for identity in known}) == 4
