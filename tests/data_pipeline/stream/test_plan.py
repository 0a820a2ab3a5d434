"""The order of a run: what holds for every dataset, seed, batch size and number of workers."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Extent, Manifest, Shard, Split
from data_pipeline.stream.plan import BatchRule, GlobalBatch, Plan, RowGroups, StreamPosition, evaluation_plan, train_plan
from tests.support.datasets import sequence_manifest

Sample = tuple[int, int, int]  # shard, row group, row


@dataclass(frozen=True)
class Run:
    """What decides the order, and how it is cut."""

    shards: tuple[Shard, ...]
    seed: int
    window: int
    rule: BatchRule

    @property
    def manifest(self) -> Manifest:
        return sequence_manifest("plan", ["a"], ImagePolicy(64, 300, fixed_height=False), {"train": Split(list(self.shards))})

    @property
    def plan(self) -> Plan:
        return train_plan(self.manifest, "train", self.seed, self.window, self.rule)

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


extents = st.builds(Extent, st.integers(1, 90), st.integers(1, 300), st.integers(1, 64), st.integers(1, 10_000))
shards = st.lists(st.lists(extents, min_size=1, max_size=4), min_size=1, max_size=4).map(
    lambda groups: tuple(Shard(f"part-{i}.parquet", part, 999, str(i)) for i, part in enumerate(groups))
)
rules = st.builds(BatchRule, st.integers(1, 40), st.sampled_from([0, 0, 1, 5_000, 40_000, 1_000_000]))
runs = st.builds(Run, shards, st.integers(0, 2**31), st.integers(1, 12), rules)


def epoch_order(plan: Plan, epoch: int) -> list[Sample]:
    order = []
    for window in plan.windows(epoch):
        for index, row in plan.order(window).tolist():
            group = window.groups[index]
            order.append((int(plan.groups.shard[group]), int(plan.groups.index[group]), row))
    return order


def steps_of_ranks(plan: Plan, start: StreamPosition, world_size: int) -> list[list[Sample]]:
    """What all ranks read, step by step, from `start` to the end of its epoch."""
    order = epoch_order(plan, start.epoch)
    steps = []
    for step in plan.global_batches(start):
        shares = [step.share(rank, world_size) for rank in range(world_size)]
        assert all(0 <= last - first <= step.rows_of_rank(world_size) for first, last in shares)
        steps.append([sample for first, last in shares for sample in order[first:last]])
    return steps


@given(runs, st.integers(0, 1000))
def test_an_epoch_holds_each_row_exactly_once(run: Run, epoch: int) -> None:
    order = epoch_order(run.plan, epoch)
    assert len(order) == run.rows == run.plan.rows
    assert set(order) == {
        (number, index, row)
        for number, shard in enumerate(run.shards)
        for index, extent in enumerate(shard.row_groups)
        for row in range(extent.rows)
    }


@given(runs, st.integers(0, 1000))
def test_windows_follow_each_other_without_a_gap(run: Run, epoch: int) -> None:
    windows = run.plan.windows(epoch)
    starts = [0, *itertools.accumulate(window.rows for window in windows)]
    assert [window.start for window in windows] == starts[:-1]
    assert [window.end for window in windows] == starts[1:]
    assert all(len(window.groups) <= run.window for window in windows)


@given(runs, st.integers(0, 1000))
def test_the_order_follows_from_dataset_seed_epoch_and_rule_alone(run: Run, epoch: int) -> None:
    np.random.seed(1)
    first = epoch_order(run.plan, epoch)
    np.random.seed(2)
    assert epoch_order(replace(run).plan, epoch) == first


@given(st.integers(0, 2**31), st.integers(0, 1000), st.integers(1, 6))
def test_epochs_seeds_and_datasets_differ_in_their_order(seed: int, epoch: int, window: int) -> None:
    shard = Shard("a.parquet", [Extent(30, 64)] * 4, 999, "one")
    run = Run((shard,), seed, window, BatchRule(8))
    order = epoch_order(run.plan, epoch)
    assert order != epoch_order(run.plan, epoch + 1)
    assert order != epoch_order(replace(run, seed=seed + 1).plan, epoch)
    assert order != epoch_order(replace(run, shards=(replace(shard, sha256="other"),)).plan, epoch)
    assert order != sorted(order)


@settings(max_examples=300)
@given(runs, st.integers(0, 3), st.integers(1, 5), st.integers(1, 5), st.data())
def test_a_run_killed_anywhere_reads_what_was_left_at_any_size(
    run: Run, epoch: int, world_size: int, resumed_size: int, data: st.DataObject
) -> None:
    """Each sample of the epoch once, in the same global order, cut into the same batches."""
    plan = run.plan
    alone = steps_of_ranks(plan, StreamPosition(epoch), 1)
    assert [sample for step in alone for sample in step] == epoch_order(plan, epoch)
    killed = data.draw(st.integers(0, len(alone)), label="steps before the kill")
    before = steps_of_ranks(plan, StreamPosition(epoch), world_size)[:killed]
    done = sum(map(len, before))
    after = steps_of_ranks(run.plan, StreamPosition(epoch, done), resumed_size)
    assert before + after == alone


@given(runs, st.data(), st.integers(1, 5))
def test_it_may_resume_with_another_batch_size(run: Run, data: st.DataObject, world_size: int) -> None:
    done = data.draw(st.integers(0, run.rows), label="samples behind")
    resumed = steps_of_ranks(run.plan, StreamPosition(0, done), world_size)
    assert [sample for step in resumed for sample in step] == epoch_order(run.plan, 0)[done:]


@given(runs, st.integers(0, 3))
def test_steps_are_counted_without_drawing_them(run: Run, epoch: int) -> None:
    assert run.plan.steps_in(epoch) == sum(1 for _ in run.plan.global_batches(StreamPosition(epoch)))


@given(runs, st.data())
def test_the_steps_over_a_window_are_those_that_touch_it(run: Run, data: st.DataObject) -> None:
    plan = run.plan
    origin = data.draw(st.integers(0, run.rows - 1), label="samples behind")
    steps = list(plan.global_batches(StreamPosition(2, origin)))
    for window in plan.windows(2):
        if window.end > origin:
            touching = [step for step in steps if step.first < window.end and step.first + step.size > window.start]
            assert list(plan.global_batches_over(window, origin)) == touching


@given(runs)
def test_batches_keep_to_their_pixels(run: Run) -> None:
    """A batch takes at most its pixels when padded, unless one image does alone; and it is full: one more would not fit."""
    plan = run.plan
    for window in plan.windows(0):
        order = plan.order(window)
        for step in plan.global_batches_over(window, 0):
            if not run.rule.pixels:
                assert step.size == min(run.rule.samples, plan.rows - step.first)
                continue
            groups = window.groups[order[step.first - window.start :, 0]]
            area = padded_area(plan, groups[: step.size])
            assert step.size <= run.rule.samples
            assert area <= run.rule.pixels or step.size == 1
            assert area <= plan.max_batch_pixels()
            if step.size < min(run.rule.samples, len(groups)):
                assert padded_area(plan, groups[: step.size + 1]) > run.rule.pixels


def padded_area(plan: Plan, groups: np.ndarray) -> int:
    height, width = int(-(-plan.groups.height[groups].max() // 16) * 16), int(-(-plan.groups.width[groups].max() // 32) * 32)
    return len(groups) * height * width


@given(runs)
def test_bundles_are_of_one_size(run: Run) -> None:
    """Full bundles hold one padded size each, so that a batch of a bundle pads little."""
    plan = run.plan
    for window in plan.windows(0):
        groups = window.groups[plan.order(window)[:, 0]]
        sizes = [(int(-(-plan.groups.height[g] // 16)), int(-(-plan.groups.width[g] // 32))) for g in groups]
        lengths = {size: plan.rule.fitting(16 * 32 * size[0] * size[1]) if plan.rule.pixels else 64 for size in set(sizes)}
        whole = {size: count // lengths[size] for size, count in Counter(sizes).items()}
        first = 0
        while any(whole.values()):
            size = sizes[first]
            assert set(sizes[first : first + lengths[size]]) == {size}
            whole[size] -= 1
            first += lengths[size]


@given(st.integers(1, 500), st.integers(1, 9))
def test_every_rank_has_as_many_rows_padding_included(size: int, world_size: int) -> None:
    step = GlobalBatch(0, 10, size)
    shares = [step.share(rank, world_size) for rank in range(world_size)]
    assert shares[0][0] == 10 and shares[-1][1] == 10 + size
    assert all(one[1] == other[0] for one, other in itertools.pairwise(shares))
    assert step.rows_of_rank(world_size) * world_size - size < world_size, "more padding than the ranks need"


def test_ranks_may_outnumber_the_rows() -> None:
    assert [GlobalBatch(0, 0, 3).share(rank, 5) for rank in range(5)] == [(0, 1), (1, 2), (2, 3), (3, 3), (3, 3)]


def test_nothing_is_left_at_the_end_of_an_epoch() -> None:
    for rule in (BatchRule(4), BatchRule(4, 5000)):
        plan = Run((Shard("a", [Extent(10, 32)], 9, "a"),), 0, 1, rule).plan
        assert list(plan.global_batches(StreamPosition(0, 10))) == []


@given(runs, st.integers(1, 4))
def test_an_evaluation_goes_through_the_files_in_order(run: Run, world_size: int) -> None:
    """Ranks take row groups in turn; together they read every row once."""
    seen: list[Sample] = []
    for rank in range(world_size):
        plan = evaluation_plan(run.manifest, "train", rank, world_size, run.window, run.rule)
        order = epoch_order(plan, 0)
        assert order == sorted(order)
        assert sum(step.size for step in plan.global_batches(StreamPosition())) == len(order)
        assert plan.steps_in(0) == sum(1 for _ in plan.global_batches(StreamPosition()))
        seen += order
    assert sorted(seen) == sorted(epoch_order(run.plan, 0))


def test_row_groups_are_columns() -> None:
    split = Split([Shard("a", [Extent(3, 40, 20, 50), Extent(2, 60, 30, 70)], 120, "a"), Shard("b", [Extent(1, 9)], 10, "b")])
    groups = RowGroups.of(split, ImagePolicy(40, 64, fixed_height=False))
    assert [column.tolist() for column in (groups.shard, groups.index, groups.rows)] == [[0, 0, 1], [0, 1, 0], [3, 2, 1]]
    assert groups.height.tolist() == [32, 32, 48] and groups.width.tolist() == [64, 64, 32], "padded"
    assert groups.bytes.tolist() == [50, 70, 10]
    assert RowGroups.of(split, ImagePolicy(40, 64)).height.tolist() == [40, 40, 40], "as it is in every batch"
    part = groups.part(1, 2)
    assert len(part) == 1 and part.index.tolist() == [1] and part.width.tolist() == [64]
