"""A step that would spoil a run changes nothing, names its images, and ends the run or not, as configured."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from cluster.errors import UserError
from tests.support.batches import text_batch
from tests.support.reporters import RecordingReporter
from tests.support.sequence_tasks import CPU, poisoned_task, tiny_model, without_dropout
from trainers.config.loss_guard import LossGuardConfig
from trainers.config.weight_averaging import WeightAveragingConfig
from trainers.engine.bad_steps import BadSteps
from trainers.engine.events import BadStep
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig
from trainers.tasks.device_batch import DeviceBatch, to_device

GOOD, BAD = (to_device(text_batch(texts), CPU) for texts in (["a b", "c a"], ["d", "a b"]))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_bad_step_leaves_everything_as_it_was(precision: Any) -> None:
    config = StepConfig(precision, weight_averaging=WeightAveragingConfig("ema", decay=0.5), loss_guard=LossGuardConfig("skip"))
    step = TrainStep(tiny_model(), poisoned_task(), OptimConfig(), 8, CPU, config)
    step(GOOD)
    before = copy.deepcopy((step.network.state_dict(), step.averaging.state_dict(), step.optimizer.state_dict()["state"]))
    result = step(BAD)
    after = (step.network.state_dict(), step.averaging.state_dict(), step.optimizer.state_dict()["state"])
    assert bool(result.bad) and step.steps == 2, "it counts as a step: the next one gets the next data"
    for one, other in zip(before[:2], after[:2], strict=True):
        for name, value in one.items():
            assert torch.equal(value, other[name]) or "num_batches" in name, name
    for key, state in before[2].items():
        assert all(torch.equal(value, after[2][key][name]) for name, value in state.items())
    assert not bool(step(GOOD).bad)
    assert all(torch.isfinite(value).all() for value in step.network.state_dict().values())


def test_a_run_that_skips_is_the_run_without_the_batch() -> None:
    """But for dropout and the learning rate, which follow the step's number."""

    def weights(batches: list[DeviceBatch]) -> dict[str, torch.Tensor]:
        config = OptimConfig()
        config.schedule.name, config.schedule.warmup_ratio = "constant", 0.0
        skip = StepConfig(loss_guard=LossGuardConfig("skip"))
        step = TrainStep(without_dropout(tiny_model()), poisoned_task(), config, 8, CPU, skip)
        for batch in batches:
            step(batch)
        return step.network.state_dict()

    one, other = weights([GOOD, BAD, GOOD]), weights([GOOD, GOOD])
    assert all(torch.equal(value, other[name]) for name, value in one.items() if "num_batches" not in name)


def steps(guard: LossGuardConfig, batches: list[DeviceBatch]) -> tuple[list[BadStep], str]:
    """The bad steps that are reported while these are taken, and the error that ends the run, if any."""
    reporter, error = RecordingReporter(), ""
    step = TrainStep(tiny_model(), poisoned_task(), OptimConfig(), 8, CPU, StepConfig(loss_guard=guard))
    bad_steps = BadSteps(guard, reporter, rank=0)
    try:
        for number, batch in enumerate(batches):
            bad_steps.add(number + 1, 0, [f"{number}-a", f"{number}-b"], step(batch))
        bad_steps.check()
    except UserError as mistake:
        error = str(mistake)
    reported = [event for event in reporter.events if isinstance(event, BadStep)]
    assert len(reported) == len(reporter.events)
    return reported, error


def test_the_images_of_a_bad_step_are_named_and_the_run_ends() -> None:
    (event,), error = steps(LossGuardConfig("stop"), [GOOD, BAD, GOOD])
    assert event.record["ids"] == ["1-a", "1-b"] and event.record["step"] == 2 and not event.skipped
    assert "Step 2 has a loss of nan" in error and "loss_guard.on_bad_step=skip" in error


def test_too_many_in_a_row_end_the_run_all_the_same() -> None:
    reported, error = steps(LossGuardConfig("skip", max_skipped=2), [BAD, GOOD, BAD, GOOD, BAD, BAD, GOOD])
    assert [event.skipped for event in reported] == [True, True, True, False]
    assert "(2 bad steps in a row)" in error
    reported, error = steps(LossGuardConfig("skip", max_skipped=2), [BAD, GOOD] * 5)
    assert len(reported) == 5 and not error
