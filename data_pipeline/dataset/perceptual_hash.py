"""Near-duplicates of images: the same image again, re-encoded, resized, or a little lighter or darker.

The hash is that of the DCT (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010): 64 bits, which
signs the low frequencies of a thumbnail. Images of thin ink on white paper have few of them, so different images may have near
hashes: `duplicates` compares the thumbnails, too. Color does not count, and blank images are the same as no other.
"""

from __future__ import annotations

import itertools

import cv2
import numpy as np

SIDE = 32  # of a thumbnail, pixels
_LOW = 8  # frequencies in each direction
DISTANCE = 4  # bits by which hashes of the same image differ at most
_BITS = np.uint64(1) << np.arange(64, dtype=np.uint64)
BLANK = np.uint64(0)  # the hash of a blank image; of any other, about half of the bits are set
_BLANK_SPREAD = 1.0  # gray levels of a thumbnail: a standard deviation below it is that of a blank image
# Of thumbnails of the same image, in standard deviations: no pixel differs by more, and they correlate at least so much.
# Copies of half the size come near these limits; formulas that differ in one symbol are beyond the first, most of them far.
_MAX_DIFFERENCE, _MIN_CORRELATION = 1.5, 0.95
_PAIRS_AT_ONCE = 8_192  # whose thumbnails are compared


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """The gray thumbnail, uint8 (32, 32), of an image (H, W), (H, W, 1) or (H, W, 3); its aspect is not kept."""
    if pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.shape[2] == 3 else pixels[:, :, 0]
    if min(pixels.shape) < SIDE:  # enlarged first: INTER_AREA would repeat pixels
        size = max(SIDE, pixels.shape[1]), max(SIDE, pixels.shape[0])
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    return cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def perceptual_hash(pixels: np.ndarray) -> np.uint64:
    """The 64-bit hash of an image, uint8 (H, W), (H, W, 1) or (H, W, 3); `BLANK` if there is nothing on it."""
    return hash_of(thumbnail(pixels))


def hash_of(small: np.ndarray) -> np.uint64:
    """The hash of an image from its thumbnail."""
    if small.std() < _BLANK_SPREAD:
        return BLANK
    low = cv2.dct(small.astype(np.float32))[:_LOW, :_LOW].ravel()
    low[0] = 0  # the mean gray does not count
    return np.uint64(_BITS[low > np.median(low)].sum())


def near_pairs(hashes: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """All pairs of indices (P, 2), the smaller one first, whose hashes differ in at most `distance` bits; blank images in none.

    The search is exact: of `distance` + 1 bands of bits, hashes so near have one in common, so only those that share a band
    are compared. Beside the result, memory for a few values of each hash is used.
    """
    shown = np.flatnonzero(hashes != BLANK)
    values = hashes[shown].astype(np.uint64)
    edges = np.linspace(0, 64, distance + 2).astype(int).tolist()
    masks = [sum(1 << bit for bit in range(first, last)) for first, last in itertools.pairwise(edges)]
    bands = [values & np.uint64(mask) for mask in masks]
    found = [np.empty((0, 2), np.int64)]
    for number, band in enumerate(bands):
        order = np.argsort(band, kind="stable")
        ordered, sorted_band = values[order], band[order]
        firsts = np.arange(len(order))
        for offset in itertools.count(1):  # each hash and the one `offset` places after it, as long as any two share the band
            firsts = firsts[: np.searchsorted(firsts, len(order) - offset)]
            firsts = firsts[sorted_band[firsts] == sorted_band[firsts + offset]]
            if not len(firsts):
                break
            near = firsts[np.bitwise_count(ordered[firsts] ^ ordered[firsts + offset]) <= distance]
            for earlier in bands[:number]:  # those that share an earlier band were found there
                near = near[earlier[order[near]] != earlier[order[near + offset]]]
            found.append(np.sort(np.stack([order[near], order[near + offset]], axis=1), axis=1))
    pairs = shown[np.concatenate(found)]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def same_image(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether thumbnails (N, 32, 32) show the same image, up to brightness and contrast: bool (N,)."""
    a, b = (_standardized(part.reshape(len(part), -1)) for part in (first, second))
    return ((a * b).mean(1) >= _MIN_CORRELATION) & (np.abs(a - b).max(1, initial=0) <= _MAX_DIFFERENCE)


def duplicates(hashes: np.ndarray, thumbnails: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """The pairs of `near_pairs` whose thumbnails, uint8 (N, 32, 32), show the same image."""
    pairs = near_pairs(hashes, distance)
    parts = [pairs[first : first + _PAIRS_AT_ONCE] for first in range(0, len(pairs), _PAIRS_AT_ONCE)]
    return np.concatenate([pairs[:0], *(part[same_image(*thumbnails[part.T])] for part in parts)])


def _standardized(values: np.ndarray) -> np.ndarray:
    centered = values - values.mean(1, keepdims=True, dtype=np.float32)
    return centered / np.maximum(centered.std(1, keepdims=True), 1e-6)


def duplicate_groups(hashes: np.ndarray, thumbnails: np.ndarray, distance: int = DISTANCE) -> list[np.ndarray]:
    """The indices of images that are the same, two or more in each group, ordered; groups by their first image.

    Two images that are the same as a third are in one group. An image that is there thousands of times is no burden, as it is
    in a list of pairs.
    """
    shown = np.flatnonzero(hashes != BLANK)
    if not len(shown):
        return []
    flat = np.ascontiguousarray(thumbnails[shown].reshape(len(shown), -1))
    _, first, equal = np.unique(flat.view(np.dtype((np.void, flat.shape[1]))).ravel(), return_index=True, return_inverse=True)
    distinct = shown[first]
    roots = list(range(len(distinct)))

    def root(index: int) -> int:
        while roots[index] != index:
            roots[index] = index = roots[roots[index]]
        return index

    for one, other in duplicates(hashes[distinct], thumbnails[distinct], distance).tolist():
        roots[root(one)] = root(other)
    numbers = np.array([root(index) for index in range(len(distinct))])[equal]
    order = np.argsort(numbers, kind="stable")
    groups = np.split(shown[order], np.flatnonzero(np.diff(numbers[order])) + 1)
    return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))
