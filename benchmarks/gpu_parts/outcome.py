"""Outcome of a check or a measurement: what passed and what did not, as a table."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["passed", "skipped", "FAILED", "BROKEN", "OUT OF TIME"]
GOOD: tuple[Status, ...] = ("passed", "skipped")


class Failed(AssertionError):
    """A check found something wrong."""


class Skipped(Exception):
    """A check cannot be made on this machine."""


class OutOfTime(BaseException):
    """The time limit of a part has passed."""


def require(good: bool, reading: str) -> None:
    """Raises Failed with what was read, unless it is `good`."""
    if not good:
        raise Failed(reading)


@dataclass(frozen=True)
class Outcome:
    """`reading`: what was measured, in words."""

    name: str
    status: Status
    reading: str
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)

    def line(self) -> str:
        """A line for the log."""
        return f"[{self.status}, {self.seconds:.1f} s] {self.name}: {self.reading}"


def outcome_of(name: str, check: Callable[[], str]) -> Outcome:
    """The outcome of `check`, which returns its reading; whatever it raises is an outcome, too."""
    started = time.perf_counter()
    status: Status = "passed"
    try:
        reading = check()
    except Skipped as reason:
        status, reading = "skipped", str(reason)
    except Failed as reason:
        status, reading = "FAILED", str(reason)
    except OutOfTime:
        status, reading = "OUT OF TIME", ""
    except Exception as error:
        traceback.print_exc()
        status, reading = "BROKEN", f"{type(error).__name__}: {str(error)[:400]}"
    return Outcome(name, status, reading, round(time.perf_counter() - started, 1))


def table(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table."""
    lines = ["| check | result | s | reading |", "|---|---|---|---|"]
    for outcome in outcomes:
        reading = outcome.reading.replace("\n", "; ").replace("|", "/")
        lines.append(f"| {outcome.name} | {outcome.status} | {outcome.seconds:.1f} | {reading} |")
    return "\n".join(lines)
