"""Which steps the loss guard rejects."""

from __future__ import annotations

import math

import pytest
import torch

from trainers.config.loss_guard import LossGuardConfig
from trainers.engine.loss_guard import MAX_OVERFLOWS, LossGuard

CPU = torch.device("cpu")
CLASSES = 20
GUESS = math.log(CLASSES)


def is_bad(guard: LossGuard, loss: float, norm: float = 1.0, tokens: int = 10, scaled: bool = False) -> bool:
    """Whether a step on a batch of `tokens` tokens with a mean `loss` is bad."""
    return bool(guard.is_bad(torch.tensor(loss * tokens), torch.tensor(float(tokens)), torch.tensor(norm), scaled))


def test_nan_and_infinity_are_bad() -> None:
    guard = LossGuard(LossGuardConfig(), GUESS, CPU)
    assert not is_bad(guard, 2.5)
    assert is_bad(guard, math.nan) and is_bad(guard, math.inf) and is_bad(guard, 2.5, math.nan) and is_bad(guard, 2.5, math.inf)
    assert not is_bad(guard, 2.5, math.inf, scaled=True), "gradients that overflow under a loss scale are left to the scaler"
    assert is_bad(guard, math.nan, scaled=True)


def test_a_loss_far_above_the_untrained_network_has_exploded() -> None:
    guard = LossGuard(LossGuardConfig(max_loss_ratio=3), GUESS, CPU)
    assert not is_bad(guard, 5.0), "the first step is the reference"
    assert not is_bad(guard, 14.9) and is_bad(guard, 15.1)
    lenient = LossGuard(LossGuardConfig(max_loss_ratio=0), GUESS, CPU)
    assert not is_bad(lenient, 5.0) and not is_bad(lenient, 1e6)


def test_good_weights_at_the_start_do_not_make_the_guard_strict() -> None:
    guard = LossGuard(LossGuardConfig(max_loss_ratio=2), GUESS, CPU)
    assert not is_bad(guard, 0.01) and not is_bad(guard, 1.9 * GUESS) and is_bad(guard, 2.1 * GUESS)


def test_a_first_step_whose_loss_is_nan_is_no_reference() -> None:
    guard = LossGuard(LossGuardConfig(max_loss_ratio=3), GUESS, CPU)
    assert is_bad(guard, math.nan) and not is_bad(guard, 4.0) and is_bad(guard, 12.1)


def test_the_reference_survives_a_resume() -> None:
    guard = LossGuard(LossGuardConfig(max_loss_ratio=3), GUESS, CPU)
    is_bad(guard, 8.0)
    resumed = LossGuard(LossGuardConfig(max_loss_ratio=3), GUESS, CPU)
    resumed.load_state_dict(guard.state_dict())
    assert not is_bad(resumed, 23.9) and is_bad(resumed, 24.1)


@pytest.mark.parametrize("config", [LossGuardConfig(max_loss_ratio=0.5), LossGuardConfig(max_skipped=0)])
def test_values_that_make_no_sense_are_named(config: LossGuardConfig) -> None:
    assert len(config.validate()) == 1 and config.validate()[0].startswith("loss_guard.max_")


def test_gradients_that_overflow_for_good_are_found_under_a_scale_too() -> None:
    guard = LossGuard(LossGuardConfig(), GUESS, CPU)
    assert not any(is_bad(guard, 2.5, math.nan, scaled=True) for _ in range(MAX_OVERFLOWS))
    assert is_bad(guard, 2.5, math.nan, scaled=True) and not is_bad(guard, 2.5, scaled=True)
