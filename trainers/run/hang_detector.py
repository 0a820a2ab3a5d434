"""Ranks that hang: found by their marks, named, ended; Ray then starts the workers anew from the last checkpoint."""

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
    """Looks at the beats of all ranks. When none has gone on for `timeout_s`, those that have passed the fewest marks hang:
    the others wait for them in a collective.
    """

    def __init__(self, timeout_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout_s, self._clock = timeout_s, clock
        self.restart()

    def restart(self) -> None:
        """The workers start anew: what was seen of the ones before is forgotten."""
        self._seen: dict[int, tuple[int, int, int]] = {}
        self._moved = self._clock()

    def hanging(self, beats: dict[int, Heartbeat]) -> list[Heartbeat]:
        """The ranks that hang now; none while any rank goes on. The clock then starts again, for what is done about it."""
        seen = {rank: (beat.pid, beat.count, beat.breaths) for rank, beat in beats.items()}
        if seen != self._seen:
            self._seen, self._moved = seen, self._clock()
        if not beats or not self._timeout_s or self._clock() - self._moved <= self._timeout_s:
            return []
        self._moved = self._clock()
        least = min(beat.count for beat in beats.values())
        return [beat for beat in beats.values() if beat.count == least]


def kill_worker(beat: Heartbeat) -> bool:
    """Kill the process of a rank, on whichever machine it is; whether it was there. One that is stopped or stuck dies, too."""
    node = NodeAffinitySchedulingStrategy(beat.node_id, soft=False)
    kill = ray.remote(num_cpus=0, max_retries=0)(_kill).options(scheduling_strategy=node)
    try:
        return bool(ray.get(kill.remote(beat.pid), timeout=60))
    except ray.exceptions.RayError:
        return False  # the machine is gone, and the worker with it


def _kill(pid: int) -> bool:
    with contextlib.suppress(OSError):
        if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::"):  # not a process that has taken its number since
            os.kill(pid, signal.SIGKILL)
            return True
    return False
