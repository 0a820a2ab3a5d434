"""Names of splits as others write them, and as datasets of Inkray have them: train, val, test."""

from __future__ import annotations

import re

from data_pipeline.dataset.manifest import MANIFEST, REJECTED
from data_pipeline.preparation.destination import HISTORY

_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_LONGEST = 100  # characters; a file system takes 255 bytes
_TAKEN = (MANIFEST, REJECTED, HISTORY)  # files beside the folders of splits
_KNOWN = {name: split for split, names in _NAMES.items() for name in names}
_IN_FILE = re.compile(rf"(?:^|[^a-z])({'|'.join(sorted(_KNOWN, key=len, reverse=True))})(?:[^a-z]|$)")


def known_split(name: str) -> str:
    """The split that a folder or a value of this name means: `validation` is `val`; empty if it means none."""
    return _KNOWN.get(name.strip().lower(), "")


def split_name(value: str) -> str:
    """The split of a value that names one: as `known_split`, or the value itself; empty if it cannot name a split."""
    name = value.strip()
    usable = re.fullmatch(r"[\w-][\w.-]*", name, re.ASCII) and len(name) <= _LONGEST and name.lower() not in _TAKEN
    return known_split(name) or (name if usable else "")


def split_of_file(stem: str) -> str:
    """The split that a file's name tells, as `train-00000-of-00002` does; empty if it tells none."""
    match = _IN_FILE.search(stem.lower())
    return _KNOWN[match[1]] if match else ""
