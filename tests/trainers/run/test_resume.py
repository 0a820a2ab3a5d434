"""Resumed runs: nothing is trained twice, nothing changes before all is checked, and no metric is compared with another."""

from __future__ import annotations

import json
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cluster.errors import INTERRUPTED, UserError
from data_pipeline.dataset.manifest import MANIFEST, REJECTED, open_dataset
from data_pipeline.storage.base import Storage, open_storage
from data_pipeline.storage.claim import InUse, claim
from tests.support.broken_images import copy_with_broken_images
from tests.support.overrides import SMALL
from tests.support.runs import train
from tests.support.stroke_count import StrokeCountTask, write_stroke_dataset
from trainers import train as command_line
from trainers.checkpoint.format import COMPLETE, CONFIG, PREFIX, CheckpointError
from trainers.checkpoint.select import complete_checkpoints, completion_marks, find_checkpoint
from trainers.config.load import ConfigError
from trainers.engine.checkpointer import Checkpointer
from trainers.run.directory import open_run
from trainers.run.preflight import preflight
from trainers.run.resume import change_config
from trainers.tasks import TASKS

Command = Callable[..., tuple[int, str]]

# Each loss is better than the one before; by the score nothing ever is, for what counts as better is out of reach.
EARLY = [
    *SMALL, "scaling.num_train_workers=1", "epochs=5", "checkpoint.metric=val/loss", "early_stopping.patience=1",
    "early_stopping.min_delta=100", "data.test_split=", "report.enabled=false",
    "tracking.max_sources=1",
]  # fmt: skip


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["trainers.train", "--local", *words])
        status = command_line.main()
        return status, capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def ended(formulas_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A run of two epochs of five: its patience has run out. Read it, never write to it."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("early")
        words = ["trainers.train", "--local", *EARLY, f"data.dataset={formulas_dataset}", f"runs_dir={folder}"]
        patch.setattr(sys, "argv", words)
        assert command_line.main() == 0
    return open_storage(next(folder.iterdir()))


def copy_of(run: Storage, folder: Path) -> Storage:
    run.copy_to(folder / run.name)
    return open_storage(folder / run.name)


def notes_of(run: Storage, *overrides: str) -> list[str]:
    return list(preflight(change_config(open_run(run.uri)[1], overrides), run).notes)


def test_the_best_by_the_loss_is_the_one_of_the_least(ended: Storage) -> None:
    losses = {name: mark["metrics"]["val/loss"] for name, mark in completion_marks(ended).items()}
    rows = [json.loads(line) for line in ended.child("metrics.jsonl").read_bytes().splitlines()]
    assert min(row["val/loss"] for row in rows if "val/loss" in row) == losses[find_checkpoint(ended.uri).name]


def test_sources_beyond_the_limit_are_reported_together(ended: Storage) -> None:
    for mark in completion_marks(ended).values():
        named = {name.split("/")[1] for name in mark["metrics"] if name.count("/") == 2}
        assert named == {"handwritten", "other"}
        assert mark["metrics"]["val/handwritten/count"] + mark["metrics"]["val/other/count"] == mark["metrics"]["val/count"]


def test_more_epochs_are_refused_where_patience_would_train_none(ended: Storage) -> None:
    before = ended.child(CONFIG).read_bytes()
    message = r"epochs=9 would train nothing\. .*ended early after 2 epochs: 1 validation in a row had no better val/score"
    with pytest.raises(ConfigError, match=message):
        notes_of(ended, "epochs=9")
    assert ended.child(CONFIG).read_bytes() == before
    assert "nothing is trained" in notes_of(ended)[0] and "early_stopping.patience=0" in notes_of(ended)[0]
    for override in ("early_stopping.patience=0", "early_stopping.patience=2"):
        assert not notes_of(ended, "epochs=9", override)


def test_another_metric_says_that_nothing_of_it_was_counted(ended: Storage) -> None:
    counted, chosen = notes_of(ended, "early_stopping.metric=val/loss", "checkpoint.metric=val/score")
    assert counted.startswith("early_stopping counts val/loss from here on")
    best = max(completion_marks(ended).items(), key=lambda item: (item[1]["metrics"]["val/score"], item[0]))[0]
    assert chosen.startswith("checkpoint.metric=val/score: the best") and best in chosen


@pytest.mark.parametrize("override", ["data.val_split=test", "tracking.max_sources=2"])
def test_what_gives_a_metric_its_meaning_stays(ended: Storage, override: str) -> None:
    with pytest.raises(ConfigError, match=f"'{override.partition('=')[0]}' cannot change"):
        notes_of(ended, override)


def test_training_on_says_that_the_rate_moves(ended: Storage, tmp_path: Path, command: Command) -> None:
    run = copy_of(ended, tmp_path)
    status, text = command("--resume", run.uri, "early_stopping.patience=0", "epochs=3")
    assert status == 0 and "the run has 45 steps now, not 75 as planned before: at step 30 the learning rate goes from" in text
    assert "one_cycle" in text and list(complete_checkpoints(run))[-1].startswith("checkpoint-0000045")
    assert open_run(run.uri)[1].epochs == 3
    assert "all 3 epochs are done: what is left is the evaluation. Set epochs above 3" in notes_of(run)[0]


def test_a_run_that_still_trains_is_not_trained_again(ended: Storage, tmp_path: Path, command: Command) -> None:
    run = copy_of(ended, tmp_path)
    before = {file: file.read_bytes() for file in Path(run.path).rglob("*") if file.is_file()}
    with claim(run, "training run"), pytest.raises(InUse, match=r"in use by a training run \(process \d+"):
        command("--resume", run.uri, "early_stopping.patience=0")
    after = {file: file.read_bytes() for file in Path(run.path).rglob("*") if file.is_file()}
    assert after == before


@pytest.mark.parametrize("refused", ["data.dataset=/nowhere", "checkpoint.metric=val/los", "epochs=9", "global_batch_size=7"])
def test_a_refused_resume_changes_nothing(ended: Storage, tmp_path: Path, command: Command, refused: str) -> None:
    run = copy_of(ended, tmp_path)
    before = run.child(CONFIG).read_bytes()
    with pytest.raises(UserError):
        command("--resume", run.uri, "tracking.log_interval=7", refused)
    assert run.child(CONFIG).read_bytes() == before


def test_a_cluster_that_is_too_small_changes_nothing(ray_cluster: None, ended: Storage, tmp_path: Path) -> None:
    run = copy_of(ended, tmp_path)
    before = run.child(CONFIG).read_bytes()
    _, config = open_run(run.uri)
    with pytest.raises(UserError, match="num_train_workers=20 is too many"):
        train(change_config(config, ["scaling.num_train_workers=20", "early_stopping.patience=0"]), run)
    assert run.child(CONFIG).read_bytes() == before


@pytest.mark.parametrize("content", [b"]]] {: x", b"\xff\xfe\x00", b"[]", b"loss: {pad: [a]}"])
def test_a_damaged_configuration_of_a_run_is_one_message(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CONFIG).write_bytes(content)
    with pytest.raises(ConfigError, match=rf"Run '{tmp_path}': .*its {CONFIG}"):
        open_run(str(tmp_path))


@pytest.mark.parametrize("file", ["data.json", "vocab.json"])
def test_a_checkpoint_whose_description_is_damaged_is_named(ended: Storage, tmp_path: Path, file: str) -> None:
    shutil.copytree(ended.path, tmp_path / "run")
    folder = open_run(str(tmp_path / "run"))[0]
    names = list(completion_marks(folder))
    _, config = open_run(str(tmp_path / "run"))
    (tmp_path / "run" / names[0] / file).write_bytes(b"{")
    if len(names) > 1:
        preflight(config, folder)  # another one tells as well
    for name in names:
        (tmp_path / "run" / name / file).write_bytes(b"{")
    with pytest.raises(CheckpointError, match=r"is damaged: its data\.json or vocab\.json"):
        preflight(config, folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", ["a"]),
        ("metrics", {"val/score": "x"}),
        ("metrics", {"epoch": None}),
        ("metrics", {"epoch": float("nan")}),
        ("best_by", [1, 2]),
        ("patience", "3"),
        ("patience", {"metric": "val/score"}),
    ],
)
def test_a_checkpoint_whose_mark_is_damaged_is_left_out_and_named(
    ended: Storage, tmp_path: Path, key: str, value: object
) -> None:
    run = copy_of(ended, tmp_path)
    (newer,), older = completion_marks(run), f"{PREFIX}0000001-a"
    shutil.copytree(f"{run.path}/{newer}", f"{run.path}/{older}")
    for name in (newer, older):
        file = run.child(name, COMPLETE)
        file.write_bytes(json.dumps(json.loads(file.read_bytes()) | {key: value}).encode())
        if name == newer:
            assert list(completion_marks(run)) == [older] and find_checkpoint(run.uri).name == older
            assert notes_of(run)[0] == f"Checkpoint '{newer}' is damaged (its {COMPLETE}): it is left out."
    with pytest.raises(CheckpointError, match=f"All 2 checkpoints of .* are damaged .*{COMPLETE}"):
        notes_of(run)  # to train from the beginning would remove them


def test_a_run_is_not_resumed_with_data_of_another_task(
    ended: Storage, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "stroke_count", StrokeCountTask)
    write_stroke_dataset(tmp_path / "strokes", train=40, val=4, test=4)
    run = copy_of(ended, tmp_path)
    before = run.child(CONFIG).read_bytes()
    words = (f"data.dataset={tmp_path}/strokes", "checkpoint.metric=auto", "early_stopping.patience=0", "epochs=9")
    with pytest.raises(UserError, match=r"was trained for task 'sequence', dataset .* is of task 'stroke_count'"):
        command("--resume", run.uri, *words)
    assert run.child(CONFIG).read_bytes() == before


def test_images_of_the_test_split_that_cannot_be_used_are_named_listed_and_limited(
    formulas_dataset: str, ended: Storage, tmp_path: Path, command: Command
) -> None:
    run = copy_of(ended, tmp_path)
    copy_with_broken_images(formulas_dataset, tmp_path / "data", {"test": [3]})
    manifest = json.loads((tmp_path / "data" / MANIFEST).read_bytes())
    manifest["digest"] = open_dataset(formulas_dataset).manifest.digest  # a resumed run keeps its dataset
    (tmp_path / "data" / MANIFEST).write_text(json.dumps(manifest))
    words = ("--resume", run.uri, f"data.dataset={tmp_path}/data", "data.test_split=test")
    _, text = command(*words)
    assert "of split 'test' is left out: not an image" in text
    (row,) = pq.read_table(f"{run.path}/{REJECTED}").to_pylist()
    assert row["split"] == "test"
    with pytest.raises(UserError, match=r"1 of 40 images of split 'test' cannot be used.*stream\.max_rejected"):
        command(*words, "stream.max_rejected=0")


def test_ctrl_c_after_the_last_step_ends_the_run_before_its_evaluation(
    ended: Storage, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, finish = copy_of(ended, tmp_path), Checkpointer.finish

    def interrupted(self: Checkpointer) -> None:
        signal.raise_signal(signal.SIGINT)
        finish(self)

    monkeypatch.setattr(Checkpointer, "finish", interrupted)
    status, text = command("--resume", run.uri, "early_stopping.patience=0", "epochs=3")
    assert status == INTERRUPTED and f"Stopped. Resume with: python -m trainers.train --local --resume {run.uri}" in text
    assert "always answering" not in text
