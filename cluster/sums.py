"""Records of sums: dataclasses of numbers that add up field by field, over batches, steps and ranks."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self


@dataclass
class Sums:
    """Base of records whose fields are numbers, or records of their own kind, and add up field by field."""

    def __add__(self, other: Self) -> Self:
        return type(self)(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})
