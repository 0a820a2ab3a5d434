"""Images from outside: what cannot be used says why before it costs anything; what can is fitted without distortion."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_pipeline.dataset.image_policy import ImagePolicy, Scale
from data_pipeline.preparation import images
from data_pipeline.preparation.images import BadImage, decode, encode_png, fit, require_policy

PIXELS = np.random.default_rng(0).integers(0, 255, (40, 90), np.uint8)


def encoded(suffix: str) -> bytes:
    return bytes(cv2.imencode(suffix, PIXELS)[1].tobytes())


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def test_png_comes_back_exactly() -> None:
    assert np.array_equal(decode(encode_png(PIXELS), "gray"), PIXELS)
    colored = np.stack([PIXELS, PIXELS // 2, 255 - PIXELS], axis=2)
    assert np.array_equal(decode(encode_png(colored), "rgb"), colored), "channels in another order"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp"])
def test_the_usual_formats_are_read(suffix: str) -> None:
    assert decode(encoded(suffix), "gray").shape == (40, 90)
    assert decode(encoded(suffix), "rgb").shape == (40, 90, 3)


def test_a_claimed_size_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images.cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(BadImage, match="60000x60000 pixels, more than the 64000000 allowed"):
        decode(png_that_claims(60000, 60000), "gray")
    with pytest.raises(BadImage, match="9000x9000 pixels, more than the 64000000 allowed"):
        decode(png_that_claims(9000, 9000), "gray")
    with pytest.raises(BadImage, match="90x40 pixels, more than the 3599 allowed"):
        decode(encoded(".png"), "gray", max_pixels=3599)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.95])
def test_a_truncated_file_is_refused(suffix: str, kept: float) -> None:
    data = encoded(suffix)
    with pytest.raises(BadImage):
        decode(data[: int(len(data) * kept)], "gray")


@pytest.mark.parametrize(
    ("data", "reason"), [(b"", "empty file"), (b"no image at all", "not an image"), (b"\x89PNG", "not an")]
)
def test_what_is_no_image_says_so(data: bytes, reason: str) -> None:
    with pytest.raises(BadImage, match=reason):
        decode(data, "gray")


@given(st.binary(max_size=300), st.integers(0, 3000))
def test_damage_raises_nothing_else(junk: bytes, index: int) -> None:
    data = bytearray(encoded(".png"))
    data[index : index + len(junk)] = junk
    with contextlib.suppress(BadImage):
        assert decode(bytes(data), "gray").dtype == np.uint8


SIZES = st.integers(1, 400)


@given(SIZES, SIZES, st.integers(16, 128), st.integers(16, 300), st.sampled_from(["gray", "rgb"]))
def test_a_fitted_image_obeys_the_policy(height: int, width: int, most_high: int, most_wide: int, color: str) -> None:
    policy = ImagePolicy(most_high, most_wide, "gray" if color == "gray" else "rgb")
    fitted = fit(np.full((height, width), 200, np.uint8), policy)
    assert fitted.dtype == np.uint8
    assert fitted.shape[0] == most_high and fitted.shape[1] <= most_wide
    assert fitted.shape[2:] == (() if color == "gray" else (3,))
    assert fitted.shape[1] <= width, "enlarged"
    scale = min(most_high / height, most_wide / width, 1)
    assert abs(fitted.shape[1] - width * scale) <= 1, "its aspect is lost"


def test_a_small_image_is_centered_and_untouched() -> None:
    fitted = fit(PIXELS, ImagePolicy(64, 256))
    assert np.array_equal(fitted[12:52], PIXELS)
    assert np.array_equal(fitted[0], PIXELS[0]) and np.array_equal(fitted[-1], PIXELS[-1])


def test_a_large_image_keeps_its_aspect() -> None:
    canvas = np.full((400, 1200), 255, np.uint8)
    cv2.circle(canvas, (600, 200), 150, 0, -1)
    fitted = fit(canvas, ImagePolicy(64, 256))
    rows, columns = np.nonzero(fitted < 128)
    assert abs(int(np.ptp(rows)) - int(np.ptp(columns))) <= 1, "the circle became an ellipse"


@given(SIZES, SIZES, st.integers(1, 128), st.integers(1, 300), st.sampled_from(["fit", "crop", "stretch", "none"]))
def test_images_of_one_size_are_exactly_that(height: int, width: int, high: int, wide: int, scale: Scale) -> None:
    policy = ImagePolicy(high, wide, scale=scale, fixed_width=True)
    fitted = fit(np.full((height, width), 200, np.uint8), policy)
    assert fitted.shape == (high, wide) and fitted.min() == fitted.max() == 200
    require_policy(fitted, policy)
    assert np.shares_memory(fit(fitted, policy), fitted), "a prepared image is not touched again"
    with pytest.raises(BadImage, match="not the dataset's"):
        require_policy(np.zeros((high, wide - 1), np.uint8), policy)


def test_an_image_is_padded_cropped_or_stretched_to_one_size() -> None:
    wide = np.zeros((40, 120), np.uint8)
    wide[:, 40:80] = 255
    wide[:, 110:] = 90
    made = {scale: fit(wide, ImagePolicy(20, 20, scale=scale, fixed_width=True)) for scale in ("fit", "crop", "stretch")}
    assert (made["crop"] == 255).all(), "the middle"
    columns = made["stretch"][10]
    assert (made["stretch"] == columns).all() and columns[:6].max() == 0 and columns[8:12].min() == 255 and columns[-1] == 90
    padded = made["fit"]
    assert (padded == padded[10]).all() and padded[0, 10] == 255, "the border goes on above and below"
    small = fit(np.arange(4, dtype=np.uint8).reshape(2, 2) * 80, ImagePolicy(64, 32, scale="fit", fixed_width=True))
    assert small.shape == (64, 32) and small[32, 0] != small[32, -1], "enlarged as far as the width goes"


def layered(suffix: str, mode: str) -> bytes:
    """Black throughout, of which the left column is opaque, the middle one half, the right one not there."""
    layer = Image.new("RGBA", (3, 4))
    for x, alpha in enumerate((255, 128, 0)):
        layer.paste((0, 0, 0, alpha), (x, 0, x + 1, 4))
    buffer = io.BytesIO()
    (layer.quantize(4) if mode == "P" else layer.convert(mode)).save(buffer, suffix, lossless=True)
    return buffer.getvalue()


@pytest.mark.parametrize(("suffix", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("PNG", "P"), ("WEBP", "RGBA"), ("TIFF", "RGBA")])
@pytest.mark.parametrize("background", [255, 100])
def test_what_is_transparent_shows_the_background(suffix: str, mode: str, background: int) -> None:
    gray = decode(layered(suffix, mode), "gray", background)
    assert np.abs(gray[2].astype(int) - [0, background * 127 // 255, background]).max() <= 1
    assert np.array_equal(decode(layered(suffix, mode), "rgb", background), np.stack([gray] * 3, axis=2))


def test_an_image_on_nothing_lies_on_white_by_default() -> None:
    assert decode(layered("PNG", "RGBA"), "gray")[:, 2].tolist() == [255] * 4


@given(st.binary(max_size=300), st.integers(0, 200))
def test_damage_of_a_transparent_image_raises_nothing_else(junk: bytes, index: int) -> None:
    data = bytearray(layered("PNG", "P"))
    data[index : index + len(junk)] = junk
    with contextlib.suppress(BadImage):
        assert decode(bytes(data), "gray").dtype == np.uint8
