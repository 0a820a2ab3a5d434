"""Folders that stand for a combination of several heads' classes: numbered, named by the classes, or one inside another."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.label_columns import joint_names

_DIGITS = 9  # more than any number of combinations has
_SEPARATORS = ("_", "-", "+", ",", " ", ".")


class Combinations:
    """All combinations of the heads' classes, row-major, and the folders that name them.

    A folder is called by the number of its combination (`0` to `17`), by its classes (`worn_male_young`), or each head has a
    level of folders (`worn/male/young`).
    """

    def __init__(self, heads: Mapping[str, Sequence[str]], folders: Sequence[str]) -> None:
        """Take the heads with their classes, and the names of all class folders."""
        self._heads = heads
        self._targets = [dict(zip(heads, classes, strict=True)) for classes in itertools.product(*heads.values())]
        self._nested = {tuple(target.values()): target for target in self._targets}
        self._joined: dict[str, Mapping[str, str]] = {}
        for separator, (classes, target) in itertools.product(_SEPARATORS, self._nested.items()):
            name = separator.join(classes)
            if self._joined.setdefault(name, target) != target and name in folders:
                either, other = (" and ".join(names) for names in (self._joined[name].values(), classes))
                raise UserError(
                    f"Folder '{printable(name)}' may be {either}, or {other}. "
                    "Rename it with another separator, or put a folder for each head inside the other."
                )
        first = next(iter(heads.values()), [])
        numbered = all(name.isascii() and name.isdecimal() for name in folders) and not set(folders) <= set(first)
        self._numbered = {str(number): target for number, target in enumerate(self._targets)} if numbered else {}
        too_large = [name for name in folders if numbered and int(name.lstrip("0")[:_DIGITS] or 0) >= len(self._targets)]
        if too_large:  # then the other numbers mean something else, too
            from_zero = any(name.strip("0") == "" for name in folders)
            raise UserError(
                f"Folder {too_large[0]} is beyond the {len(self._targets):,} combinations of {', '.join(heads)}, which are "
                f"numbered from 0{'' if from_zero else ', and there is no folder 0'}. Name all classes of each head"
                f"{'' if from_zero else '; if folders are numbered from 1, rename each to its number less 1'}; or rename "
                f"folders to their classes, such as {'_'.join(next(iter(self._nested)))}."
            )

    @property
    def joint_classes(self) -> list[str]:
        """The names of the joint classes: the numbers of the folders where they have numbers, else the heads' classes."""
        return list(self._numbered) or joint_names(self._heads)

    def label_of(self, above: Sequence[str]) -> Mapping[str, str] | None:
        """The class of each head of an image that lies in the folders `above`, outermost first; None if they name none."""
        if not above:
            return None
        if self._numbered:
            number = above[0].lstrip("0") or "0"
            return self._numbered.get(number)
        return self._nested.get(tuple(above[: len(self._heads)])) or self._joined.get(above[0])
