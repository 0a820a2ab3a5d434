"""Training without Ray: the same step, stream, checkpoints and end, killed and started again, to the bit."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest

from data_pipeline.storage.base import Storage
from tests.support.commands import command_here, only_message
from tests.support.overrides import SMALL
from tests.support.processes import Running, differences, last_state, running
from trainers.checkpoint.select import complete_checkpoints
from trainers.run.directory import open_run

# All that keeps a state: averages, a schedule, loss scaling (none on a CPU), dropout, augmentation, early stopping.
STATEFUL = [
    *SMALL, "scaling.num_train_workers=1", "weight_averaging.name=ema", "weight_averaging.decay=0.9",
    "early_stopping.patience=50", "scheduled_sampling.mode=per_token", "scheduled_sampling.ratio=0.8",
    "checkpoint.every_steps=4", "stream.augmentation=light", "epochs=3", "validate_every=2", "report.enabled=false",
]  # fmt: skip


TRAIN = ("trainers.train", "--local")


def words(formulas: str, runs_dir: Path, *overrides: str) -> list[str]:
    return [*STATEFUL, f"data.dataset={formulas}", f"runs_dir={runs_dir}", *overrides]


def only_run(runs_dir: Path) -> Storage:
    (folder,) = runs_dir.iterdir()
    return open_run(str(folder))[0]


def refused(formulas: str, runs_dir: Path, *overrides: str) -> tuple[Storage, str, str]:
    """A run that ends with a mistake: its folder, all that it printed, and the one message."""
    result = command_here(*TRAIN, *words(formulas, runs_dir, *overrides))
    return only_run(runs_dir), result.stdout, only_message(result)


def killed_and_resumed(formulas: str, runs_dir: Path, kills: int, seed: int) -> Running:
    """A run that is killed -9 at random steps, so many times, and then comes to its end."""
    generator = random.Random(seed)
    arguments = words(formulas, runs_dir)
    for _ in range(kills):
        with running("-m", *TRAIN, *arguments) as command:
            lines = generator.randrange(5, 10)
            for _ in range(lines):
                command.until(" step ")
            arguments = ["--resume", command.run.uri]
    with running("-m", *TRAIN, *arguments) as command:
        assert command.end() == 0, command.text
    return command


@pytest.fixture(scope="module")
def calm(formulas_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """A run without trouble."""
    folder = tmp_path_factory.mktemp("local")
    result = command_here(*TRAIN, *words(formulas_dataset, folder))
    assert result.returncode == 0, result.stderr
    return only_run(folder)


def test_it_trains_where_ray_is_not_installed(formulas_dataset: str, tmp_path: Path) -> None:
    """By its name of before, which says that it is one."""
    without = "import sys, runpy; sys.modules['ray'] = None; runpy.run_module('trainers.solo', run_name='__main__')"
    overrides = ["epochs=1", "report.enabled=true", "stream.execution=process"]
    with running("-c", without, *words(formulas_dataset, tmp_path, *overrides)) as command:
        assert command.end() == 0, command.text
    assert command.lines[0] == "trainers.solo is now: python -m trainers.train --local\n"
    assert "45 steps" not in command.text and "15 steps" in command.text and "1 worker on cpu" in command.text
    assert "images are decoded by a process beside each worker" in command.text
    record = json.loads(command.run.child("evaluation.json").read_bytes())
    assert record["metrics"]["test"]["count"] == 40 and record["checkpoint"].startswith(command.run.uri)
    assert {"metrics.jsonl", "config.yaml", "report"} <= set(command.run.names())
    assert len(complete_checkpoints(command.run)) >= 1


def test_a_mistake_is_one_message_and_leaves_no_run_behind(tmp_path: Path) -> None:
    result = command_here(*TRAIN, "data.dataset=/nowhere", f"runs_dir={tmp_path}")
    assert "No dataset at '/nowhere'" in only_message(result) and not result.stdout
    assert not list(tmp_path.iterdir())


def test_a_number_of_workers_that_this_way_of_running_fixes_is_refused(tmp_path: Path) -> None:
    result = command_here(*TRAIN, "data.dataset=/nowhere", f"runs_dir={tmp_path}", "scaling.num_train_workers=3")
    assert "--local' sets scaling.num_train_workers=1. Leave it out" in only_message(result)


def test_tasks_of_ray_are_refused(tmp_path: Path) -> None:
    result = command_here(*TRAIN, "data.dataset=/nowhere", f"runs_dir={tmp_path}", "stream.execution=ray")
    assert "Set stream.execution=auto" in only_message(result) and not list(tmp_path.iterdir())


def test_validation_comes_every_so_many_epochs_and_after_the_last(calm: Storage) -> None:
    rows = [json.loads(line) for line in calm.child("metrics.jsonl").read_bytes().splitlines()]
    assert {row["epoch"]: "val/score" in row for row in rows if "time/train_s" in row} == {0: False, 1: True, 2: True}


@pytest.mark.services
def test_a_run_that_is_killed_equals_the_calm_one_to_the_bit(calm: Storage, formulas_dataset: str, tmp_path: Path) -> None:
    """Weights, averages, optimizer, schedule, data position, patience: all of the last checkpoint, and every logged loss."""
    amid = killed_and_resumed(formulas_dataset, tmp_path, kills=1, seed=0)
    assert "Resumed from checkpoint-" in amid.text
    assert not differences(last_state(calm), last_state(amid.run))
    assert logged(amid.run) == logged(calm)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_kills_in_one_run_change_nothing(calm: Storage, formulas_dataset: str, tmp_path: Path, seed: int) -> None:
    amid = killed_and_resumed(formulas_dataset, tmp_path, kills=10, seed=seed)
    assert not differences(last_state(calm), last_state(amid.run))
    assert logged(amid.run) == logged(calm)


def logged(run: Storage) -> dict[int, float]:
    rows = [json.loads(line) for line in run.child("metrics.jsonl").read_bytes().splitlines()]
    return {int(row["step"]): row["train/loss"] for row in rows if "train/loss" in row}


@pytest.mark.services
def test_ctrl_c_writes_a_checkpoint_and_says_how_to_resume(calm: Storage, formulas_dataset: str, tmp_path: Path) -> None:
    with running("-m", *TRAIN, *words(formulas_dataset, tmp_path)) as command:
        command.until(" step 6/")
        os.kill(command.process.pid, signal.SIGINT)
        assert command.end() == 130, command.text
    assert f"Stopped. Resume with: python -m trainers.train --local --resume {command.run.uri}" in command.text
    assert "Traceback" not in command.text
    with running("-m", *TRAIN, "--resume", command.run.uri) as resumed:
        assert resumed.end() == 0, resumed.text
    assert not differences(last_state(calm), last_state(command.run))


# Of training: a step as large as this leaves nothing of the network.
DIVERGING = ("optim.lr=1e6", "optim.max_grad_norm=0", "optim.schedule.warmup_ratio=0")


def test_a_loss_that_comes_apart_ends_the_run_and_names_the_images(formulas_dataset: str, tmp_path: Path) -> None:
    run, _, message = refused(formulas_dataset, tmp_path, *DIVERGING)
    assert message.startswith("error: Step ") and "loss_guard.on_bad_step=skip" in message
    records = [json.loads(line) for line in run.child("bad_batches.jsonl").read_bytes().splitlines()]
    assert len(records) == 1 and len(set(records[0]["ids"])) == 20
    for name in complete_checkpoints(run):
        assert int(name.split("-")[1]) < records[0]["step"], "what is kept is from before"


def test_bad_steps_may_be_skipped_until_they_are_too_many(formulas_dataset: str, tmp_path: Path) -> None:
    skipping = ("loss_guard.on_bad_step=skip", "loss_guard.max_skipped=3")
    run, printed, message = refused(formulas_dataset, tmp_path, *DIVERGING, *skipping)
    records = [json.loads(line) for line in run.child("bad_batches.jsonl").read_bytes().splitlines()]
    steps = [record["step"] for record in records]
    assert steps[-3:] == list(range(steps[-1] - 2, steps[-1] + 1)) and printed.count("is left out: loss") == len(steps) - 1
    assert "3 bad steps in a row" in message


def test_averaged_weights_are_stored_also_where_nothing_is_validated(formulas_dataset: str, tmp_path: Path) -> None:
    averaging = ("weight_averaging.name=swa", "weight_averaging.start=0.5", "data.val_split=", "early_stopping.patience=0")
    result = command_here(*TRAIN, *words(formulas_dataset, tmp_path, *averaging, "epochs=2"))
    assert result.returncode == 0, result.stderr
    state = last_state(only_run(tmp_path))
    averaged, trained = state["step"]["averaging"], state["step"]["weights"]
    assert int(averaged["count"]) == 2
    assert not differences(state["weights"], {name: averaged[f"network.{name}"] for name in state["weights"]})
    assert differences(state["weights"], {name: trained[name] for name in state["weights"]})
