"""Hang detection: ranks that make no progress are found by their phases and killed; Ray then restarts the workers."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainers.run.monitor import Heartbeat


class HangDetector:
    """Compares the heartbeats of all ranks. When none has made progress for `timeout_s`, those that have entered the fewest
    phases hang: the others wait for them in a collective.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s, self._clock = timeout_s, clock
        self.restart()

    def restart(self) -> None:
        """Forget the workers of before: new ones start."""
        self._seen: dict[int, tuple[int, int, int]] = {}
        self._moved = self._clock()

    def hanging(self, heartbeats: dict[int, Heartbeat]) -> list[Heartbeat]:
        """The ranks that hang now; none while any rank makes progress. The clock then restarts, to leave time to react."""
        seen = {rank: (heartbeat.pid, heartbeat.phases, heartbeat.beats) for rank, heartbeat in heartbeats.items()}
        if seen != self._seen:
            self._seen, self._moved = seen, self._clock()
        if not heartbeats or not self._timeout_s or self._clock() - self._moved <= self._timeout_s:
            return []
        self._moved = self._clock()
        fewest = min(heartbeat.phases for heartbeat in heartbeats.values())
        return [heartbeat for heartbeat in heartbeats.values() if heartbeat.phases == fewest]


def kill_worker(heartbeat: Heartbeat) -> bool:
    """Kill the process of a rank, on whichever machine it is; whether it was there."""
    node = NodeAffinitySchedulingStrategy(heartbeat.node_id, soft=False)
    kill = ray.remote(num_cpus=0, max_retries=0)(_kill).options(scheduling_strategy=node)
    try:
        return bool(ray.get(kill.remote(heartbeat.pid), timeout=60))
    except ray.exceptions.RayError:
        return False  # the machine is gone, and the worker with it


def _kill(pid: int) -> bool:
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):  # not a process that has taken its number since
            os.kill(pid, signal.SIGKILL)
            return True
    return False
