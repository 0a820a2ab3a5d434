"""The section `report`: the page that a run ends with."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.config.rules import broken, minimums


@dataclass
class ReportConfig:
    """The report at the end of a run: a page with curves, tables and images."""

    enabled: bool = True  # whether a report is written
    examples: int = 48  # images of the test split that it shows with what was read in them

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken(*minimums("report", self, examples=0))
