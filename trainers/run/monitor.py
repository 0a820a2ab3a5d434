"""Reporter between the workers of a run on Ray and the driver that started it, through an actor."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainers.engine.events import Event
from trainers.engine.reporter import ControlRequests

HEARTBEAT_S = 1.0


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life of a rank: how many phases it has entered, which one it is in and its progress there, where it runs."""

    rank: int
    phases: int
    beats: int
    phase: str
    pid: int
    node_id: str
    host: str


class Monitor:
    """Actor that holds events until the driver has them. It runs beside the driver, so that no lost machine takes them along.

    Events are numbered, from a number that grows from one start of the actor to the next.
    """

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._first = time.time_ns()  # number of the first event that is held
        self._heartbeats: dict[int, Heartbeat] = {}
        self._stop, self._checkpoints = False, 0

    def report(self, events: list[Event], heartbeat: Heartbeat) -> tuple[bool, int]:
        """Take a worker's events; returns whether the run is to stop, and how many checkpoints were requested."""
        self._events += events
        self._heartbeats[heartbeat.rank] = heartbeat
        return self._stop, self._checkpoints

    def started(self, world_size: int) -> None:
        """A group of so many workers begins: heartbeats of ranks that it does not have are forgotten."""
        self._heartbeats = {rank: heartbeat for rank, heartbeat in self._heartbeats.items() if rank < world_size}

    def fetch(self, taken: int) -> tuple[list[Event], int, dict[int, Heartbeat]]:
        """Forget the events before number `taken`, which the driver has; an answer that is lost on its way is given again.

        Returns:
            The events that are left, what `taken` is after them, and the last heartbeat of each rank.
        """
        had = max(0, taken - self._first)  # none of those of this actor where an earlier one gave them
        self._events, self._first = self._events[had:], self._first + had
        return self._events, self._first + len(self._events), self._heartbeats

    def stop(self) -> None:
        """Ask the workers to write a checkpoint and end."""
        self._stop = True

    def checkpoint(self) -> None:
        """Ask the workers to write a checkpoint now."""
        self._checkpoints += 1


def start_monitor() -> Any:
    """A monitor as an actor on this machine; it takes no CPU, and restarts if it is lost."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Monitor).remote()


class ActorReporter:
    """Reporter of a worker on Ray. A thread sends: training never waits for the actor, and a rank that hangs still reports."""

    def __init__(self, monitor: Any, rank: int) -> None:
        self._monitor = monitor
        node_id = ray.get_runtime_context().get_node_id()
        self._heartbeat = Heartbeat(rank, 0, 0, "starting", os.getpid(), node_id, socket.gethostname())
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._wake, self._lock = threading.Event(), threading.Lock()
        self._sent = self._emitted = 0
        self._stop, self._requested, self._served = False, 0, 0
        threading.Thread(target=self._work, name="inkray-reporter", daemon=True).start()

    def emit(self, event: Event) -> None:
        """Send an event."""
        with self._lock:  # the thread that writes checkpoints emits, too
            self._emitted += 1
            self._events.put(event)
        self._wake.set()

    def enter_phase(self, phase: str) -> None:
        """Report what the worker does now."""
        self._heartbeat = replace(self._heartbeat, phases=self._heartbeat.phases + 1, phase=phase)

    def heartbeat(self) -> None:
        """Report progress in the phase."""
        self._heartbeat = replace(self._heartbeat, beats=self._heartbeat.beats + 1)

    def requests(self) -> ControlRequests:
        """The driver's requests, as far as they are known."""
        requested = self._requested
        requests = ControlRequests(self._stop, requested > self._served)
        self._served = requested
        return requests

    def flush(self, timeout_s: float = 10) -> None:
        """Wait until what this rank has emitted has arrived, but no longer than that."""
        deadline = time.monotonic() + timeout_s
        self._wake.set()
        while self._sent < self._emitted and time.monotonic() < deadline:
            time.sleep(0.01)

    def end(self) -> None:
        """Wait until what this rank has emitted has arrived: it does not wait for others."""
        self.flush()

    def _work(self) -> None:
        known = None  # checkpoints that were requested before this worker began are no request to it
        events: list[Event] = []  # not known to have arrived
        while True:
            self._wake.wait(HEARTBEAT_S)
            self._wake.clear()
            if not ray.is_initialized():  # the call would start a session of its own
                return
            while not self._events.empty():
                events.append(self._events.get())
            try:
                self._stop, requested = ray.get(self._monitor.report.remote(events, self._heartbeat))
            except ray.exceptions.RayError:
                continue  # the monitor is being restarted and has forgotten them: all are sent again
            self._sent += len(events)
            events = []
            known = requested if known is None else min(known, requested)
            self._requested = requested - known
