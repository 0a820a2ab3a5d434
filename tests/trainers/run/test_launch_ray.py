"""Whole runs on real Ray: two workers, real checkpoints, a worker killed with -9, the same seed twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image
from safetensors.numpy import load_file

from cluster.errors import UserError
from data_pipeline.dataset.manifest import MANIFEST, open_dataset
from data_pipeline.dataset.tokenizer import VocabularyMismatch
from data_pipeline.storage.base import Storage, open_storage
from tests.support.broken_images import copy_with_broken_images
from tests.support.predict_here import without_ray
from tests.support.runs import Train, losses, small_config, train, train_here
from trainers.checkpoint.format import METRICS, PREFIX, WEIGHTS
from trainers.checkpoint.load import load_checkpoint, open_checkpoint
from trainers.checkpoint.select import find_checkpoint
from trainers.config.load import merge_overrides
from trainers.prediction.evaluation import evaluate_checkpoint
from trainers.prediction.inputs import open_inputs
from trainers.prediction.job import JOB
from trainers.prediction.local import predict_split_here
from trainers.prediction.parts import part_name
from trainers.prediction.pool import predict_split_on_ray
from trainers.prediction.run_job import predict
from trainers.run.directory import open_run
from trainers.run.finalize import EVALUATION, finalize
from trainers.run.log import RunResult
from trainers.run.preflight import preflight
from trainers.run.resume import change_config

Run = tuple[Storage, RunResult, str]
EPOCHS = 3  # of 15 steps
ONE_WORKER = "scaling.num_train_workers=1"


@pytest.fixture(scope="module")
def calm(formulas: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run without trouble."""
    return train(small_config(formulas, tmp_path_factory.mktemp("runs"), f"epochs={EPOCHS}"))


@pytest.fixture(scope="module")
def ended(formulas: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One of two epochs without Ray, which is what the one before leaves behind."""
    return train_here(small_config(formulas, tmp_path_factory.mktemp("runs"), "epochs=2", ONE_WORKER))


def checkpoints(run: Storage) -> list[str]:
    return [name for name in run.names() if name.startswith(PREFIX)]


@pytest.mark.services
def test_a_run_learns_logs_and_keeps_best_and_last(calm: Run, formulas: str) -> None:
    run, result, printed = calm
    steps = losses(result)
    assert list(steps) == list(range(1, 15 * EPOCHS + 1)) and not result.stopped
    assert np.mean([steps[s] for s in list(steps)[-5:]]) < np.mean([steps[s] for s in range(1, 6)]) - 0.5
    epochs = [row for row in result.history if "val/score" in row]
    assert [row["val/count"] for row in epochs] == [40] * EPOCHS, "evaluation reads each row once"
    assert "images/s wait" in printed and "2 workers on cpu" in printed
    kept = checkpoints(run)
    best = max(epochs, key=lambda row: (row["val/score"], row["step"]))
    assert 1 <= len(kept) <= 2 and any(name.startswith(f"{PREFIX}{15 * EPOCHS:07d}") for name in kept)
    assert json.loads(find_checkpoint(run.uri).child(METRICS).read_bytes())["val/score"] == best["val/score"]
    rows = [json.loads(line) for line in run.child("metrics.jsonl").read_bytes().splitlines()]
    assert rows == result.history


@pytest.mark.services
def test_a_killed_worker_is_replaced_and_the_run_ends_as_if_nothing_had_happened(
    calm: Run, formulas: str, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_one(row: dict[str, float]) -> None:
        if row["step"] >= 20 and not killed:  # amid the second epoch; half of the run is yet to come
            processes = psutil.Process().children(recursive=True)
            killed.append(next(p.pid for p in processes if "RayTrainWorker" in " ".join(p.cmdline())))
            os.kill(killed[0], signal.SIGKILL)

    _, result, printed = train(small_config(formulas, tmp_path, f"epochs={EPOCHS}"), on_row=kill_one)
    assert killed and f"Resumed from {PREFIX}0000" in printed
    assert losses(result) == losses(calm[1]), "same seed, same loss at every step, also where a worker was lost"


def test_validation_in_the_run_is_that_of_the_checkpoint(ended: Run, formulas: str) -> None:
    run, result, _ = ended
    evaluation = evaluate_checkpoint(open_checkpoint(run.uri), open_dataset(formulas), "val", predict_split_here)
    metrics = evaluation.metrics.averages("val")
    assert "val/loss" not in metrics and {key: result.best()[key] for key in metrics} == pytest.approx(metrics)


@pytest.mark.parametrize(
    "override", ["optim.lr=1e-5", "seed=7", "stream.window_row_groups=4", "model.decoder.depth=2", "loss.label_smoothing=0.1"]
)
def test_what_makes_a_run_cannot_change_when_it_is_resumed(ended: Run, override: str) -> None:
    _, config = open_run(ended[0].uri)
    with pytest.raises(UserError, match=f"'{override.partition('=')[0].partition('.')[0]}.*cannot change"):
        change_config(config, [override])
    assert change_config(config, ["tracking.log_interval=1"]) == config


def test_other_data_stops_a_resume(ended: Run, formulas: str, tmp_path: Path) -> None:
    manifest = json.loads((Path(formulas) / MANIFEST).read_bytes())
    manifest["splits"]["train"]["shards"][0]["sha256"], manifest["digest"] = "0", ""
    shutil.copytree(formulas, tmp_path / "other")
    (tmp_path / "other" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="is not the one that"):
        train_here(small_config(str(tmp_path / "other"), tmp_path, "epochs=3", ONE_WORKER), ended[0])


# On Ray it is a worker that meets them; what it does then is the same.
@pytest.mark.parametrize("train", [train_here, pytest.param(train, marks=pytest.mark.services)], ids=["local", "ray"])
def test_a_corrupt_image_is_reported_and_too_many_end_the_run(train: Train, formulas: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    copy_with_broken_images(formulas, tmp_path / "data", {"train": [3], "val": [3]})
    one_worker = ("epochs=1", ONE_WORKER)
    run, result, printed = train(small_config(str(tmp_path / "data"), tmp_path / "runs", *one_worker))
    assert "is left out: not an image" in printed
    assert (result.best()["val/count"], result.best()["val/rejected"]) == (39, 1)
    assert [row["epoch/rejected"] for row in result.history if "epoch/rejected" in row] == [1]
    rejected = pq.read_table(f"{run.path}/rejected.parquet").to_pylist()
    assert sorted((row["split"], row["reason"][:12]) for row in rejected) == [
        ("train", "not an image"),
        ("val", "not an image"),
    ]
    message = "1 of 300 images of split 'train' cannot be used, more than stream.max_rejected=0"
    with pytest.raises(UserError, match=message):
        train(small_config(str(tmp_path / "data"), tmp_path / "runs", *one_worker, "stream.max_rejected=0"))


@pytest.mark.services
def test_a_missing_shard_ends_the_run(formulas: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(formulas, data)
    (data / open_dataset(formulas).manifest.split("val").shards[0].file).unlink()
    config = small_config(str(data), tmp_path / "runs", "epochs=1", ONE_WORKER)
    # A worker meets it amid the run where preflight has no sources to look for.
    for overrides, runs in (((), 0), (("tracking.max_sources=0",), 1)):
        with pytest.raises(UserError, match=r"val/part-00000\.parquet' does not exist") as caught:
            train(merge_overrides(config, overrides, "the test"))
        assert "Traceback" not in str(caught.value)
        assert len(list((tmp_path / "runs").glob("*"))) == runs


@pytest.mark.services
def test_a_report_shows_the_run(calm: Run, formulas: str) -> None:
    run, result, _ = calm
    printed = finalize(preflight(open_run(run.uri)[1], run), run, result, predict_split_on_ray)
    record = json.loads(run.child(EVALUATION).read_bytes())
    metrics = record["metrics"]
    assert metrics["test"]["count"] == 40 and record["checkpoint"] == find_checkpoint(run.uri).uri
    assert {"test", "test, printed", "test, handwritten"} < metrics.keys()
    assert any("always answering" in name for name in metrics)
    assert all(any(line.startswith(name) for line in printed.splitlines()) for name in metrics)
    assert printed.endswith(f"Report {run.uri}/report/index.html")
    names = run.child("report").names()
    assert {"index.html", "learning_curves.png", "samples.png", "attention.png", "model_card.md"} <= set(names)
    for name in ("learning_curves.png", "samples.png", "attention.png"):
        with Image.open(run.child("report", name).path) as image:
            assert np.asarray(image.convert("L")).std() > 5, f"{name} is not blank"
    page = run.child("report", "index.html").read_bytes().decode()
    assert "formulas" in page and "samples.png" in page
    subtitle = f"formulas · 2 workers on cpu (float32) · {result.seconds / 60:.1f} minutes"
    assert f'<p class="subtitle">{subtitle}</p>' in page
    card = run.child("report", "model_card.md").read_bytes().decode()
    shares = {name: metrics[f"test, {name}"]["exact_match"] for name in ("handwritten", "printed")}
    weakest = min(shares, key=lambda name: shares[name])
    sentence = rf"weakest on {weakest}: {100 * shares[weakest]:.1f} % exact match \(\d+ images"
    assert bool(re.search(sentence, card)) == (len(set(shares.values())) > 1), card
    assert "trainers.predict" in find_checkpoint(run.uri).child("README.md").read_bytes().decode()


@pytest.mark.services
def test_prediction_of_a_folder_a_list_and_a_dataset(calm: Run, formulas: str, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    run = calm[0]
    images = tmp_path / "images"
    images.mkdir()
    dataset = open_dataset(formulas)
    table = pq.read_table(Path(formulas) / dataset.manifest.split("test").shards[0].file)
    for row in table.slice(0, 10).to_pylist():
        (images / f"{row['id']}.png").write_bytes(row["image"])
    (images / "broken.png").write_bytes(b"\x89PNG not really")
    (images / "notes.txt").write_text("no image")
    out = open_storage(str(tmp_path / "out"))
    assert predict(open_checkpoint(run.uri), open_inputs(str(images), ""), out, batch_size=4, rows_per_part=4).errors == 1
    rows = [row for number in range(3) for row in pq.read_table(Path(out.path) / part_name(number)).to_pylist()]
    assert [row["id"] for row in rows] == sorted(path.name for path in images.glob("*.png"))
    assert [row["id"] for row in rows if row["error"]] == ["broken.png"]
    whole = open_storage(str(tmp_path / "whole"))
    predict(open_checkpoint(run.uri), open_inputs(formulas, "test"), whole, batch_size=16)
    by_id = {row["id"]: row["prediction"] for row in pq.read_table(Path(whole.path) / part_name(0)).to_pylist()}
    assert len(by_id) == 40
    assert all(by_id[row["id"].removesuffix(".png")] == row["prediction"] for row in rows if not row["error"])
    # A job that lost a part makes that part again, and no other but those with an error.
    before = {number: (Path(out.path) / part_name(number)).stat().st_mtime_ns for number in range(3)}
    (Path(out.path) / part_name(1)).unlink()
    (tmp_path / "list.tsv").write_text("".join(f"{row['id']}\tx\n" for row in rows))
    with without_ray():  # which reads the same
        predict(open_checkpoint(run.uri), open_inputs(str(tmp_path / "list.tsv"), ""), out, batch_size=4, rows_per_part=4)
    after = {number: (Path(out.path) / part_name(number)).stat().st_mtime_ns for number in range(3)}
    assert after[0] > before[0] and after[2] == before[2] and after[1] > before[1]
    again = [row for number in range(3) for row in pq.read_table(Path(out.path) / part_name(number)).to_pylist()]
    assert again == rows
    with pytest.raises(UserError, match="of other images"):
        predict(open_checkpoint(run.uri), open_inputs(formulas, "test"), out, batch_size=4, rows_per_part=4)
    with pytest.raises(UserError, match="decoded in another way"):
        beam = open_checkpoint(run.uri).with_options(["decoding.method=beam"])
        predict(beam, open_inputs(str(tmp_path / "list.tsv"), ""), out, batch_size=4, rows_per_part=4)
    assert json.loads((tmp_path / "out" / JOB).read_text())["decoding"]["method"] == "greedy"


def test_a_checkpoint_predicts_with_nothing_else(ended: Run, tmp_path: Path) -> None:
    source = find_checkpoint(ended[0].uri)
    folder = source.copy_to(tmp_path / "copy")
    loaded = load_checkpoint(str(folder))
    assert loaded.task.output_names and loaded.checkpoint.config.epochs == 2
    weights = load_file(folder / WEIGHTS)
    assert sum(array.size for array in weights.values()) == sum(t.numel() for t in loaded.model.state_dict().values())


def test_a_vocabulary_that_changed_stops_a_resume_with_the_difference(ended: Run, formulas: str, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    open_storage(formulas).copy_to(changed)
    manifest = json.loads((changed / MANIFEST).read_bytes())
    manifest["target"]["charset"][0], manifest["digest"] = r"\unheard", ""
    (changed / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(VocabularyMismatch, match=r"only in dataset .*\\unheard"):
        train_here(small_config(str(changed), tmp_path, "epochs=3", ONE_WORKER), ended[0])


def test_too_few_cpus_and_gpus_are_said_at_once(formulas: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"num_train_workers=100 is too many.*Set scaling.num_train_workers="):
        train(small_config(formulas, tmp_path, "scaling.num_train_workers=100", "global_batch_size=100"))
    with pytest.raises(UserError, match=r"needs 2 GPUs, there are 0.*scaling.use_gpu=false"):
        train(small_config(formulas, tmp_path, "scaling.use_gpu=true"))


def test_the_wrong_channels_are_said_with_the_right_ones(formulas: str, tmp_path: Path) -> None:
    manifest = json.loads((Path(formulas) / MANIFEST).read_bytes())
    manifest["image"]["color"], manifest["digest"] = "rgb", ""
    shutil.copytree(formulas, tmp_path / "data")
    (tmp_path / "data" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"are rgb: set model\.in_channels=3"):
        train(small_config(str(tmp_path / "data"), tmp_path / "runs"))
