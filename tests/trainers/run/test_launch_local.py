"""Training without Ray: the same step, stream and checkpoints, killed and started again, to the bit."""

from __future__ import annotations

import json
import os
import random
import signal
from pathlib import Path

import pytest

from tests.support.processes import Running, differences, last_state, running
from tests.support.runs import SMALL
from trainers.checkpoint.format import whole_checkpoints

# All that keeps a state: averages, a schedule, loss scaling (none on a CPU), dropout, augmentation, early stopping.
STATEFUL = [
    *SMALL, "scaling.num_train_workers=1", "weight_averaging.name=ema", "weight_averaging.decay=0.9",
    "early_stopping.patience=50", "scheduled_sampling.mode=per_token", "scheduled_sampling.ratio=0.8",
    "checkpoint.every_steps=4", "stream.augmentation=light", "epochs=3", "validate_every=2",
]  # fmt: skip


def solo(formulas: str, runs_dir: Path, *overrides: str) -> list[str]:
    return ["-m", "trainers.solo", *STATEFUL, f"data.dataset={formulas}", f"runs_dir={runs_dir}", *overrides]


def killed_and_resumed(formulas: str, runs_dir: Path, kills: int, seed: int) -> Running:
    """A run that is killed -9 at random steps, so many times, and then comes to its end."""
    generator = random.Random(seed)
    words = solo(formulas, runs_dir)
    for _ in range(kills):
        with running(*words) as command:
            lines = generator.randrange(5, 10)
            for _ in range(lines):
                command.until(" step ")
            if "--resume" not in words:
                words = ["-m", "trainers.solo", "--resume", command.run.uri]
    with running(*words) as command:
        assert command.end() == 0, command.text
    return command


@pytest.fixture(scope="module")
def calm(formulas_dataset: str, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A run without trouble."""
    with running(*solo(formulas_dataset, tmp_path_factory.mktemp("solo"))) as command:
        assert command.end() == 0, command.text
    return command


def test_it_trains_where_ray_is_not_installed(formulas_dataset: str, tmp_path: Path) -> None:
    without = "import sys, runpy; sys.modules['ray'] = None; runpy.run_module('trainers.solo', run_name='__main__')"
    overrides = solo(formulas_dataset, tmp_path, "epochs=1")[2:]
    with running("-c", without, *overrides) as command:
        assert command.end() == 0, command.text
    assert "45 steps" not in command.text and "15 steps" in command.text and "1 workers on cpu" in command.text
    figures = json.loads(command.run.child("figures.json").read_bytes())
    assert figures["figures"]["test"]["count"] == 40 and figures["checkpoint"].startswith(command.run.uri)
    assert {"metrics.jsonl", "config.yaml"} <= set(command.run.names()) and len(whole_checkpoints(command.run)) >= 1


def test_a_mistake_is_one_message_and_leaves_no_run_behind(tmp_path: Path) -> None:
    with running("-m", "trainers.solo", "data.dataset=/nowhere", f"runs_dir={tmp_path}") as command:
        assert command.end() == 2
    assert "No dataset at '/nowhere'" in command.lines[-1] and "Traceback" not in command.text
    assert not list(tmp_path.iterdir())


def test_validation_comes_every_so_many_epochs_and_after_the_last(calm: Running) -> None:
    rows = [json.loads(line) for line in calm.run.child("metrics.jsonl").read_bytes().splitlines()]
    assert {row["epoch"]: "val/score" in row for row in rows if "time/train_s" in row} == {0: False, 1: True, 2: True}


def test_a_run_that_is_killed_equals_the_calm_one_to_the_bit(calm: Running, formulas_dataset: str, tmp_path: Path) -> None:
    """Weights, averages, optimizer, schedule, data position, patience: all of the last checkpoint, and every logged loss."""
    amid = killed_and_resumed(formulas_dataset, tmp_path, kills=1, seed=0)
    assert "Resumed from checkpoint-" in amid.text
    assert not differences(last_state(calm.run), last_state(amid.run))
    assert logged(amid) == logged(calm)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_ten_kills_in_one_run_change_nothing(calm: Running, formulas_dataset: str, tmp_path: Path, seed: int) -> None:
    amid = killed_and_resumed(formulas_dataset, tmp_path, kills=10, seed=seed)
    assert not differences(last_state(calm.run), last_state(amid.run))
    assert logged(amid) == logged(calm)


def logged(command: Running) -> dict[int, float]:
    rows = [json.loads(line) for line in command.run.child("metrics.jsonl").read_bytes().splitlines()]
    return {int(row["step"]): row["train/loss"] for row in rows if "train/loss" in row}


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(calm: Running, formulas_dataset: str, tmp_path: Path) -> None:
    with running(*solo(formulas_dataset, tmp_path)) as command:
        command.until(" step 6/")
        os.kill(command.process.pid, signal.SIGINT)
        assert command.end() == 130, command.text
    assert f"Stopped. Go on with: python -m trainers.solo --resume {command.run.uri}" in command.text
    assert "Traceback" not in command.text
    with running("-m", "trainers.solo", "--resume", command.run.uri) as resumed:
        assert resumed.end() == 0, resumed.text
    assert not differences(last_state(calm.run), last_state(command.run))


def test_a_loss_that_comes_apart_ends_the_run_and_names_the_images(formulas_dataset: str, tmp_path: Path) -> None:
    words = solo(formulas_dataset, tmp_path, "optim.lr=1e6", "optim.max_grad_norm=0", "optim.schedule.warmup_ratio=0")
    with running(*words) as command:
        assert command.end() == 2, command.text
    message = command.lines[-1]
    assert message.startswith("error: Step ") and "loss_guard.on_bad_step=skip" in message and "Traceback" not in command.text
    records = [json.loads(line) for line in command.run.child("bad_batches.jsonl").read_bytes().splitlines()]
    assert len(records) == 1 and len(set(records[0]["ids"])) == 20
    for name in whole_checkpoints(command.run):
        assert int(name.split("-")[1]) < records[0]["step"], "what is kept is from before"


def test_bad_steps_may_be_skipped_until_they_are_too_many(formulas_dataset: str, tmp_path: Path) -> None:
    words = solo(
        formulas_dataset, tmp_path, "optim.lr=1e6", "optim.max_grad_norm=0", "optim.schedule.warmup_ratio=0",
        "loss_guard.on_bad_step=skip", "loss_guard.max_skipped=3",
    )  # fmt: skip
    with running(*words) as command:
        assert command.end() == 2, command.text
    records = [json.loads(line) for line in command.run.child("bad_batches.jsonl").read_bytes().splitlines()]
    steps = [record["step"] for record in records]
    assert steps[-3:] == list(range(steps[-1] - 2, steps[-1] + 1)) and command.text.count("is left out: loss") == len(steps) - 1
    assert "3 bad steps in a row" in command.lines[-1]


def test_averaged_weights_are_stored_also_where_nothing_is_validated(formulas_dataset: str, tmp_path: Path) -> None:
    with running(*solo(formulas_dataset, tmp_path, "weight_averaging.name=swa", "weight_averaging.start=0.5", "data.val_split=",
                       "epochs=2", "early_stopping.patience=0")) as command:  # fmt: skip
        assert command.end() == 0, command.text
    state = last_state(command.run)
    averaged, trained = state["step"]["averaging"], state["step"]["weights"]
    assert int(averaged["count"]) == 2
    assert not differences(state["weights"], {name: averaged[f"network.{name}"] for name in state["weights"]})
    assert differences(state["weights"], {name: trained[name] for name in state["weights"]})


@pytest.mark.slow
def test_two_processes_of_torchrun_train_as_two_workers_of_ray(formulas: str, tmp_path: Path) -> None:
    from tests.support.runs import losses, small_config, train

    run, result, _ = train(small_config(formulas, tmp_path / "ray", "epochs=2"))
    words = ["-m", "torch.distributed.run", "--nproc_per_node=2", "-m", "trainers.solo", *SMALL, "epochs=2"]
    with running(*words, f"data.dataset={formulas}", f"runs_dir={tmp_path}") as command:
        assert command.end() == 0, command.text
    assert "2 workers on cpu" in command.text and logged(command) == losses(result)
    assert not differences(last_state(run)["weights"], last_state(command.run)["weights"])
    assert command.text.count("Trained in") == 1, "one of the two speaks"
