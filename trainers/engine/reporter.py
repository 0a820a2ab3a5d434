"""Interface between a training worker and the driver: emits events, receives stop and checkpoint requests."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from trainers.engine.events import Event


class ControlRequests(NamedTuple):
    """Requests of the driver: stop after this step; write a checkpoint now."""

    stop: bool = False
    checkpoint: bool = False


class Reporter(Protocol):
    """A worker's end of the interface; none of its methods waits for the driver, save `flush` and `end`."""

    def emit(self, event: Event) -> None:
        """Send an event."""

    def enter_phase(self, phase: str) -> None:
        """Report what the worker does now. All ranks enter the same phases, so a rank that hangs is behind the others."""

    def heartbeat(self) -> None:
        """Report that the phase makes progress."""

    def requests(self) -> ControlRequests:
        """The driver's requests, as far as they are known. A request for a checkpoint is returned once."""

    def flush(self) -> None:
        """Wait until the events of this rank so far have arrived. A checkpoint is written behind the metrics before it."""

    def end(self) -> None:
        """Wait until all events of the run have arrived, at its end."""
