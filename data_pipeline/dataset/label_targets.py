"""Targets of datasets with labels: names of classes as indices (one class a head) or as 0 and 1 (any number of classes)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.targets import UnusableTarget


def _position(column: str, positions: Mapping[str, int], name: Any) -> int:
    """The index of a class.

    Raises:
        UnusableTarget: the row has no label there.
        UserError: the label is none of the classes.
    """
    if name is None:
        raise UnusableTarget(f"no label in column '{column}'")
    if name not in positions:
        raise UserError(
            f"A row has '{printable(str(name))}' in column '{column}', which is none of its {len(positions)} classes: "
            f"{printable(', '.join(list(positions)[:20]))}{', ...' if len(positions) > 20 else ''}. Prepare the dataset again."
        )
    return positions[name]


@dataclass(frozen=True)
class ClassTargets:
    """Encodes one class per head: {head: int64 (B,)}, by the column of the same name; a blank row has class 0.

    `classes` are the names of each head's classes in the order of the network's outputs.
    """

    classes: Mapping[str, tuple[str, ...]]
    _positions: dict[str, dict[str, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        positions = {head: {name: index for index, name in enumerate(names)} for head, names in self.classes.items()}
        object.__setattr__(self, "_positions", positions)

    @property
    def columns(self) -> tuple[str, ...]:
        """One column per head."""
        return tuple(self.classes)

    def encode(self, row: Mapping[str, Any]) -> tuple[int, ...]:
        """The index of the class of each head.

        Raises:
            UnusableTarget: a label is missing.
            UserError: a label is none of the classes.
        """
        return tuple(_position(head, positions, row[head]) for head, positions in self._positions.items())

    def collate(self, targets: Sequence[Any | None], size: int) -> dict[str, np.ndarray]:
        """Stack the indices of `size` rows."""
        indices = np.zeros((size, len(self.classes)), np.int64)
        for row, target in zip(indices, targets, strict=False):
            if target is not None:
                row[:] = target
        return {head: np.ascontiguousarray(indices[:, number]) for number, head in enumerate(self.classes)}

    def concat(self, parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Concatenate parts of a batch."""
        return {head: np.concatenate([part[head] for part in parts]) for head in self.classes}


@dataclass(frozen=True)
class LabelTargets:
    """Encodes sets of classes: {column: float32 (B, K)} of 0 and 1; a blank row has none."""

    column: str
    classes: tuple[str, ...]
    _positions: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_positions", {name: index for index, name in enumerate(self.classes)})

    @property
    def columns(self) -> tuple[str, ...]:
        """The column that holds the names of the classes that are present."""
        return (self.column,)

    def encode(self, row: Mapping[str, Any]) -> list[int]:
        """The indices of the classes that are present.

        Raises:
            UnusableTarget: there is no list.
            UserError: a label is none of the classes.
        """
        names = row[self.column]
        if names is None:
            raise UnusableTarget(f"no labels in column '{self.column}'")
        return [_position(self.column, self._positions, name) for name in names]

    def collate(self, targets: Sequence[Any | None], size: int) -> dict[str, np.ndarray]:
        """Stack the sets of `size` rows."""
        present = np.zeros((size, len(self.classes)), np.float32)
        for row, indices in zip(present, targets, strict=False):
            if indices is not None:
                row[indices] = 1
        return {self.column: present}

    def concat(self, parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Concatenate parts of a batch."""
        return {self.column: np.concatenate([part[self.column] for part in parts])}
