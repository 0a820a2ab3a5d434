"""The line between the workers of a run and the command that started it: events come this way, a wish to stop goes back."""

from __future__ import annotations

import time
from typing import Any

import ray


class Monitor:
    """Holds events until the command fetches them. It keeps no other state, so losing it loses some log lines at most."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._stop = False

    def push(self, event: dict[str, Any]) -> bool:
        """Take an event from a worker; the answer says whether the run is to stop."""
        self._events.append(event)
        return self._stop

    def drain(self) -> list[dict[str, Any]]:
        """Hand over the events since the last call."""
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """Ask the workers to write a checkpoint and end."""
        self._stop = True


def start_monitor() -> Any:
    """A monitor as an actor; it takes no CPU, and starts anew if it is lost."""
    return ray.remote(num_cpus=0, max_restarts=-1)(Monitor).remote()


class MonitorLine:
    """A worker's end: pushes without waiting, and learns from the answers, whenever they come, whether to stop."""

    def __init__(self, monitor: Any, poll_s: float = 0.5) -> None:
        self._monitor, self._poll_s = monitor, poll_s
        self._answers: list[Any] = []
        self._last = 0.0
        self.stop_requested = False

    def push(self, kind: str, **content: Any) -> None:
        """Send an event."""
        self._answers.append(self._monitor.push.remote({"kind": kind, **content}))

    def poll(self) -> bool:
        """Whether the run is to stop, as far as is known; asks again every `poll_s` seconds, never waits."""
        if time.monotonic() - self._last > self._poll_s:
            self._last = time.monotonic()
            self.push("alive")
        ready, self._answers = ray.wait(self._answers, num_returns=len(self._answers), timeout=0) if self._answers else ([], [])
        for answer in ready:
            try:
                self.stop_requested |= bool(ray.get(answer))
            except ray.exceptions.RayError:
                continue  # the monitor is being restarted
        return self.stop_requested

    def flush(self, timeout_s: float = 10) -> None:
        """Wait until what was pushed has arrived."""
        if self._answers:
            ray.wait(self._answers, num_returns=len(self._answers), timeout=timeout_s)
