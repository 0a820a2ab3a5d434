"""A metric's direction is the task's; what no validation reports, and what contradicts it, is refused before the first step."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.storage.base import open_storage
from tests.support.runs import small_config
from trainers.config.criterion import Criterion
from trainers.run.log import best_row
from trainers.run.preflight import check_run
from trainers.studies.arms import StudyConfig
from trainers.tasks.check_metrics import groups_of
from trainers.tasks.metrics.sequence import DIRECTIONS, OTHER, GroupedSums, reported_groups, reported_metrics
from trainers.tune import run_study

SOURCES = st.dictionaries(st.sampled_from(["", "a", "b/c", "d", "e", OTHER]), st.integers(1, 5))
VALUES = st.one_of(st.floats(-10, 10), st.sampled_from([math.nan, math.inf, -math.inf]))


@pytest.mark.parametrize("name", DIRECTIONS)
def test_the_last_part_of_the_name_tells_the_direction(name: str) -> None:
    right, wrong = GroupedSums(("a", "b")), GroupedSums(("a", "b"))
    right.add("x y", "x y", "a")
    wrong.add("q r s t u", "x y", "a")
    right.total.loss, wrong.total.loss = 1.0, 9.0
    right.total.loss_tokens = wrong.total.loss_tokens = 3
    for metric in {f"val/{name}", f"val/a/{name}"} & right.averages("val").keys():
        criterion = Criterion.of(metric, "auto", DIRECTIONS)
        assert criterion.goodness(right.averages("val")) > criterion.goodness(wrong.averages("val"))


@given(st.lists(VALUES, max_size=6), st.sampled_from(["val/loss", "val/score"]))
def test_what_is_no_number_never_wins(values: list[float], metric: str) -> None:
    history: list[dict[str, float]] = [{"step": 0.0}, *({metric: value, "step": 1.0} for value in values)]
    best = best_row(history, Criterion.of(metric, "auto", DIRECTIONS))
    finite = [value for value in values if math.isfinite(value)]
    assert best.get(metric) == ((min if metric == "val/loss" else max)(finite) if finite else None)


@given(SOURCES, st.integers(0, 6))
def test_the_metrics_of_sources_are_bounded_and_known_beforehand(rows: dict[str, int], limit: int) -> None:
    groups = reported_groups(rows, limit)
    sums = GroupedSums(groups)
    for source, count in rows.items():
        for _ in range(count):
            sums.add("x", "x y", source)
        sums.reject(source)
    sums.total.loss_tokens = 1
    reported = sums.averages("val")
    assert len(groups) <= limit + 1 and len(groups) != 1
    assert reported_metrics("val", groups).keys() == {k for k in reported if k.rpartition("/")[2] not in ("count", "rejected")}
    if groups:
        named = {source: count for source, count in rows.items() if source}
        assert sum(reported[f"val/{group}/count"] for group in groups) == sum(named.values()), "each row in one group"
        apart = [count for source, count in named.items() if source in groups and (source != OTHER or len(named) <= limit)]
        assert all(count <= min(apart) for source, count in named.items() if source not in (*groups, OTHER))


def test_a_split_of_which_nothing_can_be_judged_has_no_metrics() -> None:
    sums = GroupedSums()
    sums.reject("a")
    averages = sums.averages("val")
    assert (averages["val/count"], averages["val/rejected"]) == (0, 1) and math.isnan(averages["val/wer"])
    assert Criterion.of("val/wer", "auto", DIRECTIONS).goodness(averages) == -math.inf


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
        check_run(small_config(formulas_dataset, tmp_path, *overrides.split()))


def test_what_can_judge_a_run_is_taken(formulas_dataset: str, tmp_path: Path) -> None:
    for overrides in ("checkpoint.metric=val/loss", "checkpoint.metric=val/printed/wer checkpoint.mode=min"):
        check_run(small_config(formulas_dataset, tmp_path, *overrides.split()))
    # Nothing is validated: nothing is chosen by it.
    check_run(small_config(formulas_dataset, tmp_path, "data.val_split=", "checkpoint.metric=nothing"))
    assert groups_of(open_dataset(formulas_dataset), "val", 12) == ("handwritten", "printed")
    assert groups_of(open_dataset(formulas_dataset), "val", 1)[1] == OTHER


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
