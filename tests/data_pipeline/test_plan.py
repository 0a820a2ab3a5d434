"""The order of a run: what holds for every dataset, seed, batch size and number of workers."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.manifest import RowGroup
from data_pipeline.stream.plan import Share, epoch_windows, sequential_rows, sequential_windows, window_rows

Sample = tuple[str, int, int]  # shard, row group, row


@dataclass(frozen=True)
class Run:
    """What decides the order, and how it is cut."""

    groups: list[RowGroup]
    seed: int
    window: int
    global_batch_size: int

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.groups)


@st.composite
def runs(draw: st.DrawFn) -> Run:
    sizes = draw(st.lists(st.tuples(st.integers(1, 90), st.integers(1, 300)), min_size=1, max_size=9))
    groups = [RowGroup(f"part-{i % 3}.parquet", i // 3, rows, width) for i, (rows, width) in enumerate(sizes)]
    return Run(groups, draw(st.integers(0, 2**31)), draw(st.integers(1, 12)), draw(st.integers(1, 40)))


def epoch_order(run: Run, epoch: int) -> list[Sample]:
    order = []
    for window in epoch_windows(run.groups, run.seed, epoch, run.window):
        for place, row in window_rows(window, run.seed):
            group = window.row_groups[place]
            order.append((group.file, group.index, int(row)))
    return order


def rank_steps(run: Run, epoch: int, start: int, world_size: int, rank: int) -> list[list[Sample]]:
    """What a rank reads, step by step, put together the way the stream does it: `mine` of each window, then `batch_rows`."""
    share = Share(run.rows, start, run.global_batch_size, world_size, rank)
    mine: list[Sample] = []
    for window in epoch_windows(run.groups, run.seed, epoch, run.window):
        if share.touches(window):
            rows = window_rows(window, run.seed)
            for place, row in rows[share.mine(window.start + np.arange(len(rows)))]:
                group = window.row_groups[place]
                mine.append((group.file, group.index, int(row)))
    waiting = iter(mine)
    steps = [list(itertools.islice(waiting, share.batch_rows(step)[2])) for step in range(share.steps)]
    assert next(waiting, None) is None, "a row that no step takes"
    return steps


def global_steps(run: Run, epoch: int, start: int, world_size: int) -> list[list[Sample]]:
    ranks = [rank_steps(run, epoch, start, world_size, rank) for rank in range(world_size)]
    assert len({len(steps) for steps in ranks}) == 1, "ranks with another number of steps"
    return [[sample for steps in ranks for sample in steps[step]] for step in range(len(ranks[0]))]


@given(runs(), st.integers(0, 1000))
def test_an_epoch_holds_each_row_exactly_once(run: Run, epoch: int) -> None:
    order = epoch_order(run, epoch)
    assert len(order) == run.rows
    assert set(order) == {(group.file, group.index, row) for group in run.groups for row in range(group.rows)}


@given(runs(), st.integers(0, 1000))
def test_windows_follow_each_other_without_a_gap(run: Run, epoch: int) -> None:
    windows = epoch_windows(run.groups, run.seed, epoch, run.window)
    starts = [0, *itertools.accumulate(window.rows for window in windows)]
    assert [window.start for window in windows] == starts[:-1]
    assert all(len(window.row_groups) <= run.window for window in windows)


@given(runs(), st.integers(0, 1000))
def test_the_order_follows_from_seed_epoch_and_window_alone(run: Run, epoch: int) -> None:
    np.random.seed(1)
    first = epoch_order(run, epoch)
    np.random.seed(2)
    assert epoch_order(Run(list(run.groups), run.seed, run.window, run.global_batch_size), epoch) == first


@given(st.integers(0, 2**31), st.integers(0, 1000), st.integers(1, 6))
def test_epochs_and_seeds_differ_in_their_order(seed: int, epoch: int, window: int) -> None:
    groups = [RowGroup("a.parquet", index, 30, 64) for index in range(4)]
    run, other = Run(groups, seed, window, 8), Run(groups, seed + 1, window, 8)
    assert epoch_order(run, epoch) != epoch_order(run, epoch + 1)
    assert epoch_order(run, epoch) != epoch_order(other, epoch)
    assert epoch_order(run, epoch) != sorted(epoch_order(run, epoch))


@given(runs(), st.integers(0, 3), st.integers(1, 7))
def test_any_number_of_ranks_reads_the_order_of_one(run: Run, epoch: int, world_size: int) -> None:
    alone = global_steps(run, epoch, 0, 1)
    assert global_steps(run, epoch, 0, world_size) == alone
    assert [sample for step in alone for sample in step] == epoch_order(run, epoch)


@given(runs(), st.integers(0, 3), st.integers(1, 5), st.data())
def test_a_resumed_run_reads_exactly_what_was_left(run: Run, epoch: int, world_size: int, data: st.DataObject) -> None:
    steps = -(-run.rows // run.global_batch_size)
    done = data.draw(st.integers(0, steps - 1), label="steps behind") * run.global_batch_size
    resumed = [sample for step in global_steps(run, epoch, done, world_size) for sample in step]
    assert resumed == epoch_order(run, epoch)[done:]


@given(runs(), st.data(), st.integers(1, 5))
def test_it_may_resume_between_two_batches_with_another_batch_size(run: Run, data: st.DataObject, world_size: int) -> None:
    done = data.draw(st.integers(0, run.rows), label="samples behind")
    resumed = [sample for step in global_steps(run, 0, done, world_size) for sample in step]
    assert resumed == epoch_order(run, 0)[done:]


@given(st.integers(1, 500), st.integers(1, 64), st.integers(1, 9), st.data())
def test_every_rank_steps_alike_and_the_last_batch_is_short(total: int, size: int, world: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, total - 1))
    shares = [Share(total, start, size, world, rank) for rank in range(world)]
    assert len({share.steps for share in shares}) == 1
    for step in range(shares[0].steps):
        rows = [share.batch_rows(step) for share in shares]
        assert len({(whole, padded) for whole, padded, _ in rows}) == 1
        whole, padded, _ = rows[0]
        assert sum(real for *_, real in rows) == whole
        assert all(0 <= real <= padded for *_, real in rows)
        assert padded * world - whole < world, "more padding than the ranks need"
        assert whole == (size if step < shares[0].steps - 1 else (total - start - 1) % size + 1)


def test_a_rank_may_have_no_row_in_the_last_batch() -> None:
    run = Run([RowGroup("a.parquet", 0, 9, 32)], seed=0, window=1, global_batch_size=4)
    last = [rank_steps(run, 0, 0, 4, rank)[-1] for rank in range(4)]
    assert [len(rows) for rows in last] == [1, 0, 0, 0]
    assert Share(9, 0, 4, 4, 3).batch_rows(2) == (1, 1, 0)


def test_ranks_may_outnumber_the_rows() -> None:
    run = Run([RowGroup("a.parquet", 0, 3, 32)], seed=0, window=1, global_batch_size=8)
    assert global_steps(run, 0, 0, 5) == [epoch_order(run, 0)]


def test_nothing_is_left_at_the_end_of_an_epoch() -> None:
    share = Share(total=10, start=10, global_batch_size=4, world_size=2, rank=1)
    assert share.steps == 0
    assert not any(share.touches(window) for window in epoch_windows([RowGroup("a.parquet", 0, 10, 32)], 0, 0, 1))


@given(runs())
def test_bundles_are_of_similar_width(run: Run) -> None:
    """Full bundles hold one width class each, so that a batch of a bundle pads by less than a class."""
    for window in epoch_windows(run.groups, run.seed, 0, run.window):
        classes = [-(-window.row_groups[place].width // 32) for place, _ in window_rows(window, run.seed)]
        whole = sum(classes.count(width) // 64 for width in set(classes))
        assert all(len(set(classes[64 * bundle : 64 * bundle + 64])) == 1 for bundle in range(whole))


@given(runs())
def test_an_evaluation_goes_through_the_files_in_order(run: Run) -> None:
    groups = sorted(run.groups, key=lambda group: (group.file, group.index))
    read = []
    for window in sequential_windows(groups, run.window):
        for place, row in sequential_rows(window):
            read.append((window.row_groups[place].file, window.row_groups[place].index, int(row)))
    assert read == [(group.file, group.index, row) for group in groups for row in range(group.rows)]
