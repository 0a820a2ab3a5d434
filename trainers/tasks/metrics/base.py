"""Metrics as sums and counts: they add up over batches, ranks and files, and are divided once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from cluster.sums import Sums
from trainers.config.criterion import Direction, Directions

OTHER = "other"  # the sources of a split that are not reported apart


@dataclass
class Metrics(Sums):
    """Sums over `count` predictions, and the number of rows whose image could not be decoded."""

    count: int = 0
    rejected: int = 0

    def add(self, prediction: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        """Count one prediction beside the dataset's columns that hold its truth."""
        raise NotImplementedError

    def averages(self) -> dict[str, float]:
        """The metrics; over no prediction at all they are NaN."""
        raise NotImplementedError


def reported_groups(rows: Mapping[str, int], limit: int) -> tuple[str, ...]:
    """The sources of a split that get metrics of their own, from the number of `rows` of each.

    Those are all if there are `limit` of them at most, else the `limit` with the most rows (of equals the first by name), and
    OTHER for the rest together. The choice follows from the dataset alone, so that the metrics of its runs compare. A split of
    one source has no groups; rows without a source count for the whole only.
    """
    sources = sorted((name for name in rows if name), key=lambda name: (-rows[name], name))
    if len(sources) < 2 or limit < 1:
        return ()
    if len(sources) <= limit:
        return tuple(sorted(sources))
    return (*sorted([name for name in sources if name != OTHER][:limit]), OTHER)


def reported_metrics(directions: Directions, prefix: str, groups: Sequence[str]) -> dict[str, Direction]:
    """All metrics of `GroupedMetrics.averages(prefix)` that weights can be compared by: names and directions."""
    whole = {f"{prefix}/{name}": direction for name, direction in directions.items()}
    return whole | {
        f"{prefix}/{group}/{name}": direction for group in groups for name, direction in directions.items() if name != "loss"
    }


class GroupedMetrics:
    """Metrics of everything and of each group of rows (printed, handwritten) apart, and the loss of the whole.

    `groups` are those of `reported_groups`; without them each source that comes is one.
    """

    def __init__(self, new: Callable[[], Metrics], groups: Sequence[str] | None = None) -> None:
        self._new = new
        self._names = None if groups is None else frozenset(groups)
        self.total = new()
        self.groups: dict[str, Metrics] = {name: new() for name in groups or ()}
        self.loss_sum = 0.0
        self.loss_count = 0

    def _of(self, group: str) -> Iterable[Metrics]:
        """The sums that a sample of `group` counts into."""
        yield self.total
        if self._names is not None:
            group = group if group in self._names or not group else OTHER
            if group not in self._names:
                return
        if group:
            yield self.groups.setdefault(group, self._new())

    def add(self, prediction: Mapping[str, Any], target: Mapping[str, Any], group: str = "") -> None:
        """Count one prediction."""
        for metrics in self._of(group):
            metrics.add(prediction, target)

    def add_loss(self, loss_sum: float, count: int) -> None:
        """Count the loss of a batch, summed over `count` targets."""
        self.loss_sum += loss_sum
        self.loss_count += count

    def reject(self, group: str = "") -> None:
        """Count one row whose image could not be decoded."""
        for metrics in self._of(group):
            metrics.rejected += 1

    def __iadd__(self, other: GroupedMetrics) -> Self:
        self.total += other.total
        for name, metrics in other.groups.items():
            self.groups[name] = self.groups.get(name, self._new()) + metrics
        self.add_loss(other.loss_sum, other.loss_count)
        return self

    @property
    def seen(self) -> int:
        """Rows that were counted or rejected."""
        return self.total.count + self.total.rejected

    def averages(self, prefix: str) -> dict[str, float]:
        """Flat metrics: `val/wer`, and `val/printed/wer` where there is more than one group."""
        return {f"{prefix}/{key}": value for key, value in self.whole().items()} | {
            f"{prefix}/{name}/{key}": value for name, part in self.parts().items() for key, value in part.items()
        }

    def whole(self) -> dict[str, float]:
        """The metrics of all rows, and their loss where it was counted."""
        # The last bits of a sum of floats differ by the order of what is added, those of logits by the size of a batch.
        loss = {"loss": float(f"{self.loss_sum / self.loss_count:.6g}")} if self.loss_count else {}
        return self.total.averages() | loss

    def parts(self) -> dict[str, dict[str, float]]:
        """The metrics of each group, by name; none where there are fewer than two."""
        return {name: part.averages() for name, part in sorted(self.groups.items())} if len(self.groups) > 1 else {}
