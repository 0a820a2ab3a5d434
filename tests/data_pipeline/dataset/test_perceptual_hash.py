"""Near-duplicates of images: copies are found, different images are not, and no pair of near hashes is missed."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.dataset.perceptual_hash import (
    BLANK,
    DISTANCE,
    duplicate_groups,
    duplicates,
    near_pairs,
    perceptual_hash,
    thumbnail,
)


def board(number: int) -> np.ndarray:
    """Letters in noise, 128x128."""
    rng = np.random.default_rng(number)
    image = rng.integers(0, 255, (128, 128)).astype(np.int64)
    for letter in rng.permutation(26)[:6]:
        drawn = np.zeros((128, 128), np.uint8)
        place = (int(rng.integers(0, 100)), int(rng.integers(30, 128)))
        cv2.putText(drawn, chr(65 + letter), place, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(1, 2)), 255, 4)
        image += drawn
    return np.clip(image, 0, 255).astype(np.uint8)


def formula(number: int) -> np.ndarray:
    """A line of thin ink on white paper, 48 high."""
    rng = np.random.default_rng(number)
    text = "".join(chr(code) for code in rng.integers(97, 123, int(rng.integers(4, 14))))
    image = np.full((48, 24 * len(text) + 10), 255, np.uint8)
    cv2.putText(image, text, (5, 34), cv2.FONT_HERSHEY_COMPLEX, 1, 0, 2)
    return image


def copies(image: np.ndarray) -> Iterator[np.ndarray]:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    yield np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE))
    for scale, method in ((0.5, cv2.INTER_AREA), (0.75, cv2.INTER_AREA), (2.0, cv2.INTER_CUBIC)):
        yield cv2.resize(image, None, fx=scale, fy=scale, interpolation=method)
    for change in (-10, 10):
        yield np.clip(image.astype(int) + change, 0, 255).astype(np.uint8)


def test_copies_are_found_and_different_images_are_not() -> None:
    originals = [make(number) for make in (board, formula) for number in range(300)]
    images = [*originals, *(copy for image in originals[::10] for copy in copies(image))]
    images += [np.full((40, 60), level, np.uint8) for level in (0, 255, 255)]  # blank ones are the same as none
    hashes = np.array([perceptual_hash(image) for image in images])
    thumbnails = np.array([thumbnail(image) for image in images])
    assert (hashes[-3:] == BLANK).all() and (hashes[:-3] != BLANK).all()
    groups = duplicate_groups(hashes, thumbnails)
    expected = [[10 * number, *range(600 + 6 * number, 606 + 6 * number)] for number in range(60)]
    found = [group.tolist() for group in groups]
    assert all(set(group) <= set(wanted) for group in found for wanted in expected if group[0] in wanted), "no false alarm"
    assert sum(map(len, found)) >= 0.99 * sum(map(len, expected))
    assert len(duplicates(hashes[:600], thumbnails[:600])) == 0
    color = np.stack([originals[0]] * 3, axis=2)
    assert perceptual_hash(color) == perceptual_hash(originals[0][:, :, None]) == hashes[0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 6), st.integers(1, 120), st.integers(0, 6))
def test_near_pairs_are_those_of_comparing_all(seed: int, clusters: int, count: int, distance: int) -> None:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**63, clusters, dtype=np.uint64)[rng.integers(0, clusters, count)]
    for _ in range(4):
        hashes ^= np.where(rng.random(count) < 0.7, np.uint64(1) << rng.integers(0, 64, count, dtype=np.uint64), np.uint64(0))
    hashes[rng.random(count) < 0.1] = BLANK
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= distance
    shown = hashes != BLANK
    expected = np.argwhere(np.triu(near & shown[:, None] & shown[None], 1))
    assert np.array_equal(near_pairs(hashes, distance), expected)


def test_an_image_that_is_there_thousands_of_times_is_one_group() -> None:
    small = np.repeat(thumbnail(board(1))[None], 5_000, axis=0)
    hashes = np.full(5_000, perceptual_hash(board(1)))
    assert [len(group) for group in duplicate_groups(hashes, small, DISTANCE)] == [5_000]
    assert duplicate_groups(hashes[:0], small[:0]) == []
