"""A reporter that keeps what it is given."""

from __future__ import annotations

from trainers.engine.events import Event
from trainers.engine.reporter import ControlRequests


class RecordingReporter:
    """Reporter without a driver: keeps the events, requests nothing."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def enter_phase(self, phase: str) -> None: ...

    def heartbeat(self) -> None: ...

    def requests(self) -> ControlRequests:
        return ControlRequests()

    def flush(self) -> None: ...

    def end(self) -> None: ...
