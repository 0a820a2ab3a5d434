"""The section `data`: which dataset, and which of its splits are for what."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from cluster.errors import UserError
from trainers.config.rules import broken


@dataclass
class DataConfig:
    """Which dataset, and which of its splits are for what."""

    dataset: str = "data/formulas"  # a folder or any URI; a relative path is seen from where the command runs
    train_split: str = "train"  # trained on
    val_split: str = "val"  # validated on while the run lasts; empty: nothing is
    test_split: str = "test"  # evaluated once, at the end of the run; empty: val_split is, or else train_split
    # Of a dataset with folds: trained on the others, validated on this one, from 0, whatever train_split and val_split are.
    fold: int = -1  # -1: the splits as they are named

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        return broken(
            (bool(self.train_split), "data.train_split is empty: name a split to train on"),
            (self.fold >= -1, f"data.fold={self.fold}: the number of a fold, from 0, or -1 for none"),
        )

    def with_fold(self, folds: int, splits: Collection[str]) -> DataConfig:
        """The section with the splits that `fold` stands for, of a dataset with so many folds and these splits.

        Where `test_split` is the default and the dataset has none of this name, the fold's own rows are evaluated.

        Raises:
            UserError: there is no such fold.
        """
        if self.fold < 0:
            return self
        if self.fold >= folds:
            there = (
                f"the dataset has folds 0 to {folds - 1}" if folds else "the dataset has no folds; prepare it with --folds 5"
            )
            raise UserError(f"data.fold={self.fold}: {there}.")
        train = "+".join(fold_name(other) for other in range(folds) if other != self.fold)
        unnamed = self.test_split == DataConfig().test_split and self.test_split not in splits
        test = "" if unnamed else self.test_split
        return replace(self, train_split=train, val_split=fold_name(self.fold), test_split=test)


def fold_name(fold: int) -> str:
    """The split that holds the rows of a fold."""
    return f"fold-{fold}"
