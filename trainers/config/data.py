"""The section `data`: which dataset, and which of its splits are for what."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.config.rules import broken


@dataclass
class DataConfig:
    """Which dataset, and which of its splits are for what."""

    dataset: str = "data/formulas"  # a folder or any URI; a relative path is seen from where the command runs
    train_split: str = "train"  # trained on
    val_split: str = "val"  # validated on while the run lasts; empty: nothing is
    test_split: str = "test"  # evaluated once, at the end of the run; empty: val_split is, or else train_split

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken((bool(self.train_split), "data.train_split is empty: name a split to train on"))
