"""A run ends when it no longer gets better, and remembers that over a resume."""

from __future__ import annotations

from trainers.early_stopping import EarlyStopping, EarlyStoppingConfig, problems


def epochs_until_due(config: EarlyStoppingConfig, values: list[float], resume_after: int = 0) -> int | None:
    stopping = EarlyStopping(config)
    for epoch, value in enumerate(values):
        stopping.update({config.metric: value})
        if stopping.due:
            return epoch
        if epoch == resume_after:
            state, stopping = stopping.state_dict(), EarlyStopping(config)
            stopping.load_state_dict(state)
    return None


def test_patience_counts_epochs_without_a_better_figure() -> None:
    rising_then_flat = [0.1, 0.2, 0.3, 0.3, 0.29, 0.3, 0.1]
    assert epochs_until_due(EarlyStoppingConfig(patience=3), rising_then_flat) == 5
    assert epochs_until_due(EarlyStoppingConfig(patience=3), rising_then_flat, resume_after=3) == 5
    assert epochs_until_due(EarlyStoppingConfig(patience=0), rising_then_flat) is None
    assert epochs_until_due(EarlyStoppingConfig(patience=5), rising_then_flat) is None


def test_less_may_be_better_and_a_little_may_not_be_enough() -> None:
    assert epochs_until_due(EarlyStoppingConfig(patience=2, metric="val/wer", mode="min"), [0.5, 0.4, 0.4, 0.41]) == 3
    assert epochs_until_due(EarlyStoppingConfig(patience=2, min_delta=0.1), [0.5, 0.55, 0.59, 0.8]) == 2


def test_epochs_without_the_figure_say_nothing() -> None:
    stopping = EarlyStopping(EarlyStoppingConfig(patience=1))
    stopping.update({"val/score": 0.5})
    stopping.update({"epoch/images_per_s": 3.0})
    assert not stopping.due
    assert problems(EarlyStoppingConfig(patience=-1, min_delta=-1, metric="")) and not problems(EarlyStoppingConfig())
