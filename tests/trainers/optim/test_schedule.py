"""The rate of each step, against closed forms written independently and torch's own schedulers."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR

from trainers.config.optim import ScheduleName
from trainers.optim import Schedule, ScheduleConfig
from trainers.optim.schedule import lr_ratio, momentum

NAMES: tuple[Any, ...] = get_args(ScheduleName)


def rates(config: ScheduleConfig, steps: int, epochs: int = 1, upto: int | None = None) -> list[float]:
    return [lr_ratio(config, step, steps, epochs) for step in range(upto or steps)]


def of_torch(kind: type[LRScheduler], steps: int, **settings: Any) -> list[float]:
    """The rates, from 1, of `steps` steps of a scheduler of torch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = kind(optimizer, **settings)
    seen = []
    for _ in range(steps):
        seen.append(float(scheduler.get_last_lr()[0]))
        optimizer.step()
        scheduler.step()
    return seen


def test_the_default_rises_to_the_peak_and_falls_to_a_thousandth() -> None:
    values = rates(ScheduleConfig(), 100)
    assert values[0] == 0.1 and values[9] == values[10] == 1.0 == max(values)
    assert all(a >= b for a, b in itertools.pairwise(values[9:]))
    for step in range(10, 100):
        wave = 0.5 + 0.5 * math.cos(math.pi * (step - 10) / 90)
        assert values[step] == pytest.approx(0.001 + 0.999 * wave, rel=1e-12)
    assert lr_ratio(ScheduleConfig(), 100, 100, 1) == lr_ratio(ScheduleConfig(), 500, 100, 1) == pytest.approx(1e-3)


def test_cosine_is_torch_s() -> None:
    for steps in (1, 7, 120):
        assert rates(ScheduleConfig("cosine", warmup_ratio=0), steps) == pytest.approx(
            of_torch(CosineAnnealingLR, steps, T_max=steps)
        )
    floor = of_torch(CosineAnnealingLR, 30, T_max=30, eta_min=0.2)
    assert rates(ScheduleConfig("cosine", warmup_ratio=0, min_lr_ratio=0.2), 30) == pytest.approx(floor)


def test_cosine_by_epochs_is_torch_s_stepped_at_their_ends() -> None:
    config = ScheduleConfig("cosine", warmup_ratio=0, per_epoch=True)
    expected = [value for value in of_torch(CosineAnnealingLR, 6, T_max=6) for _ in range(17)]
    assert rates(config, 6 * 17, epochs=6) == pytest.approx(expected)
    assert lr_ratio(config, 6 * 17 + 3, 6 * 17, 6) == expected[-1]


def test_steps_that_changed_no_weight_do_not_count_but_for_the_epoch() -> None:
    cosine = ScheduleConfig("cosine", warmup_ratio=0.1)
    assert lr_ratio(cosine, 30, 60, 3, left_out=4) == lr_ratio(cosine, 26, 60, 3)
    assert momentum(ScheduleConfig("cyclic"), 30, 60, 3, left_out=4) == momentum(ScheduleConfig("cyclic"), 26, 60, 3)
    for name in ("step", "cosine"):
        per_epoch = ScheduleConfig(name, warmup_ratio=0, step_epochs=1, per_epoch=True)
        rates = [lr_ratio(per_epoch, step, 60, 3, left_out=7) for step in range(60)]
        assert rates == [lr_ratio(per_epoch, step, 60, 3) for step in range(60)] and len(set(rates)) == 3
    steps = ScheduleConfig("step", warmup_ratio=0, step_epochs=1)
    assert [lr_ratio(steps, step, 60, 3, left_out=7) for step in (19, 20)] == [1.0, steps.gamma]


@pytest.mark.parametrize("per_epoch", [False, True])
def test_steps_are_torch_s(per_epoch: bool) -> None:
    config = ScheduleConfig("step", warmup_ratio=0, step_epochs=5, gamma=0.75, per_epoch=per_epoch)
    expected = [value for value in of_torch(StepLR, 13, step_size=5, gamma=0.75) for _ in range(4)]
    assert rates(config, 13 * 4, epochs=13) == pytest.approx(expected)
    assert set(rates(config, 13 * 4, epochs=13)) == {1.0, 0.75, 0.75**2}


def test_constant_and_steps_warm_up_too() -> None:
    assert rates(ScheduleConfig("constant", warmup_ratio=0.2), 10) == [0.5] + [1.0] * 9
    assert rates(ScheduleConfig("step", warmup_ratio=0.5, step_epochs=1, gamma=0.5), 8, 2) == [
        0.25,
        0.5,
        0.75,
        1,
        0.5,
        0.5,
        0.5,
        0.5,
    ]


@pytest.mark.parametrize("total", [3, 20, 101, 1000, 138_850])
def test_cyclic_is_the_source_s(total: int) -> None:
    config, peak = ScheduleConfig("cyclic", warmup_ratio=0.3), 5e-4  # which it has no use for
    c = int(0.45 * total)
    for it in {*range(0, total, max(1, total // 997)), c - 1, c, c + 1, 2 * c - 1, 2 * c, 2 * c + 1, total - 1, total}:
        if it <= c:
            lr, beta = (peak / 10) * (1 + 9 * it / c), 0.95 - 0.1 * it / c
        elif it <= 2 * c:
            lr, beta = (peak / 10) * (1 + 9 * (2 * c - it) / c), 0.85 + 0.1 * (it - c) / c
        else:
            lr, beta = (peak / 10) * (1 - 0.99 * (it - 2 * c) / (total - 2 * c)), 0.95
        assert peak * lr_ratio(config, it, total, 1) == pytest.approx(lr, rel=1e-9), it
        assert momentum(config, it, total, 1) == pytest.approx(beta, rel=1e-9), it
    assert lr_ratio(config, 2 * total, total, 1) == pytest.approx(1e-3)


@given(
    name=st.sampled_from(NAMES),
    warmup=st.floats(0, 0.99),
    floor=st.floats(0, 1),
    per_epoch=st.booleans(),
    epochs=st.integers(1, 9),
    total=st.integers(1, 300),
    step=st.integers(0, 400),
)
def test_a_rate_is_a_share_of_the_peak_wherever_a_run_is(
    name: Any, warmup: float, floor: float, per_epoch: bool, epochs: int, total: int, step: int
) -> None:
    config = ScheduleConfig(name, warmup, floor, per_epoch=per_epoch)
    value = lr_ratio(config, step, total, epochs)
    assert 0 <= value <= 1
    assert lr_ratio(config, total + 7, total, epochs) == lr_ratio(config, total + 1, total, epochs), "it stays at its end"
    beta1 = momentum(config, step, total, epochs)
    assert beta1 is None if name != "cyclic" else 0.85 - 1e-9 <= beta1 <= 0.95  # type: ignore[operator]
    if per_epoch:
        epoch = min(step * epochs // total, epochs - 1)
        first = -(-epoch * total // epochs)
        assert value == lr_ratio(config, min(first, step), total, epochs), "an epoch has one rate"


def two_groups(kind: type[torch.optim.Optimizer], **settings: Any) -> torch.optim.Optimizer:
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    groups = [{"params": weights[:1], "lr_scale": 1.0}, {"params": weights[1:], "lr_scale": 0.25}]
    return kind(groups, lr=0.4, **settings)  # type: ignore[call-arg]


def test_a_schedule_writes_each_group_s_share_and_needs_no_history() -> None:
    optimizer = two_groups(torch.optim.Adam, betas=(0.7, 0.98))
    schedule = Schedule(optimizer, ScheduleConfig("cosine", warmup_ratio=0.1), 50, 1)
    for step in (30, 0, 49, 3):
        schedule.set(step)
        expected = 0.4 * lr_ratio(ScheduleConfig("cosine", warmup_ratio=0.1), step, 50, 1)
        assert [group["lr"] for group in optimizer.param_groups] == [expected, 0.25 * expected]
        assert schedule.lr == expected
    assert {group["betas"] for group in optimizer.param_groups} == {(0.7, 0.98)}, "not this schedule's"
    schedule.set(30, lr_override=0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.2, 0.05]


def test_cyclic_writes_the_momentum() -> None:
    adam = two_groups(torch.optim.AdamW, betas=(0.7, 0.98))
    Schedule(adam, ScheduleConfig("cyclic"), 100, 1).set(45)
    assert all(group["betas"] == pytest.approx((0.85, 0.98)) for group in adam.param_groups)
    sgd = two_groups(torch.optim.SGD, momentum=0.9)
    Schedule(sgd, ScheduleConfig("cyclic"), 100, 1).set(0)
    assert all(group["momentum"] == 0.95 for group in sgd.param_groups)
    assert [group["lr"] for group in sgd.param_groups] == pytest.approx([0.04, 0.01])
