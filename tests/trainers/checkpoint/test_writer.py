"""Checkpoints written beside training: complete or not there, tried again, the last good one never gone."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from cluster.errors import UserError
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.storage.base import Storage, open_storage
from data_pipeline.stream.plan import StreamPosition
from tests.support.checkpoints import DATA
from trainers.checkpoint.format import COMPLETE, PREFIX, STATE, WEIGHTS, CheckpointError, Snapshot
from trainers.checkpoint.select import complete_checkpoints, find_checkpoint
from trainers.checkpoint.trainer_state import latest_complete
from trainers.checkpoint.writer import CheckpointWriter
from trainers.config.checkpoint import CheckpointConfig
from trainers.config.criterion import Mode
from trainers.config.load import load_config, to_yaml
from trainers.tasks.criterion import criterion_of
from trainers.tasks.sequence import SequenceTask

TASK = SequenceTask(Tokenizer(["a"]), 8)
CONFIG = load_config(None)


def snapshot(step: int, score: float | None = None) -> Snapshot:
    metrics = {"step": float(step)} | ({"val/score": score} if score is not None else {})
    network = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(network.weight, float(step))
    state = {"steps": step, "optimizer": {"momentum": torch.full((3,), float(step))}}
    return Snapshot.take(network, copy.deepcopy(CONFIG), TASK, DATA, state, StreamPosition(0, step), metrics, "card")


@dataclass
class Reported:
    """What a writer has reported."""

    written: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


Start = Callable[..., tuple[CheckpointWriter, Storage, Reported]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    writers = []

    def make(before: Callable[[], None] = lambda: None, **settings: object) -> tuple[CheckpointWriter, Storage, Reported]:
        run, reported = open_storage(tmp_path / "run"), Reported()
        config = CheckpointConfig(**settings)  # type: ignore[arg-type]
        criterion = criterion_of(config, TASK)
        writers.append(CheckpointWriter(run, config, criterion, reported.written.append, reported.warnings.append, before))
        return writers[-1], run, reported

    yield make
    for writer in writers:
        writer.close()


def steps_of(run: Storage) -> list[int]:
    return [int(name.removeprefix(PREFIX).split("-")[0]) for name in complete_checkpoints(run)]


def test_the_best_and_the_last_stay(start: Start) -> None:
    writer, run, reported = start(keep=2)
    for step, score in enumerate([0.3, 0.9, 0.1, 0.5, 0.2, None], start=1):
        writer.submit(snapshot(step, score))
        assert writer.wait(60)
        assert max(steps_of(run)) == step
    assert steps_of(run) == [2, 4, 6] and len(reported.written) == 6 and not reported.warnings
    found = latest_complete(run, pytest.fail)
    assert found is not None
    name, state = found
    assert name.startswith(f"{PREFIX}0000006") and state.position == StreamPosition(0, 6) and state.step["steps"] == 6
    assert torch.equal(state.weights["weight"], torch.full((2, 2), 6.0))
    assert torch.equal(state.step["optimizer"]["momentum"], torch.full((3,), 6.0))


def test_what_was_reported_before_a_checkpoint_has_arrived_before_it_is_written(start: Start, tmp_path: Path) -> None:
    seen: list[list[str]] = []
    folder = open_storage(tmp_path / "run")
    writer, _, reported = start(lambda: seen.append(sorted(folder.names()) if folder.exists() else []))
    for step in (1, 2):
        writer.submit(snapshot(step))
        assert writer.wait(60)
    assert seen == [[], reported.written[:1]]


def test_a_snapshot_does_not_change_with_the_network() -> None:
    network = torch.nn.Linear(2, 2)
    before = network.weight.detach().clone()
    state = {"steps": 1, "nested": [{"tensor": network.weight}]}
    taken = Snapshot.take(network, copy.deepcopy(CONFIG), TASK, DATA, state, StreamPosition(), {}, "")
    with torch.no_grad():
        network.weight.add_(1)
    assert torch.equal(taken.weights["weight"], before) and torch.equal(taken.state["nested"][0]["tensor"], before)


def test_a_part_that_was_left_is_no_checkpoint_and_is_cleared_away(start: Start) -> None:
    writer, run, _ = start()
    snapshot(1).write(run.child(f"{PREFIX}0000001-a"))
    orphan = run.child(f"{PREFIX}0000002-b")
    snapshot(2).write(orphan)
    orphan.child(COMPLETE).delete()
    found = latest_complete(run, pytest.fail)
    assert found is not None and found[0] == f"{PREFIX}0000001-a"
    writer.submit(snapshot(3, 0.5))
    assert writer.wait(60)
    assert [name for name in run.names() if name.startswith(PREFIX)] == sorted(complete_checkpoints(run)) and steps_of(run) == [
        3
    ]


@pytest.mark.parametrize("file", [WEIGHTS, STATE])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(file: str, tmp_path: Path) -> None:
    run = open_storage(tmp_path)
    for step in (1, 2):
        snapshot(step).write(run.child(f"{PREFIX}{step:07d}-a"))
    damaged = tmp_path / f"{PREFIX}0000002-a" / file
    content = bytearray(damaged.read_bytes())
    content[-20] ^= 1  # one bit
    damaged.write_bytes(content)
    warnings: list[str] = []
    found = latest_complete(run, warnings.append)
    assert found is not None and found[0] == f"{PREFIX}0000001-a" and found[1].step["steps"] == 1
    assert len(warnings) == 1 and "damaged" in warnings[0] and file in warnings[0]
    (tmp_path / f"{PREFIX}0000001-a" / file).write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"All 2 checkpoints .* are damaged"):
        latest_complete(run, warnings.append)
    assert latest_complete(open_storage(tmp_path / "empty"), pytest.fail) is None


def test_storage_that_is_gone_for_a_while_loses_nothing(start: Start, tmp_path: Path) -> None:
    """The run's folder turns into a file and back: what real disks do when a mount goes."""
    writer, run, reported = start()
    writer.submit(snapshot(1, 0.5))
    assert writer.wait(60)
    (tmp_path / "run").rename(tmp_path / "away")
    (tmp_path / "run").write_text("in the way")
    writer.submit(snapshot(2, 0.6))
    deadline = time.monotonic() + 60
    while not reported.warnings and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not writer.wait(0.3) and "run" in writer.reason
    assert len(reported.warnings) == 1 and "training continues" in reported.warnings[0] and not writer.wait(0)
    writer.submit(snapshot(3, 0.7))  # takes the place of the one that waits
    (tmp_path / "run").unlink()
    (tmp_path / "away").rename(tmp_path / "run")
    assert writer.wait(60)
    assert 3 in steps_of(run) and 2 not in steps_of(run) and len(reported.warnings) == 1


def test_submitting_never_waits_for_the_storage(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, run, _ = start()
    open_gate = threading.Event()
    write = Snapshot.write

    def slowly(self: Snapshot, folder: Storage) -> None:
        open_gate.wait(60)
        write(self, folder)

    monkeypatch.setattr(Snapshot, "write", slowly)
    for step in range(1, 6):
        writer.submit(snapshot(step))
    assert not writer.wait(0) and steps_of(run) == []
    open_gate.set()
    assert writer.wait(60)
    assert max(steps_of(run)) == 5 and writer.wait(0)


def test_trainer_state_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("run",)

    bad = snapshot(1)
    bad.state["attack"] = Attack()
    run = open_storage(tmp_path)
    bad.write(run.child(f"{PREFIX}0000001-a"))
    with pytest.raises(Exception, match=r"(?i)weights.only") as caught:
        latest_complete(run, pytest.fail)
    assert not isinstance(caught.value, UserError)


def test_a_closed_writer_ends(start: Start) -> None:
    writer, _, _ = start()
    writer.submit(snapshot(1))
    assert writer.wait(60)
    writer.close()
    deadline = time.monotonic() + 10
    while any(thread.name == "inkray-checkpoint" and thread.is_alive() for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_was_just_written_stays_though_a_damaged_one_is_newer(start: Start, tmp_path: Path) -> None:
    run = open_storage(tmp_path / "run")
    for step in (1000, 2000):
        snapshot(step).write(run.child(f"{PREFIX}{step:07d}-a"))
    (tmp_path / "run" / f"{PREFIX}0002000-a" / WEIGHTS).write_bytes(b"no")
    warnings: list[str] = []
    found = latest_complete(run, warnings.append)
    assert found is not None and found[1].step["steps"] == 1000
    writer, run, _ = start()
    writer.submit(snapshot(1500))
    assert writer.wait(60) and steps_of(run) == [1500, 2000]
    found = latest_complete(run, warnings.append)
    assert found is not None and found[1].step["steps"] == 1500


def test_a_mark_that_was_cut_short_is_no_checkpoint_and_ends_no_thread(start: Start, tmp_path: Path) -> None:
    writer, run, reported = start()
    snapshot(1).write(run.child(f"{PREFIX}0000001-a"))
    (tmp_path / "run" / f"{PREFIX}0000001-a" / COMPLETE).write_bytes(b"")
    assert latest_complete(run, pytest.fail) is None
    for step in (2, 3):
        writer.submit(snapshot(step))
        assert writer.wait(60)
    assert steps_of(run) == [3] and not reported.warnings


def test_an_error_of_any_kind_is_reported_and_tried_again(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, run, reported = start()
    files, failures = Snapshot.files, [MemoryError("no memory"), RuntimeError("a back end's own")]

    def failing(self: Snapshot) -> dict[str, bytes]:
        if failures:
            raise failures.pop(0)
        return files(self)

    monkeypatch.setattr(Snapshot, "files", failing)
    writer.submit(snapshot(1))
    assert writer.wait(60) and steps_of(run) == [1] and reported.warnings[0].startswith("no memory")


def test_a_validated_one_does_not_give_way_to_one_that_is_not(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, run, _ = start(keep=1)
    gate, write = threading.Event(), Snapshot.write

    def slowly(self: Snapshot, folder: Storage) -> None:
        gate.wait(60)
        write(self, folder)

    monkeypatch.setattr(Snapshot, "write", slowly)
    for step, score in ((1, None), (2, 0.9), (3, None), (4, None)):
        writer.submit(snapshot(step, score))
    gate.set()
    assert writer.wait(60) and steps_of(run) == [2, 4]


def test_the_best_is_the_best_by_the_metric_of_the_run(tmp_path: Path) -> None:
    run = open_storage(tmp_path)
    for step, (score, loss) in enumerate([(0.5, 2.0), (0.9, 3.0), (0.7, 1.0)], start=1):
        taken = snapshot(step, score)
        taken.metrics["val/loss"] = loss
        taken.config.checkpoint.metric, taken.config.checkpoint.mode = "val/loss", "min"
        taken.write(run.child(f"{PREFIX}{step:07d}-a"))
    assert find_checkpoint(str(tmp_path)).name == f"{PREFIX}0000003-a"


def write_checkpoints(run: Storage, metric: str, mode: Mode, rows: dict[str, dict[str, float]]) -> None:
    for name, metrics in rows.items():
        taken = snapshot(int(name.split("-")[0]))
        taken.metrics.update(metrics)
        taken.config.checkpoint.metric, taken.config.checkpoint.mode = metric, mode
        taken.write(run.child(f"{PREFIX}{name}"))


def test_less_loss_is_better_whatever_the_mode(tmp_path: Path) -> None:
    modes: list[Mode] = ["auto", "min", "max"]  # the last as runs were configured when that was the default
    for mode in modes:
        run = open_storage(tmp_path / mode)
        rows = {f"000000{step}-a": {"val/loss": loss} for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, math.nan))}
        write_checkpoints(run, "val/loss", mode, rows)
        assert find_checkpoint(run.uri).name == f"{PREFIX}0000002-a"


def test_another_metric_chooses_among_what_is_kept(tmp_path: Path) -> None:
    """The checkpoints say by what they were chosen, the run's configuration by what it is now."""
    run = open_storage(tmp_path)
    rows = {"0000001-a": {"val/score": 0.9, "val/loss": 3.0}, "0000002-a": {"val/score": 0.2, "val/loss": 1.0}}
    write_checkpoints(run, "val/score", "auto", rows)
    config = copy.deepcopy(CONFIG)
    for metric, best in (("val/score", 1), ("val/loss", 2), ("val/printed/wer", 2)):  # of the last none is known: the newest
        config.checkpoint.metric = metric
        run.child("config.yaml").write_bytes(to_yaml(config).encode())
        assert find_checkpoint(run.uri).name == f"{PREFIX}000000{best}-a"


def test_steps_are_ordered_as_numbers(start: Start) -> None:
    writer, run, _ = start()
    for step in (9_999_999, 10_000_000, 123_456_789):
        writer.submit(snapshot(step, 0.5))
        assert writer.wait(60)
    assert steps_of(run) == [123_456_789], "the newest of equals is the best, and the last"
    write_checkpoints(run, "val/score", "auto", {"9999999-b": {"val/score": 0.5}, "10000000-b": {"val/score": 0.5}})
    assert steps_of(run) == [9_999_999, 10_000_000, 123_456_789]
    found = latest_complete(run, print)
    assert found is not None and found[0].startswith(f"{PREFIX}123456789-")
    assert find_checkpoint(run.uri).name == found[0]


def test_nan_never_wins(start: Start) -> None:
    writer, run, _ = start()
    for step, score in enumerate([0.3, math.nan, 0.1], start=1):
        writer.submit(snapshot(step, score))
        assert writer.wait(60)
    assert steps_of(run) == [1, 3] and find_checkpoint(run.uri).name.startswith(f"{PREFIX}0000001-")
