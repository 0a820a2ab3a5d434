"""The line between the workers of a run on Ray and the command that started it, through an actor."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import ray

from trainers.engine.reporter import ControlRequests

BEAT_S = 1.0


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life of a rank: how many marks it has passed, what it does, where. `breaths` counts the signs in between."""

    rank: int
    count: int
    breaths: int
    doing: str
    pid: int
    node_id: str
    host: str


class Monitor:
    """Holds events until the command fetches them. It keeps no other state, so losing it loses some log lines at most."""

    def __init__(self) -> None:
        self._events: list[dict[str, Any]] = []
        self._beats: dict[int, Heartbeat] = {}
        self._stop, self._checkpoints = False, 0

    def tell(self, events: list[dict[str, Any]], beat: Heartbeat) -> tuple[bool, int]:
        """Take what a worker has to say; the answer: whether the run is to stop, how many checkpoints were wished for."""
        self._events += events
        self._beats[beat.rank] = beat
        return self._stop, self._checkpoints

    def started(self, world_size: int) -> None:
        """A group of so many workers begins: beats of ranks that it does not have are forgotten."""
        self._beats = {rank: beat for rank, beat in self._beats.items() if rank < world_size}

    def drain(self) -> tuple[list[dict[str, Any]], dict[int, Heartbeat]]:
        """Hand over the events since the last call, and the last beat of each rank."""
        events, self._events = self._events, []
        return events, self._beats

    def stop(self) -> None:
        """Ask the workers to write a checkpoint and end."""
        self._stop = True

    def checkpoint(self) -> None:
        """Ask the workers to write a checkpoint now."""
        self._checkpoints += 1


def start_monitor() -> Any:
    """A monitor as an actor; it takes no CPU, and starts anew if it is lost."""
    return ray.remote(num_cpus=0, max_restarts=-1)(Monitor).remote()


class ActorReporter:
    """A worker's end. A thread sends: training never waits for the actor, and a rank that is stuck still has a pulse."""

    def __init__(self, monitor: Any, rank: int) -> None:
        self._monitor = monitor
        node_id = ray.get_runtime_context().get_node_id()
        self._beat = Heartbeat(rank, 0, 0, "starting", os.getpid(), node_id, socket.gethostname())
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._wake, self._lock = threading.Event(), threading.Lock()
        self._sent = self._pushed = 0
        self._stop, self._wished, self._served = False, 0, 0
        threading.Thread(target=self._work, name="inkray-line", daemon=True).start()

    def push(self, kind: str, **content: Any) -> None:
        """Send an event."""
        with self._lock:  # checkpoints are told of by a thread of their own
            self._pushed += 1
            self._events.put({"kind": kind, **content})
        self._wake.set()

    def mark(self, doing: str) -> None:
        """Say what is done now."""
        self._beat = replace(self._beat, count=self._beat.count + 1, doing=doing)

    def breathe(self) -> None:
        """Say that it goes on."""
        self._beat = replace(self._beat, breaths=self._beat.breaths + 1)

    def poll(self) -> ControlRequests:
        """What is wanted, as far as is known."""
        wished = self._wished
        wishes = ControlRequests(self._stop, wished > self._served)
        self._served = wished
        return wishes

    def flush(self, timeout_s: float = 10) -> None:
        """Wait until what was pushed has arrived."""
        deadline = time.monotonic() + timeout_s
        self._wake.set()
        while self._sent < self._pushed and time.monotonic() < deadline:
            time.sleep(0.01)

    def _work(self) -> None:
        known = None  # checkpoints that were wished for before this worker began are no wish to it
        events: list[dict[str, Any]] = []  # not known to have arrived
        while True:
            self._wake.wait(BEAT_S)
            self._wake.clear()
            while not self._events.empty():
                events.append(self._events.get())
            try:
                self._stop, wished = ray.get(self._monitor.tell.remote(events, self._beat), timeout=60)
            except ray.exceptions.RayError:
                continue  # the monitor is being restarted: it has forgotten; all is told again
            self._sent += len(events)
            events = []
            known = wished if known is None else min(known, wished)
            self._wished = wished - known
