"""Which steps the guard would not have."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.config.loss_guard import LossGuardConfig
from trainers.engine.loss_guard import MAX_OVERFLOWS, Guard

CPU = torch.device("cpu")
CLASSES = 20


def judged(guard: Guard, loss: float, norm: float = 1.0, tokens: int = 10, scaled: bool = False) -> bool:
    """Of a batch of `tokens` tokens with a mean `loss`."""
    return bool(guard.judge(torch.tensor(loss * tokens), torch.tensor(float(tokens)), torch.tensor(norm), scaled))


def test_what_is_no_number_is_bad() -> None:
    guard = Guard(LossGuardConfig(), CLASSES, CPU)
    assert not judged(guard, 2.5)
    assert judged(guard, math.nan) and judged(guard, math.inf) and judged(guard, 2.5, math.nan) and judged(guard, 2.5, math.inf)
    assert not judged(guard, 2.5, math.inf, scaled=True), "gradients that overflow under a loss scale are the scaler's affair"
    assert judged(guard, math.nan, scaled=True)


def test_a_loss_far_above_the_untrained_network_has_exploded() -> None:
    guard = Guard(LossGuardConfig(max_loss_ratio=3), CLASSES, CPU)
    assert not judged(guard, 5.0), "the first step is the measure"
    assert not judged(guard, 14.9) and judged(guard, 15.1)
    lenient = Guard(LossGuardConfig(max_loss_ratio=0), CLASSES, CPU)
    assert not judged(lenient, 5.0) and not judged(lenient, 1e6)


def test_good_weights_at_the_start_do_not_make_the_measure_strict() -> None:
    guard = Guard(LossGuardConfig(max_loss_ratio=2), CLASSES, CPU)
    assert not judged(guard, 0.01) and not judged(guard, 1.9 * math.log(CLASSES)) and judged(guard, 2.1 * math.log(CLASSES))


def test_a_first_step_that_is_no_number_is_no_measure() -> None:
    guard = Guard(LossGuardConfig(max_loss_ratio=3), CLASSES, CPU)
    assert judged(guard, math.nan) and not judged(guard, 4.0) and judged(guard, 12.1)


def test_the_measure_survives_a_resume() -> None:
    guard = Guard(LossGuardConfig(max_loss_ratio=3), CLASSES, CPU)
    judged(guard, 8.0)
    resumed = Guard(LossGuardConfig(max_loss_ratio=3), CLASSES, CPU)
    resumed.load_state_dict(guard.state_dict())
    assert not judged(resumed, 23.9) and judged(resumed, 24.1)


@pytest.mark.parametrize("config", [LossGuardConfig(max_loss_ratio=0.5), LossGuardConfig(max_skipped=0)])
def test_values_that_make_no_sense_are_named(config: LossGuardConfig) -> None:
    assert len(config.validate()) == 1 and config.validate()[0].startswith("loss_guard.max_")


def test_gradients_that_overflow_for_good_are_found_under_a_scale_too() -> None:
    guard = Guard(LossGuardConfig(), CLASSES, CPU)
    assert not any(judged(guard, 2.5, math.nan, scaled=True) for _ in range(MAX_OVERFLOWS))
    assert judged(guard, 2.5, math.nan, scaled=True) and not judged(guard, 2.5, scaled=True)
