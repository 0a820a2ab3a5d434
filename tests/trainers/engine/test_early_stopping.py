"""A run ends when it no longer gets better, and remembers that over a resume."""

from __future__ import annotations

import math

from trainers.config.early_stopping import EarlyStoppingConfig
from trainers.engine.early_stopping import EarlyStopping
from trainers.tasks.criterion import criterion_of
from trainers.tasks.sequence import SequenceTask


def counting(config: EarlyStoppingConfig) -> EarlyStopping:
    return EarlyStopping(config, criterion_of(config, SequenceTask))


def epochs_until_due(config: EarlyStoppingConfig, values: list[float], resume_after: int = 0) -> int | None:
    stopping, metric = counting(config), criterion_of(config, SequenceTask).metric
    for epoch, value in enumerate(values):
        stopping.update({metric: value})
        if stopping.due:
            return epoch
        if epoch == resume_after:
            state, stopping = stopping.state_dict(), counting(config)
            assert stopping.load_state_dict(state)
    return None


def test_patience_counts_epochs_without_a_better_metric() -> None:
    rising_then_flat = [0.1, 0.2, 0.3, 0.3, 0.29, 0.3, 0.1]
    assert epochs_until_due(EarlyStoppingConfig(patience=3), rising_then_flat) == 5
    assert epochs_until_due(EarlyStoppingConfig(patience=3), rising_then_flat, resume_after=3) == 5
    assert epochs_until_due(EarlyStoppingConfig(patience=0), rising_then_flat) is None
    assert epochs_until_due(EarlyStoppingConfig(patience=5), rising_then_flat) is None


def test_less_may_be_better_and_a_little_may_not_be_enough() -> None:
    assert epochs_until_due(EarlyStoppingConfig(patience=2, metric="val/wer"), [0.5, 0.4, 0.4, 0.41]) == 3
    assert epochs_until_due(EarlyStoppingConfig(patience=2, min_delta=0.1), [0.5, 0.55, 0.59, 0.8]) == 2


def test_epochs_without_the_metric_do_not_count() -> None:
    stopping = counting(EarlyStoppingConfig(patience=1))
    stopping.update({"val/score": 0.5})
    stopping.update({"epoch/images_per_s": 3.0})
    assert not stopping.due
    assert (
        len(EarlyStoppingConfig(patience=-1, min_delta=-1, metric="").validate()) == 3 and not EarlyStoppingConfig().validate()
    )


def test_what_was_counted_by_another_metric_is_forgotten() -> None:
    config = EarlyStoppingConfig(patience=2, metric="val/score")
    stopping = counting(config)
    for value in (0.9, 0.8, 0.8):
        stopping.update({"val/score": value})
    assert stopping.due
    state = stopping.state_dict()
    for other in (EarlyStoppingConfig(2, "val/loss"), EarlyStoppingConfig(2, "val/score", min_delta=0.1)):
        resumed = counting(other)
        assert not resumed.load_state_dict(state) and not resumed.due
        resumed.update({other.metric: 3.0})
        assert resumed.epochs_since == 0, "the first of the new metric is the best of it"
    patient = counting(EarlyStoppingConfig(patience=5))
    assert patient.load_state_dict(state) and not patient.due, "a larger patience counts on"


def test_nan_is_no_improvement() -> None:
    stopping = counting(EarlyStoppingConfig(patience=2, metric="val/loss"))
    for value in (1.0, math.nan, math.nan):
        stopping.update({"val/loss": value})
    assert stopping.due and stopping.best == -1.0
