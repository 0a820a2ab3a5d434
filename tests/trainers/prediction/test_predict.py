"""The command `predict` from end to end: what is read again, what is refused, what it says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from data_pipeline.dataset.manifest import MANIFEST
from data_pipeline.preparation.images import encode_png
from tests.support.checkpoints import write_checkpoint
from tests.support.commands import command_here, only_message
from tests.support.encoded_images import SizePredictor
from tests.support.predict_here import predict_here
from trainers.checkpoint.format import PREFIX
from trainers.checkpoint.load import Checkpoint, open_checkpoint
from trainers.prediction.inputs import open_inputs
from trainers.prediction.job import JOB
from trainers.prediction.parts import part_name
from trainers.prediction.predictor import Predictor
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
def root(tmp_path: Path) -> Path:
    """A folder with a checkpoint and images, a broken one among them."""
    write_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(blank(10))
    (tmp_path / "images" / "b.png").write_bytes(blank(10)[:40])
    (tmp_path / "images" / "c.png").symlink_to("nowhere")
    (tmp_path / "images" / "notes.txt").write_text("x")
    return tmp_path


def test_images_that_are_replaced_or_repaired_are_read_again(root: Path) -> None:
    images, out = root / "images", root / "out"
    args = (str(root / "checkpoint"), str(images), str(out))
    result = predict_here(*args, new_predictor=Sees)
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
    result = predict_here(*args, new_predictor=Sees)
    assert "Again: 2 inputs that have changed, 1 that had an error" in result.stdout, (result.stdout, result.stderr)
    assert rows(out) == {"a.png": "(20, 8)", "b.png": "(30, 8)", "c.png": first["c.png"]} and not (out / LEFT_OUT).exists()
    (images / "d.png").write_bytes(blank(10))
    assert "predictions of other images" in only_message(predict_here(*args, new_predictor=Sees))
    (out / "job.json").unlink()
    assert "no job.json" in only_message(predict_here(*args, new_predictor=Sees))


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


# Two checkpoints that differ in their weights and in how they decode.
FIRST, SECOND = f"{PREFIX}0000010-a", f"{PREFIX}0000020-b"
OTHERWISE = ("decoding.method=beam", "decoding.beam_size=2", "seed=1")


class Meanwhile:
    """A predictor that is loaded after something else has happened."""

    def __init__(self, event: Callable[[], object]) -> None:
        self._event = event

    def __call__(self, checkpoint: Checkpoint, **options: Any) -> Predictor:
        self._event()
        return Predictor(checkpoint, **options)


@pytest.fixture
def run(root: Path) -> Path:
    """A run with one checkpoint."""
    torch.manual_seed(0)
    write_checkpoint(root / "run" / FIRST, 0.5)
    return root / "run"


def better(folder: Path) -> None:
    torch.manual_seed(1)
    write_checkpoint(folder, 0.9, *OTHERWISE)


def test_a_checkpoint_that_is_written_meanwhile_changes_no_job(root: Path, run: Path) -> None:
    """Weights and decoding are of the one checkpoint that was the best when the command began."""
    meanwhile = Meanwhile(lambda: better(run / SECOND))
    args = (str(run), str(root / "images"))
    result = predict_here(*args, str(root / "out"), new_predictor=meanwhile)
    assert result.returncode == 0 and (run / SECOND).exists(), result.stderr
    assert open_checkpoint(str(run)).storage.name == SECOND, "it is the best now"
    job = json.loads((root / "out" / JOB).read_bytes())
    assert job["checkpoint"] == {"digest": open_checkpoint(str(run / FIRST)).digest, "uri": str(run / FIRST)}
    assert job["decoding"]["method"] == "greedy"
    assert predict_here(str(run / FIRST), *args[1:], str(root / "first")).returncode == 0
    assert rows(root / "out") == rows(root / "first")
    assert "of another checkpoint" in only_message(predict_here(*args, str(root / "out")))


@pytest.mark.parametrize("removed", [False, True])
def test_a_checkpoint_that_goes_meanwhile_is_one_message(root: Path, run: Path, removed: bool) -> None:
    """Another in its place, or none, as a run that trains keeps its best and its last alone: nothing is mixed."""

    def replace() -> None:
        shutil.rmtree(run / FIRST)
        better(run / (SECOND if removed else FIRST))

    result = predict_here(str(run), str(root / "images"), str(root / "out"), new_predictor=Meanwhile(replace))
    change = "was removed" if removed else "was replaced by another"
    message = result.stderr.splitlines()[-1]  # below the progress
    assert result.returncode == 2 and f"error: Checkpoint '{run / FIRST}' {change} while it was in use" in message
    assert "Traceback" not in result.stderr
    assert not list((root / "out").glob("predictions-*"))
