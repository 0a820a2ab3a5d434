"""The attributes of faces, how often each value occurs, and how they depend on each other."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from zlib import crc32

import numpy as np

from data_pipeline.dataset.label_columns import joint_names

# As often as in the data of the task with these 18 classes, where a person wears the mask in 5 of 7 photos, and wrongly in 1.
SHARES = {
    "mask": {"worn": 5 / 7, "wrong": 1 / 7, "none": 1 / 7},
    "gender": {"male": 0.39, "female": 0.61},
    "age": {"young": 0.47, "middle": 0.45, "old": 0.08},
}
HEADS = {name: list(shares) for name, shares in SHARES.items()}
# Class 6 * mask + 3 * gender + age has its number for a name.
TARGET = {"heads": HEADS, "joint": {"name": "class", "classes": [str(number) for number in range(len(joint_names(HEADS)))]}}
_BOUNDS = {name: tuple(accumulate(shares.values()))[:-1] for name, shares in SHARES.items()}

Attributes = dict[str, str]


def attributes_of(seed: int, person: int, index: int, correlation: float) -> Attributes:
    """The attributes of face `index`, which is one of `person`: the mask is the photo's, gender and age are the person's.

    Each person has a position between 0 and 1, whose quantile is the age. The quantile of the same position is the gender, and
    that of the mask in each photo, with the probability `correlation`, and otherwise that of a position drawn apart. So each
    attribute has its share whatever the correlation is; 0 makes them independent, 1 functions of the position.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, person, crc32(b"attributes")]))
    position, other, gender = rng.random(3).tolist()
    photo = np.random.default_rng(np.random.SeedSequence([seed, index, crc32(b"mask")]))
    elsewhere, mask = photo.random(2).tolist()
    return {
        "mask": _quantile("mask", position if mask < correlation else elsewhere),
        "gender": _quantile("gender", position if gender < correlation else other),
        "age": _quantile("age", position),
    }


def _quantile(name: str, position: float) -> str:
    return HEADS[name][bisect_right(_BOUNDS[name], position)]
