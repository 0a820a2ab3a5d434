"""How a person looks in every photo: proportions, skin, hair, glasses; drawn from what is usual for gender and age."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np

from data_pipeline.synthesis.faces.sketch import Color, mixed

_SKINS: tuple[Color, ...] = ((255, 224, 196), (244, 205, 170), (226, 180, 140), (198, 146, 106), (150, 104, 74), (104, 72, 52))
_HAIRS: tuple[Color, ...] = ((28, 24, 24), (48, 34, 28), (84, 56, 36), (126, 84, 48), (190, 146, 84), (146, 62, 34))
_EYES: tuple[Color, ...] = ((70, 44, 26), (96, 64, 36), (78, 104, 66), (72, 108, 150), (96, 100, 104))
_GRAY: Color = (206, 206, 208)

# Hair styles by gender, with their weights: none of them belongs to one gender alone.
_STYLES = {
    "male": {"short": 0.55, "crop": 0.25, "bald": 0.1, "bob": 0.06, "long": 0.04},
    "female": {"short": 0.1, "crop": 0.02, "bald": 0.0, "bob": 0.3, "long": 0.4, "bun": 0.18},
}
_GLASSES = {"young": 0.15, "middle": 0.25, "old": 0.55}
_WRINKLES = {"young": (0.0, 0.15), "middle": (0.3, 0.6), "old": (0.7, 1.0)}
_GRAY_HAIR = {"young": (0.0, 0.05), "middle": (0.0, 0.5), "old": (0.5, 1.0)}


@dataclass(frozen=True)
class Person:
    """A person's looks. Lengths are in halves of the face's height; shares are 0 to 1.

    jaw: width of the jaw against that of the face. beard: how dense it is. wrinkles: how deep they are. receding: how far the
    hair line has gone back.
    """

    skin: Color
    hair: Color
    eyes: Color
    lips: Color
    style: str
    width: float
    jaw: float
    eye_distance: float
    eye_size: float
    brow: float
    nose: float
    mouth: float
    beard: float
    lashes: float
    wrinkles: float
    receding: float
    fringe: float
    parting: float
    glasses: bool
    round_glasses: bool
    earrings: bool


@lru_cache(maxsize=4096)
def person_looks(seed: int, person: int, gender: str, age: str) -> Person:
    """The looks of a person, a function of the arguments."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, person, crc32(b"person")]))
    male = gender == "male"
    tone = rng.uniform(0, len(_SKINS) - 1)
    skin = mixed(_SKINS[int(tone)], _SKINS[min(int(tone) + 1, len(_SKINS) - 1)], tone % 1)
    styles = _STYLES[gender]
    style = list(styles)[int(np.searchsorted(np.cumsum(list(styles.values())), rng.random() * sum(styles.values()), "right"))]
    if style == "bald" and age == "young":
        style = "crop"
    hair = _HAIRS[int(rng.integers(len(_HAIRS)))]
    blush = (196.0, 70.0, 84.0) if not male else (186.0, 96.0, 90.0)
    return Person(
        skin=skin,
        hair=mixed(hair, _GRAY, rng.uniform(*_GRAY_HAIR[age])),
        eyes=_EYES[int(rng.integers(len(_EYES)))],
        lips=mixed(skin, blush, rng.uniform(0.2, 0.45) if male else rng.uniform(0.4, 0.95)),
        style=style,
        width=rng.normal(0.76 if male else 0.72, 0.025),
        jaw=rng.normal(0.8 if male else 0.68, 0.05),
        eye_distance=rng.normal(0.3, 0.015),
        eye_size=rng.normal(0.125 if male else 0.14, 0.01) * (1.06 if age == "young" else 0.94),
        brow=rng.normal(0.075 if male else 0.048, 0.012),
        nose=rng.normal(0.33, 0.025),
        mouth=rng.normal(0.27 if male else 0.25, 0.02),
        beard=rng.uniform(0.3, 0.9) if male and rng.random() < (0.15 if age == "young" else 0.35) else 0.0,
        lashes=rng.uniform(0.0, 0.3) if male else rng.uniform(0.3, 1.0),
        wrinkles=rng.uniform(*_WRINKLES[age]),
        receding=rng.uniform(0, {"young": 0.1, "middle": 0.5, "old": 1.0}[age] if male else 0.1),
        fringe=rng.uniform(0, 1),
        parting=rng.uniform(-0.5, 0.5),
        glasses=bool(rng.random() < _GLASSES[age]),
        round_glasses=bool(rng.random() < 0.5),
        earrings=not male and bool(rng.random() < 0.35),
    )
