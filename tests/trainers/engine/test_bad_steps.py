"""A step that would spoil a run changes nothing, names its images, and ends the run or not, as configured."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from cluster.errors import UserError
from tests.trainers.engine.test_step import CPU, TOKENIZER, batch_of, tiny_model
from trainers.config.loss_guard import LossGuardConfig
from trainers.config.weight_averaging import WeightAveragingConfig
from trainers.engine.bad_steps import BadSteps
from trainers.engine.reporter import Wishes
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig
from trainers.tasks.device_batch import DeviceBatch, to_device
from trainers.tasks.sequence import SequenceTask


class Poisoned(SequenceTask):
    """A loss that is no number where a batch holds the token `d`."""

    def loss_sum(self, model: Any, batch: DeviceBatch, own: Any = None) -> torch.Tensor:
        loss = super().loss_sum(model, batch, own)
        return loss * float("nan") if (batch.targets["tokens"] == self.tokenizer.encode("d")[1]).any() else loss


class Pushed:
    """A line that keeps what was pushed."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def push(self, kind: str, **content: Any) -> None:
        self.events.append({"kind": kind, **content})

    def mark(self, doing: str) -> None: ...

    def breathe(self) -> None: ...

    def poll(self) -> Wishes:
        return Wishes()

    def flush(self) -> None: ...


GOOD, BAD = (to_device(batch_of(texts), CPU) for texts in (["a b", "c a"], ["d", "a b"]))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_bad_step_leaves_everything_as_it_was(precision: Any) -> None:
    config = StepConfig(precision, averaging=WeightAveragingConfig("ema", decay=0.5), guard=LossGuardConfig("skip"))
    step = TrainStep(tiny_model(), Poisoned(TOKENIZER), OptimConfig(), 8, CPU, config)
    step(GOOD)
    before = copy.deepcopy((step.network.state_dict(), step.averaging.state_dict(), step.optimizer.state_dict()["state"]))
    result = step(BAD)
    after = (step.network.state_dict(), step.averaging.state_dict(), step.optimizer.state_dict()["state"])
    assert bool(result.bad) and step.steps == 2, "it counts as a step: the data goes on"
    for one, other in zip(before[:2], after[:2], strict=True):
        for name, value in one.items():
            assert torch.equal(value, other[name]) or "num_batches" in name, name
    for key, state in before[2].items():
        assert all(torch.equal(value, after[2][key][name]) for name, value in state.items())
    assert not bool(step(GOOD).bad)
    assert all(torch.isfinite(value).all() for value in step.network.state_dict().values())


def test_a_run_that_skips_is_the_run_without_the_batch() -> None:
    """But for dropout and the rate, which follow the step's number."""

    def weights(batches: list[DeviceBatch]) -> dict[str, torch.Tensor]:
        config = OptimConfig()
        config.schedule.name, config.schedule.warmup_ratio = "constant", 0.0
        step = TrainStep(tiny_model(), Poisoned(TOKENIZER), config, 8, CPU, StepConfig(guard=LossGuardConfig("skip")))
        for module in step.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        for batch in batches:
            step(batch)
        return step.network.state_dict()

    one, other = weights([GOOD, BAD, GOOD]), weights([GOOD, GOOD])
    assert all(torch.equal(value, other[name]) for name, value in one.items() if "num_batches" not in name)


def taken(guard: LossGuardConfig, batches: list[DeviceBatch]) -> Pushed:
    line, task = Pushed(), Poisoned(TOKENIZER)
    step = TrainStep(tiny_model(), task, OptimConfig(), 8, CPU, StepConfig(guard=guard))
    bad_steps = BadSteps(guard, line, rank=0)
    try:
        for number, batch in enumerate(batches):
            bad_steps.taken(number + 1, 0, [f"{number}-a", f"{number}-b"], step(batch))
        bad_steps.look()
    except UserError as error:
        line.push("error", text=str(error))
    return line


def test_the_images_of_a_bad_step_are_named_and_the_run_ends() -> None:
    line = taken(LossGuardConfig("stop"), [GOOD, BAD, GOOD])
    record, error = line.events
    assert record["record"]["ids"] == ["1-a", "1-b"] and record["record"]["step"] == 2 and not record["skipped"]
    assert "Step 2 has a loss of nan" in error["text"] and "loss_guard.on_bad_step=skip" in error["text"]


def test_too_many_in_a_row_end_the_run_all_the_same() -> None:
    line = taken(LossGuardConfig("skip", max_skipped=2), [BAD, GOOD, BAD, GOOD, BAD, BAD, GOOD])
    assert [event.get("skipped") for event in line.events] == [True, True, True, False, None]
    assert "(2 bad steps in a row)" in line.events[-1]["text"]
    assert len(taken(LossGuardConfig("skip", max_skipped=2), [BAD, GOOD] * 5).events) == 5
