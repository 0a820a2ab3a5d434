"""Steps and chains: size and type stay, whatever the image; the draw follows from seed, epoch and id."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.augmentation.chain import Chain
from data_pipeline.augmentation.config import STEPS, chain_of
from data_pipeline.augmentation.presets import PRESETS

THEIRS = {"albumentations": ["ShiftScaleRotate", {"OneOf": {"transforms": ["Blur", "InvertImg"], "p": 0.9}}, "GaussNoise"]}
CHAIN: list[Any] = ["rotate_90", {"cutout": {"size": 0.2}}, "light", THEIRS]


def image_of(shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def digest(chain: Chain, shapes: Sequence[Sequence[int]], draws: int = 40) -> str:
    found = hashlib.sha256()
    for image in map(image_of, shapes):
        for number in range(draws):
            found.update(chain(image, 3, number % 4, f"id-{number}").tobytes())
    return found.hexdigest()


@pytest.mark.parametrize(("name", "before"), [("light", "1064fb401e41f3fd5d5b"), ("strong", "6eb2a1f57d5fe67437f3")])
def test_the_presets_for_writing_are_what_they_were_before_there_were_chains(name: str, before: str) -> None:
    shapes = [(64, 256), (48, 40, 3), (1, 1), (5, 1), (1, 7, 3)]
    assert digest(chain_of(name), shapes)[:20] == before
    assert chain_of(name) == chain_of([name]) == chain_of([{name: {}}])


@given(
    name=st.sampled_from(sorted(STEPS)),
    size=st.one_of(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.sampled_from([(1, 1), (1, 90), (90, 1), (4, 1)])),
    color=st.booleans(),
    draw=st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_every_step_keeps_size_and_type_of_every_image(name: str, size: tuple[int, int], color: bool, draw: int) -> None:
    image = image_of((*size, 3) if color else size)
    before = image.copy()
    for step in STEPS[name]().certain():
        result = step(image, np.random.default_rng(draw))
        assert result.shape == image.shape and result.dtype == np.uint8
    assert np.array_equal(image, before), "the image that was given is not written to"


def test_the_draw_follows_from_seed_epoch_and_id_in_any_order_thread_and_process() -> None:
    chain, image = chain_of(CHAIN), image_of((48, 48))
    first = [chain(image, 0, 0, f"id-{number}") for number in range(60)]
    numbers = list(reversed(range(60)))
    sent: Chain = pickle.loads(pickle.dumps(chain))
    assert sent == chain
    with ThreadPoolExecutor(4) as pool:
        again = dict(zip(numbers, pool.map(lambda number: sent(image, 0, 0, f"id-{number}"), numbers), strict=True))
    assert all(np.array_equal(first[number], again[number]) for number in range(60))
    for seed, epoch in ((1, 0), (0, 1)):
        other = [chain(image, seed, epoch, f"id-{number}") for number in range(60)]
        assert sum(np.array_equal(one, two) for one, two in zip(first, other, strict=True)) < 10


def test_a_step_more_changes_nothing_for_those_before_it() -> None:
    image = image_of((32, 32))
    certain: list[Any] = [{"cutout": {"p": 1}}, {"shift_scale_rotate": {"p": 1}}]
    short, long = chain_of(certain), chain_of([*certain, {"invert": {"p": 1}}])
    for number in range(20):
        assert np.array_equal(255 - short(image, 0, 0, str(number)), long(image, 0, 0, str(number)))


def test_steps_are_drawn_apart() -> None:
    """Two steps of the same probability are not taken together: numbers of one's stream are not those of the other's."""
    image = np.full((8, 8), 100, np.uint8)
    cut: Any = {"cutout": {"fill": 7, "size": 1}}
    for chain in (chain_of([cut, "invert"]), chain_of([cut, {"albumentations": "InvertImg"}])):
        seen: dict[tuple[bool, bool], int] = {}
        for number in range(400):
            result = chain(image, 0, 0, str(number))
            key = (bool(np.isin(result, (7, 248)).any()), bool(np.isin(result, (155, 248)).any()))
            seen[key] = seen.get(key, 0) + 1
        assert len(seen) == 4 and all(60 < count < 140 for count in seen.values()), seen


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_is_what_can_be_written_in_yaml_and_does_something(name: str) -> None:
    assert json.loads(json.dumps(PRESETS[name])) == PRESETS[name]
    assert chain_of(PRESETS[name]) == chain_of(name)
    image = image_of((32, 32))
    changed = [not np.array_equal(chain_of(name)(image, 0, 0, str(number)), image) for number in range(30)]
    assert any(changed) == (name != "none")


def test_a_hole_has_the_size_that_was_asked_for_and_a_turn_is_exact() -> None:
    white = np.full((100, 200), 255, np.uint8)
    cutout = chain_of([{"cutout": {"size": 0.3, "fill": 9, "p": 1}}])
    holes = [int((cutout(white, 0, 0, str(number)) == 9).sum()) for number in range(100)]
    assert max(holes) == 30 * 60 and min(holes) >= 15 * 30
    square, oblong = image_of((6, 6)), image_of((4, 6))
    turns = {chain_of(["rotate_90"])(square, 0, 0, str(number)).tobytes() for number in range(60)}
    assert turns == {np.rot90(square, turn).tobytes() for turn in range(4)}
    turns = {chain_of(["rotate_90"])(oblong, 0, 0, str(number)).tobytes() for number in range(60)}
    assert turns == {oblong.tobytes(), np.rot90(oblong, 2).tobytes()}
