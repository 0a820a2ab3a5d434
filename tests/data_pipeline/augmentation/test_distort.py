"""The presets for writing: a function of (seed, epoch, id), which keeps an image what it is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from data_pipeline.augmentation.config import chain_of
from data_pipeline.augmentation.operations import NOISE_VALUES

NAMES = ["light", "strong"]


@pytest.fixture(scope="module")
def written() -> np.ndarray:
    image = np.full((64, 256), 230, np.uint8)
    cv2.putText(image, "x + y", (40, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 20, 3)
    return image


def drawn(image: np.ndarray, name: str, count: int = 200) -> list[np.ndarray]:
    return [chain_of(name)(image, 0, 0, f"id-{number}") for number in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_the_draw_follows_from_seed_epoch_and_id_alone(written: np.ndarray, name: str) -> None:
    first = drawn(written, name)
    with ThreadPoolExecutor(4) as pool:  # in any order, in any thread
        numbers = list(reversed(range(200)))
        again = dict(zip(numbers, pool.map(lambda n: chain_of(name)(written, 0, 0, f"id-{n}"), numbers), strict=True))
    assert all(np.array_equal(first[number], again[number]) for number in range(200))
    for seed, epoch in ((1, 0), (0, 1)):
        other = [chain_of(name)(written, seed, epoch, f"id-{number}") for number in range(200)]
        assert sum(np.array_equal(one, two) for one, two in zip(first, other, strict=True)) < 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(64, 256), (64, 256, 3), (1, 1), (3, 2), (32, 1), (4, 1), (1, 4), (4, 1, 3)])
def test_size_and_type_are_kept(name: str, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    before = image.copy()
    for result in drawn(image, name, 60):
        assert result.shape == shape and result.dtype == np.uint8
    assert np.array_equal(image, before), "the image that was given is not written to"


def test_none_is_the_image_itself(written: np.ndarray) -> None:
    assert chain_of("none")(written, 0, 0, "a") is written


@pytest.mark.parametrize(
    ("name", "minimum", "maximum", "untouched"), [("light", 0.98, 1.02, (0.1, 0.4)), ("strong", 0.9, 1.1, (0, 0.15))]
)
def test_ink_stays_ink_where_it_was(
    written: np.ndarray, name: str, minimum: float, maximum: float, untouched: tuple[float, float]
) -> None:
    """Paper keeps its mean over many draws, ink moves by a share of the size, and some images stay as they are."""
    results = drawn(written, name, 400)
    assert minimum < np.mean([result.mean() for result in results]) / written.mean() < maximum
    same = np.mean([np.array_equal(result, written) for result in results])
    assert untouched[0] <= same <= untouched[1]
    x = [np.argwhere(result < result.mean() - 40)[:, 1].mean() for result in results]
    center = np.argwhere(written < 100)[:, 1].mean()
    assert abs(np.mean(x) - center) < 6 and max(abs(np.array(x) - center)) < 60
    assert max(abs(np.array(x) - center)) > 2


def test_noise_has_the_deviation_that_was_drawn() -> None:
    flat = np.full((128, 512), 128, np.uint8)
    deviations = [result.std() for result in drawn(flat, "light", 300)]
    noisy = [value for value in deviations if value > 0.5]
    assert 0.1 < len(noisy) / 300 < 0.3
    assert min(noisy) > 0.01 * 255 * 0.8 and max(noisy) < 0.04 * 255 * 1.4


def test_an_image_larger_than_the_field_of_noise_has_its_own() -> None:
    large = np.full((NOISE_VALUES // 1024 + 1, 1024), 128, np.uint8)
    assert any(result.std() > 0.5 for result in drawn(large, "light", 12))
