"""Light ink on dark paper is found and nothing else is; writing of any resolution comes to one size."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Manifest, open_dataset
from data_pipeline.dataset.shards import Rejected, Row
from data_pipeline.importers.crohme.inkml import read_inkml
from data_pipeline.importers.crohme.render import render_ink
from data_pipeline.importers.crohme.source import iter_inkml
from data_pipeline.preparation.build import Chunk, build_dataset
from data_pipeline.preparation.images import BadImage, decode, encode_png, fit, prepare
from data_pipeline.preparation.ink import ink_size, is_light_on_dark, orient
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.formulas.grammar import FormulaConfig
from data_pipeline.synthesis.formulas.sample import make_sample
from tests.support.datasets import sequence_manifest
from tests.support.places import CROHME

POLICY = ImagePolicy(64, 256)
SAMPLES = [make_sample(5, index, FormulaConfig(), lambda text: True).image for index in range(16)]
FORMULAS = [fit(image, ImagePolicy(1000, 1000, fixed_height=False)) for image in SAMPLES]


def shaded(pixels: np.ndarray) -> np.ndarray:
    """As a photo by a lamp on one side, whose corners are darker."""
    height, width = pixels.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.clip(pixels * (0.4 + 0.6 * np.exp(-(x * x + y * y) - x / 4)), 0, 255).astype(np.uint8)


def noisy(pixels: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 8, pixels.shape)
    return np.clip(pixels * 0.6 + 50 + noise, 0, 255).astype(np.uint8)


def cut_tightly(pixels: np.ndarray) -> np.ndarray:
    rows, columns = np.nonzero(pixels < 200)
    return pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def in_a_corner(pixels: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(pixels, 0, 300, 0, 500, cv2.BORDER_REPLICATE)


def on_a_dark_table(pixels: np.ndarray) -> np.ndarray:
    around = pixels.shape[0] // 3
    return cv2.copyMakeBorder(pixels, around, around, around, around, cv2.BORDER_CONSTANT, value=(50,))


LOOKS = [lambda pixels: pixels, shaded, noisy, cut_tightly, in_a_corner]


@pytest.mark.parametrize("look", [*LOOKS, on_a_dark_table], ids=lambda look: look.__name__)
def test_dark_ink_on_light_paper_is_never_inverted(look) -> None:  # type: ignore[no-untyped-def]
    assert not any(is_light_on_dark(look(pixels)) for pixels in FORMULAS)


def test_light_ink_on_dark_paper_is_found() -> None:
    for pixels in FORMULAS:
        for negative in (255 - pixels, shaded(255 - pixels), noisy(255 - pixels), 255 - cut_tightly(pixels)):
            assert is_light_on_dark(negative)
        assert is_light_on_dark(255 - in_a_corner(pixels))


def test_real_handwriting_is_never_inverted_and_its_negative_always() -> None:
    if not CROHME.exists():
        pytest.skip("CROHME is not on this machine")
    files = list(iter_inkml(CROHME / "crohme_2013_valid.tar.xz"))[::7]
    for number, file in enumerate(files):
        height, width, size = [(128, 1024, None), (120, 384, 12.0), (64, 256, None)][number % 3]
        pixels = render_ink(read_inkml(file.data).strokes, height, width, size)
        assert not is_light_on_dark(pixels) and is_light_on_dark(255 - pixels), file.id


@pytest.mark.parametrize("value", [0, 128, 255])
def test_where_nothing_is_to_be_seen_nothing_is_inverted(value: int) -> None:
    for shape in ((1, 1), (1, 300), (64, 64), (30, 40, 3)):
        pixels = np.full(shape, value, np.uint8)
        assert not is_light_on_dark(pixels)
        assert ink_size(pixels) == 0


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_any_image_has_an_answer(height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    assert ink_size(pixels) >= 0
    assert orient(pixels, "never")[1] is False and np.array_equal(orient(pixels, "always")[0], 255 - pixels)
    policy = ImagePolicy(64, 256, invert="auto", scale="ink", ink_size=20)
    assert prepare(encode_png(pixels), policy).pixels.shape[0] == 64


@pytest.mark.parametrize("color", ["gray", "rgb"])
def test_an_inverted_image_is_prepared_to_the_pixels_of_the_original(color: str) -> None:
    policy = ImagePolicy(64, 256, "gray" if color == "gray" else "rgb", invert="auto")
    for pixels in FORMULAS if color == "gray" else SAMPLES:
        plain, negative = (prepare(encode_png(image), policy) for image in (pixels, 255 - pixels))
        assert (plain.inverted, negative.inverted) == (False, True)
        assert np.array_equal(plain.pixels, negative.pixels)


@pytest.mark.parametrize(("ink", "mode"), [(255, "auto"), (255, "always"), (0, "auto")])
def test_ink_on_nothing_is_seen_whatever_its_color(ink: int, mode: str) -> None:
    layer = Image.merge("LA", [Image.new("L", (90, 40), ink), Image.fromarray(255 - FORMULAS[0]).resize((90, 40))])
    buffer = io.BytesIO()
    layer.save(buffer, "PNG")
    policy = ImagePolicy(64, 256, invert="always" if mode == "always" else "auto")
    dark = 255 - np.array(layer.getchannel("A"))
    assert np.abs(prepare(buffer.getvalue(), policy).pixels.astype(int) - fit(dark, policy)).max() <= 1


@pytest.mark.parametrize("times", [0.5, 2, 3, 6])
def test_ink_of_another_resolution_is_brought_to_the_size_of_the_dataset(times: float) -> None:
    policy = ImagePolicy(400, 4000, fixed_height=False, scale="ink", ink_size=24)
    for pixels in (FORMULAS[0], FORMULAS[3]):
        scaled = cv2.resize(pixels, None, fx=times, fy=times, interpolation=cv2.INTER_AREA if times < 1 else cv2.INTER_CUBIC)
        original, enlarged = fit(pixels, policy), fit(scaled, policy)
        assert abs(enlarged.shape[0] / original.shape[0] - 1) < 0.25
        assert abs(ink_size(enlarged) / 24 - 1) < 0.3


def test_images_are_enlarged_only_where_the_policy_says_so() -> None:
    small = FORMULAS[0][::3, ::3]
    assert fit(small, POLICY).shape[1] == small.shape[1]
    large = fit(small, ImagePolicy(64, 256, scale="fit"))
    assert large.shape[0] == 64 and large.shape[1] == min(256, round(small.shape[1] * 64 / small.shape[0]))
    unknown = fit(small, ImagePolicy(64, 256, scale="ink"))
    assert np.array_equal(unknown, fit(small, POLICY)), "without the size of the dataset's ink nothing is scaled"


def negatives(chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
    rows = []
    for number in range(chunk.inputs):
        image = prepare(encode_png(255 - FORMULAS[number] if number % 3 else FORMULAS[number]), IMAGES)
        height, width = image.pixels.shape
        rows.append(Row(f"{number}", encode_png(image.pixels), width, height, {"text": "a"}, inverted=image.inverted))
    return rows, []


IMAGES = ImagePolicy(64, 256, invert="auto")


def test_preparation_says_how_many_it_inverted_and_how_large_the_ink_is(
    ray_cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = sequence_manifest("made up", ["a"], IMAGES)
    made = build_dataset(open_storage(tmp_path), empty, [Chunk("train", 0, 12, None)], negatives)
    assert "8 of 12 images are light ink on dark paper and were inverted (image.invert=auto)" in capsys.readouterr().out
    sizes = [ink_size(fit(pixels, POLICY)) for pixels in FORMULAS[:12]]
    assert made.image.ink_size == round(float(np.median([size for size in sizes if size])), 2) > 5
    assert open_dataset(str(tmp_path)).manifest == made


def test_a_dataset_without_these_keys_is_read_as_it_was_and_keeps_its_digest() -> None:
    plain = sequence_manifest("old", ["a"], POLICY)
    content = plain.to_json().replace(b',\n  "invert": "never",\n  "scale": "none",\n  "ink_size": 0.0', b"")
    assert b"invert" not in content
    assert Manifest.from_json(content, "old") == plain
    assert plain.digest == "sha256:492a6842eb7016b9f560cf4716a263fd1324a9dcedf6a0e4a961a3a6a3ac0be1"
    assert sequence_manifest("old", ["a"], ImagePolicy(64, 256, ink_size=9)).digest == plain.digest
    assert sequence_manifest("old", ["a"], IMAGES).digest != plain.digest


def test_a_bad_image_is_still_a_bad_image() -> None:
    with pytest.raises(BadImage, match="empty file"):
        prepare(b"", IMAGES)
    assert decode(encode_png(FORMULAS[0]), "gray").dtype == np.uint8
