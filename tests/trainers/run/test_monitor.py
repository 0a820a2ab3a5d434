"""What the driver is told: every event once, whatever is lost on the way."""

from __future__ import annotations

import threading

import pytest
import ray

from trainers.engine.events import Note
from trainers.run.monitor import ActorReporter, Heartbeat, Monitor, start_monitor

HEARTBEAT = Heartbeat(0, 0, 0, "starting", 1, "node", "host")


def test_an_answer_that_is_lost_is_given_again() -> None:
    monitor = Monitor()
    monitor.report([Note("a"), Note("b")], HEARTBEAT)
    events, taken, heartbeats = monitor.fetch(0)
    assert events == [Note("a"), Note("b")] and heartbeats == {0: HEARTBEAT}
    monitor.report([Note("c")], HEARTBEAT)
    assert monitor.fetch(0)[0] == [Note("a"), Note("b"), Note("c")], "the driver has not said that it has any"
    events, after, _ = monitor.fetch(taken)
    assert events == [Note("c")]
    assert monitor.fetch(after)[:2] == ([], after)


def test_one_that_is_started_again_gives_all_that_it_is_told() -> None:
    before = Monitor()
    before.report([Note("a")], HEARTBEAT)
    taken = before.fetch(0)[1]
    again = Monitor()
    again.report([Note("b")], HEARTBEAT)
    assert again.fetch(taken)[0] == [Note("b")]


def test_after_a_flush_the_monitor_has_all_and_with_the_session_the_thread_ends(
    ray_cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(threading.enumerate())
    monitor = start_monitor()
    reporter = ActorReporter(monitor, 0)
    for number in range(5):
        reporter.emit(Note(str(number)))
    reporter.flush()
    assert ray.get(monitor.fetch.remote(0))[0] == [Note(str(number)) for number in range(5)]
    (thread,) = [one for one in set(threading.enumerate()) - before if one.name == "inkray-reporter"]
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    thread.join(60)
    assert not thread.is_alive(), "it would start a session of its own"
