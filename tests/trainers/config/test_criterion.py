"""A metric's direction is the task's; what no validation reports, and what contradicts it, is refused before the first step."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from data_pipeline.storage.base import open_storage
from tests.support.runs import small_config
from trainers.config.criterion import AUTO, Criterion
from trainers.config.load import load_config
from trainers.run.log import best_row
from trainers.run.preflight import preflight
from trainers.studies.arms import StudyConfig
from trainers.studies.runner import run_study
from trainers.tasks.criterion import criterion_of
from trainers.tasks.metrics.base import OTHER, GroupedMetrics, reported_groups, reported_metrics
from trainers.tasks.metrics.sequence import DIRECTIONS, SequenceMetrics
from trainers.tasks.sequence import SequenceTask

SOURCES = st.dictionaries(st.sampled_from(["", "a", "b/c", "d", "e", OTHER]), st.integers(1, 5))
VALUES = st.one_of(st.floats(-10, 10), st.sampled_from([math.nan, math.inf, -math.inf]))


@pytest.mark.parametrize("name", DIRECTIONS)
def test_the_last_part_of_the_name_tells_the_direction(name: str) -> None:
    right, wrong = (GroupedMetrics(SequenceMetrics, ("a", "b")) for _ in range(2))
    for metrics, prediction, loss in ((right, "x y", 1.0), (wrong, "q r s t u", 9.0)):
        metrics.add({"prediction": prediction}, {"text": "x y"}, "a")
        metrics.add_loss(loss, 3)
    for metric in {f"val/{name}", f"val/a/{name}"} & right.averages("val").keys():
        criterion = Criterion.of(metric, "auto", DIRECTIONS)
        assert criterion.rank(right.averages("val")) > criterion.rank(wrong.averages("val"))


@given(st.lists(VALUES, max_size=6), st.sampled_from(["val/loss", "val/score"]))
def test_what_is_no_number_never_wins(values: list[float], metric: str) -> None:
    history: list[dict[str, float]] = [{"step": 0.0}, *({metric: value, "step": 1.0} for value in values)]
    best = best_row(history, Criterion.of(metric, "auto", DIRECTIONS))
    finite = [value for value in values if math.isfinite(value)]
    assert best.get(metric) == ((min if metric == "val/loss" else max)(finite) if finite else None)


@given(SOURCES, st.integers(0, 6))
def test_the_metrics_of_sources_are_bounded_and_known_beforehand(rows: dict[str, int], limit: int) -> None:
    groups = reported_groups(rows, limit)
    sums = GroupedMetrics(SequenceMetrics, groups)
    for source, count in rows.items():
        for _ in range(count):
            sums.add({"prediction": "x"}, {"text": "x y"}, source)
        sums.reject(source)
    sums.add_loss(0.0, 1)
    reported = sums.averages("val")
    assert len(groups) <= limit + 1 and len(groups) != 1
    compared = {key for key in reported if key.rpartition("/")[2] not in ("count", "rejected")}
    assert reported_metrics(DIRECTIONS, "val", groups).keys() == compared
    if groups:
        named = {source: count for source, count in rows.items() if source}
        assert sum(reported[f"val/{group}/count"] for group in groups) == sum(named.values()), "each row in one group"
        apart = [count for source, count in named.items() if source in groups and (source != OTHER or len(named) <= limit)]
        assert all(count <= min(apart) for source, count in named.items() if source not in (*groups, OTHER))


def test_a_split_of_which_nothing_can_be_judged_has_no_metrics() -> None:
    sums = GroupedMetrics(SequenceMetrics)
    sums.reject("a")
    averages = sums.averages("val")
    assert (averages["val/count"], averages["val/rejected"]) == (0, 1) and math.isnan(averages["val/wer"])
    assert Criterion.of("val/wer", "auto", DIRECTIONS).rank(averages) == -math.inf


REFUSED = {
    "checkpoint.metric=val/los": r"checkpoint\.metric=val/los: no .*Did you mean 'val/loss'\?.*split 'val'.*val/score",
    "early_stopping.metric=train/loss": r"early_stopping\.metric=train/loss: no validation",
    "checkpoint.metric=val/count": r"checkpoint\.metric=val/count: no validation",
    "checkpoint.metric=val/printd/wer": r"Did you mean 'val/printed/wer'\?.*sources handwritten, printed",
    "checkpoint.metric=val/loss checkpoint.mode=max": r"checkpoint\.mode=max contradicts checkpoint\.metric=val/loss.*less",
    "early_stopping.metric=val/printed/score early_stopping.mode=min": r"early_stopping\.mode=min contradicts.*more is",
    "checkpoint.metric=val/printed/wer tracking.max_sources=0": r"val/printed/wer: no validation",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_what_cannot_judge_a_run_is_refused_before_it_begins(formulas_dataset: str, tmp_path: Path, overrides: str) -> None:
    with pytest.raises(UserError, match=REFUSED[overrides]):
        preflight(small_config(formulas_dataset, tmp_path, *overrides.split()))


def test_what_can_judge_a_run_is_taken(formulas_dataset: str, tmp_path: Path) -> None:
    for overrides in ("checkpoint.metric=val/loss", "checkpoint.metric=val/printed/wer checkpoint.mode=min"):
        preflight(small_config(formulas_dataset, tmp_path, *overrides.split()))
    # Nothing is validated: nothing is chosen by it.
    preflight(small_config(formulas_dataset, tmp_path, "data.val_split=", "checkpoint.metric=nothing"))
    assert preflight(small_config(formulas_dataset, tmp_path)).groups == ("handwritten", "printed")
    assert preflight(small_config(formulas_dataset, tmp_path, "tracking.max_sources=1")).groups[1] == OTHER


def test_without_a_metric_the_tasks_own_is_taken() -> None:
    config = load_config(None)
    assert config.checkpoint.metric == config.early_stopping.metric == AUTO
    for section in (config.checkpoint, config.early_stopping):
        assert criterion_of(section, SequenceTask) == Criterion(f"val/{SequenceTask.main_metric}", "max")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metric": "val/los"}, r"^metric=val/los: no validation.*Did you mean 'val/loss'"),
        ({"metric": "val/loss", "mode": "max"}, r"^mode=max contradicts metric=val/loss"),
        ({"overrides": ["data.val_split="]}, r"data\.val_split is empty.*val/score"),
    ],
)
def test_a_study_is_refused_before_it_begins(
    formulas_dataset: str, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    study = StudyConfig(arms={"one": [f"data.dataset={formulas_dataset}"]}, **changes)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=message):
        run_study(study, open_storage(tmp_path / "s"))
    assert not (tmp_path / "s").exists()
