"""Assignment of rows to splits or folds; numpy alone, deterministic by seed, and the same in every process.

What is assigned depends on the order of the rows: the same rows in another order are another draw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from cluster.errors import UserError
from data_pipeline.preparation.splitting.exchange import exchange
from data_pipeline.preparation.splitting.grouped import assign_groups
from data_pipeline.preparation.splitting.iterative import assign_rows
from data_pipeline.preparation.splitting.proportional import assign_classes, assign_randomly
from data_pipeline.preparation.splitting.units import Units, group_numbers

_TOLERANCE = 1e-6  # of the sum of shares


def split_shares(
    labels: Sequence[Sequence[str]],
    shares: Mapping[str, float],
    groups: Sequence[str] | None,
    stratified: bool,
    seed: int,
) -> list[str]:
    """The split of each row, in shares such as {"train": 0.8, "val": 0.1, "test": 0.1}.

    `labels` are the names of each row's classes: one, several or none; they count where `stratified`. `groups` are the names
    of what stays together, such as writers; a row whose name is empty is a group of its own. No split is empty. Sizes are
    exact without groups and with one class a row; else they are as near as whole groups and shares of labels allow.

    Raises:
        UserError: shares that are not positive or do not add up to 1, or more splits than rows or groups.
    """
    if not shares or not all(math.isfinite(share) and share > 0 for share in shares.values()):
        raise UserError(f"Shares of splits are positive numbers, not {_listed(shares)}. Leave out a split that has no rows.")
    if abs(sum(shares.values()) - 1) > _TOLERANCE:
        raise UserError(f"The shares {_listed(shares)} add up to {sum(shares.values()):g} instead of 1.")
    return _assigned(labels, "splits", list(shares), list(shares.values()), groups, stratified, seed)


def split_folds(
    labels: Sequence[Sequence[str]], folds: int, groups: Sequence[str] | None, stratified: bool, seed: int
) -> list[str]:
    """The fold of each row, `fold-0` to `fold-{folds - 1}`, all of about one size. The rest is as in `split_shares`.

    Raises:
        UserError: less than two folds, or more than there are rows or groups.
    """
    if folds < 2:
        raise UserError(f"Cross-validation takes at least 2 folds, not {folds}.")
    names = [f"fold-{fold}" for fold in range(folds)]
    return _assigned(labels, "folds", names, [1 / folds] * folds, groups, stratified, seed)


def _assigned(
    labels: Sequence[Sequence[str]],
    kind: str,
    names: Sequence[str],
    shares: Sequence[float],
    groups: Sequence[str] | None,
    stratified: bool,
    seed: int,
) -> list[str]:
    rng = np.random.default_rng(seed)
    rows = len(labels)
    part_shares = np.array(shares) / sum(shares)
    if groups is not None and len(groups) != rows:
        raise ValueError(f"{len(groups)} groups of {rows} rows")
    numbers = np.arange(rows) if groups is None else group_numbers(groups)
    units = int(numbers.max()) + 1 if rows else 0
    if len(names) > units:
        what = "rows" if groups is None else "groups"
        raise UserError(f"{units:,} {what} cannot fill {len(names)} {kind} ({', '.join(names)}): ask for fewer, or add {what}.")
    used: Sequence[Sequence[str]] = [list(dict.fromkeys(row)) for row in labels] if stratified else [()] * rows
    if units < rows:
        counted = Units.of(used, numbers)
        parts = exchange(counted, part_shares, assign_groups(counted, part_shares, rng), rng)[numbers]
    elif not stratified:
        parts = assign_randomly(rows, part_shares, rng)
    elif all(len(row) <= 1 for row in used):
        parts = assign_classes([row[0] if row else None for row in used], part_shares, rng)
    else:
        counted = Units.of(used, numbers)
        parts = exchange(counted, part_shares, assign_rows(counted, part_shares, rng), rng)[numbers]
    return [names[part] for part in parts.tolist()]


def _listed(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={share:g}" for name, share in shares.items()) or "none"
