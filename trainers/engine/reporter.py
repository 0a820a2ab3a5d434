"""The line between a worker and whoever watches the run: events go there, wishes come back."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class ControlRequests(NamedTuple):
    """What the one who watches wants: that the run stops after this step; that a checkpoint is written now."""

    stop: bool = False
    checkpoint: bool = False


class Reporter(Protocol):
    """A worker's end."""

    def push(self, kind: str, **content: Any) -> None:
        """Send an event; never waits."""

    def mark(self, doing: str) -> None:
        """Say what is done now. All ranks pass the same marks, so the one that hangs is the one that has passed the fewest."""

    def breathe(self) -> None:
        """Say that what was marked last goes on."""

    def poll(self) -> ControlRequests:
        """What is wanted, as far as is known; never waits. A wish for a checkpoint is told once."""

    def flush(self) -> None:
        """Wait until what was pushed has arrived."""
