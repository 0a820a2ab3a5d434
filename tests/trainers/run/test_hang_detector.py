"""The rank that hangs is the one that has entered the fewest phases when none makes progress."""

from __future__ import annotations

from dataclasses import replace

from trainers.run.hang_detector import HangDetector
from trainers.run.monitor import Heartbeat, Monitor


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def beats(*counts: int) -> dict[int, Heartbeat]:
    return {rank: Heartbeat(rank, count, 0, "forward pass", 100 + rank, "node", "host") for rank, count in enumerate(counts)}


def test_ranks_that_wait_for_another_are_not_blamed() -> None:
    clock = Clock()
    watch = HangDetector(60, clock)
    assert watch.hanging(beats(7, 7, 6)) == []
    clock.now = 59
    assert watch.hanging(beats(7, 7, 6)) == []
    clock.now = 61
    assert [heartbeat.rank for heartbeat in watch.hanging(beats(7, 7, 6))] == [2]
    assert watch.hanging(beats(7, 7, 6)) == [], "it has just been dealt with"
    clock.now = 122
    assert [heartbeat.rank for heartbeat in watch.hanging(beats(7, 7, 6))] == [2], "it was not ended, or its successor hangs"


def test_nobody_hangs_while_any_rank_makes_progress() -> None:
    clock = Clock()
    watch = HangDetector(60, clock)
    for second in range(0, 600, 30):
        clock.now = second
        progress = beats(7, 6)
        progress[1] = replace(progress[1], beats=second)  # a long evaluation: no phase, but heartbeats
        assert watch.hanging(progress) == []


def test_workers_that_restart_have_their_time() -> None:
    clock = Clock()
    watch = HangDetector(60, clock)
    watch.hanging(beats(7, 6))
    clock.now = 61
    watch.restart()
    assert watch.hanging(beats(7, 6)) == []
    clock.now = 100
    assert watch.hanging(beats(1, 1)) == []
    assert HangDetector(0, clock).hanging(beats(1, 1)) == []


def test_a_rank_that_the_group_no_longer_has_is_not_blamed() -> None:
    monitor, clock = Monitor(), Clock()
    for heartbeat in beats(9, 9, 5).values():
        monitor.report([], heartbeat)
    monitor.started(2)
    for heartbeat in beats(20, 19).values():
        monitor.report([], heartbeat)
    watch = HangDetector(60, clock)
    watch.hanging(monitor.fetch(0)[2])
    clock.now = 61
    assert [heartbeat.rank for heartbeat in watch.hanging(monitor.fetch(0)[2])] == [1]
