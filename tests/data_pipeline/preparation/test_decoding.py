"""What a file's samples mean, against arithmetic of our own: every depth, kind of transparency, page and orientation."""

from __future__ import annotations

import io
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_pipeline.preparation.images import BadImage, decode, page_count
from tests.support.image_encoders import PNG_CHANNELS, packed, png, tiff, tiff_tags

WEIGHTS = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
GRAY = np.arange(60, dtype=np.int64).reshape(6, 10) * 4 + 3


def expected(color: np.ndarray, alpha: np.ndarray, background: int) -> np.ndarray:
    """Gray levels of colors (H, W, 1 or 3) from 0 to 1 with an opacity from 0 to 1 (H, W) over a background."""
    laid = color * alpha[..., None] + background / 255 * (1 - alpha[..., None])
    return 255 * (laid @ WEIGHTS if laid.shape[2] == 3 else laid[..., 0])


def assert_close(data: bytes, reference: np.ndarray, background: int = 255, tolerance: float = 2.6) -> None:
    gray = decode(data, "gray", background)
    assert gray.dtype == np.uint8 and gray.shape == reference.shape
    assert np.abs(gray - reference).max() <= tolerance
    assert np.abs(decode(data, "rgb", background) @ WEIGHTS - reference).max() <= tolerance


PNG_KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (4, 16), (6, 8)]


@settings(max_examples=120, deadline=None)
@given(st.sampled_from([*PNG_KINDS, (6, 16)]), st.integers(0, 2**32 - 1), st.booleans(), st.sampled_from([255, 0, 90]))
def test_a_png_of_any_depth_and_transparency_means_what_it_says(
    kind: tuple[int, int], seed: int, transparent: bool, background: int
) -> None:
    (color_type, depth), rng = kind, np.random.default_rng(seed)
    # Few values, neighbors in the lowest bit among them, so that one that is transparent occurs, and one that almost is.
    values = rng.integers(0, 2**depth, 3)
    values = np.concatenate([values, values ^ 1])
    samples = rng.choice(values, (5, 7, PNG_CHANNELS[color_type]))
    palette, transparency, alpha = None, b"", np.ones((5, 7))
    if color_type == 3:
        palette = rng.integers(0, 256, (2**depth, 3))
        color = palette[samples[..., 0]] / 255
        if transparent:
            alphas = rng.integers(0, 256, rng.integers(1, 2**depth + 1))
            transparency = alphas.astype(np.uint8).tobytes()
            alpha = np.append(alphas, [255] * 2**depth)[samples[..., 0]] / 255
    elif color_type in (4, 6):
        color, alpha = samples[..., :-1] / (2**depth - 1), samples[..., -1] / (2**depth - 1)
    else:
        color = samples / (2**depth - 1)
        if transparent:
            key = samples[2, 3]
            transparency = key.astype(">u2").tobytes()
            alpha = (samples != key).any(axis=2).astype(float)
    assert_close(png(samples, depth, color_type, palette, transparency), expected(color, alpha, background), background)


@pytest.mark.parametrize(
    ("order", "bits", "photometric"),
    [
        (order, bits, photometric)
        for order in "<>"
        for bits in (1, 4, 8, 16)
        for photometric in (0, 1)
        if (order, bits, photometric) != (">", 16, 0)  # of which Pillow knows nothing: it is refused
    ],
)
def test_a_gray_tiff_is_scaled_and_black_is_black(order: str, bits: int, photometric: int) -> None:
    largest = 2**bits - 1
    samples = np.random.default_rng(0).integers(0, largest + 1, (6, 16))
    light = samples / largest if photometric else 1 - samples / largest
    strip = b"".join(packed(row, bits, order) for row in samples)
    assert_close(tiff(strip, tiff_tags(16, 6, [bits], photometric), order=order), 255 * light, tolerance=0.51)


def test_twelve_bits_are_of_4095() -> None:
    samples = np.array([[0, 4095, 2048, 1000]])
    bits = (samples[0][:, None] >> np.arange(11, -1, -1)) & 1
    strip = np.packbits(bits.ravel().astype(np.uint8)).tobytes()
    assert decode(tiff(strip, tiff_tags(4, 1, [12])), "gray").tolist() == [[0, 255, 128, 62]]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("scale", "bits", "sample_format", "kind"),
    [(1 / 255, 32, 3, "f4"), (1, 32, 3, "f4"), (1, 32, 2, "i4"), (257, 32, 2, "i4"), (257, 16, 1, "u2")],
)
def test_floats_and_wide_integers_are_scaled_from_the_range_that_holds_them(
    scale: float, bits: int, sample_format: int, kind: str, order: str
) -> None:
    samples = (GRAY * scale).astype(order + kind)
    data = tiff(samples.tobytes(), tiff_tags(10, 6, [bits], sample_format=sample_format), order=order)
    assert np.array_equal(decode(data, "gray"), GRAY)


def test_floats_of_which_white_is_zero_are_inverted() -> None:
    samples = (GRAY / 255).astype("<f4")
    data = tiff(samples.tobytes(), tiff_tags(10, 6, [32], photometric=0, sample_format=3))
    assert np.array_equal(decode(data, "gray"), 255 - GRAY)


@pytest.mark.parametrize(
    ("values", "kind", "sample_format", "reason"),
    [
        ([0, np.nan], "<f4", 3, "NaN or infinite"),
        ([0, np.inf], "<f4", 3, "NaN or infinite"),
        ([0, 300], "<f4", 3, "floats from 0 to 300, of which white is unknown; save it with samples 0 to 1 or 0 to 255"),
        ([-0.5, 1], "<f4", 3, "floats from -0.5 to 1"),
        ([0, 70000], "<i4", 2, "integers from 0 to 70000"),
        ([-1, 5], "<i4", 2, "integers from -1 to 5"),
    ],
)
def test_samples_in_no_known_range_are_refused_by_name(values: list[float], kind: str, sample_format: int, reason: str) -> None:
    data = tiff(np.array(values).astype(kind).tobytes(), tiff_tags(2, 1, [32], sample_format=sample_format))
    with pytest.raises(BadImage, match=reason):
        decode(data, "gray")


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize(("extra", "meaning"), [(1, "premultiplied"), (2, "straight")])
def test_a_tiff_says_whether_its_colors_are_multiplied_by_their_opacity(depth: int, extra: int, meaning: str) -> None:
    rng = np.random.default_rng(3)
    color, alpha = rng.random((6, 10, 3)), rng.random((6, 10))
    stored = color * alpha[..., None] if meaning == "premultiplied" else color
    samples = np.rint(np.concatenate([stored, alpha[..., None]], axis=2) * (2**depth - 1)).astype(f"<u{depth // 8}")
    data = tiff(samples.tobytes(), tiff_tags(10, 6, [depth] * 4, photometric=2, extra=[extra]))
    assert_close(data, expected(color, alpha, 255), tolerance=2.5)


def test_gray_and_opacity_of_a_tiff() -> None:
    gray, alpha = np.random.default_rng(4).integers(0, 256, (2, 6, 10))
    data = tiff(np.stack([gray, alpha], 2).astype(np.uint8).tobytes(), tiff_tags(10, 6, [8, 8], extra=[2]))
    assert_close(data, expected(gray[..., None] / 255, alpha / 255, 255))
    palette = np.random.default_rng(5).integers(0, 256, (256, 3))
    colors = {320: ("H", (palette.T * 257).ravel().tolist())}
    data = tiff(np.stack([gray, alpha], 2).astype(np.uint8).tobytes(), tiff_tags(10, 6, [8, 8], 3, extra=[2], more=colors))
    assert_close(data, expected(palette[gray] / 255, alpha / 255, 255))


def test_print_and_video_colors_of_a_tiff() -> None:
    rng = np.random.default_rng(6)
    cmyk = rng.integers(0, 256, (6, 10, 4))
    light = (1 - cmyk[..., :3] / 255) * (1 - cmyk[..., 3:] / 255)
    assert_close(tiff(cmyk.astype(np.uint8).tobytes(), tiff_tags(10, 6, [8] * 4, 5)), 255 * light @ WEIGHTS)
    video = np.dstack([rng.integers(80, 160, (6, 10)), rng.integers(110, 146, (6, 10, 2))])
    data = tiff(video.astype(np.uint8).tobytes(), tiff_tags(10, 6, [8] * 3, 6))
    assert_close(data, video[..., 0].astype(float))
    lightness = np.linspace(0, 255, 60).reshape(6, 10)  # of 0 to 100; a and b 0: gray
    lab = np.dstack([lightness, np.zeros((6, 10, 2))]).astype(np.uint8)
    star = lab[..., 0] / 255 * 100
    linear = np.where(star > 8, ((star + 16) / 116) ** 3, star / 903.3)
    srgb = np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)
    assert_close(tiff(lab.tobytes(), tiff_tags(10, 6, [8] * 3, 8)), 255 * srgb, tolerance=3)


def test_a_jpeg_for_print_is_not_inverted() -> None:
    smooth = cv2.resize(np.random.default_rng(7).integers(0, 256, (3, 4), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
    buffer = io.BytesIO()
    Image.fromarray(smooth).convert("RGB").convert("CMYK").save(buffer, "JPEG", quality=98)
    peer = cv2.imdecode(np.frombuffer(buffer.getvalue(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.abs(decode(buffer.getvalue(), "gray").astype(int) - smooth).max() < 12
    assert np.abs(decode(buffer.getvalue(), "gray").astype(int) - peer).max() < 12


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff", ".jp2", ".pgm"])
def test_opencv_agrees_about_what_is_opaque(suffix: str) -> None:
    pixels = cv2.GaussianBlur(np.random.default_rng(8).integers(0, 256, (40, 61, 3), np.uint8), (0, 0), 3)
    data = cv2.imencode(suffix, pixels if suffix != ".pgm" else pixels[..., 0])[1]
    peer = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    assert np.abs(decode(data.tobytes(), "rgb").astype(int) - peer).max() <= 3
    gray = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert np.abs(decode(data.tobytes(), "gray").astype(int) - gray).max() <= 2


def test_a_transparent_index_of_a_gif_shows_the_background() -> None:
    image = Image.new("P", (4, 3), 1)
    image.putpalette([10, 20, 30, 0, 0, 0, 200, 200, 200])
    image.putpixel((2, 1), 0)
    buffer = io.BytesIO()
    image.save(buffer, "GIF", transparency=0)
    gray = decode(buffer.getvalue(), "gray")
    assert gray[1, 2] == 255 and gray.sum() == 255


# EXIF orientation: what has to be done to the stored pixels, in words of the standard.
TURNS = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: np.rot90(p, 2),
    4: lambda p: p[::-1],
    5: lambda p: p.T,
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).T,
    8: lambda p: np.rot90(p, 1),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_every_format_stands_as_its_orientation_says(orientation: int) -> None:
    stored = np.zeros((16, 24), np.uint8)
    stored[:8, :8] = 255
    stored[8:, 16:] = 120
    upright = TURNS[orientation](stored)
    exif = Image.Exif()
    exif[274] = orientation
    for mode in ("L", "RGBA"):
        for suffix in ("PNG", "JPEG", "WEBP", "TIFF"):
            if (mode, suffix) == ("RGBA", "JPEG"):
                continue
            buffer = io.BytesIO()
            Image.fromarray(stored).convert(mode).save(buffer, suffix, exif=exif, quality=100, lossless=True)
            found = decode(buffer.getvalue(), "gray").astype(int)
            assert found.shape == upright.shape and np.abs(found - upright).max() <= 2, f"{suffix} {mode}"


def test_damaged_exif_turns_nothing() -> None:
    buffer = io.BytesIO()
    Image.fromarray(GRAY.astype(np.uint8)).save(buffer, "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert np.array_equal(decode(buffer.getvalue(), "gray"), GRAY)


def page(value: int, subfile: int = 0) -> tuple[bytes, dict[int, tuple[str, list[int]]]]:
    tags = tiff_tags(4, 3, [8], more={254: ("I", [subfile])})
    return bytes([value] * 12), tags


@pytest.mark.parametrize("order", "<>")
def test_pages_of_a_tiff_are_counted_and_chosen(order: str) -> None:
    data = tiff(*page(10), *page(99, subfile=1), *page(20), *page(98, subfile=4), *page(30), order=order)
    assert page_count(data) == 3, "a thumbnail or a mask was counted"
    with pytest.raises(BadImage, match="has 3 pages; split them"):
        decode(data, "gray")
    assert [int(decode(data, "gray", page=number)[0, 0]) for number in range(3)] == [10, 20, 30]
    for number in (3, -1):
        with pytest.raises(BadImage, match=f"has 3 pages, number {number} is not among them"):
            decode(data, "gray", page=number)


def test_one_page_beside_its_thumbnail_needs_no_choice() -> None:
    data = tiff(*page(99, subfile=1), *page(20))
    assert page_count(data) == 1
    assert decode(data, "gray")[0, 0] == 20


def test_directories_that_lead_back_end_the_count() -> None:
    data = bytearray(tiff(*page(1), *page(2)))
    data[-4:] = data[4:8]
    assert page_count(bytes(data)) == 2


@pytest.mark.parametrize("suffix", ["GIF", "WEBP", "PNG", "MPO", "AVIF"])
def test_an_animation_is_its_first_frame_and_one_page(suffix: str) -> None:
    frames = [Image.new("RGB", (64, 64), (level,) * 3) for level in (40, 200)]
    buffer = io.BytesIO()
    frames[0].save(buffer, suffix, save_all=True, append_images=frames[1:])
    assert page_count(buffer.getvalue()) == 1
    assert np.abs(decode(buffer.getvalue(), "gray").astype(int) - 40).max() <= 3
    assert np.array_equal(decode(buffer.getvalue(), "gray", page=0), decode(buffer.getvalue(), "gray"))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"%PDF-1.7", "a PDF: export its pages as PNG"),
        (b"\xef\xbb\xbf <svg xmlns=''/>", "SVG"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC: convert it"),
        (b"DDS \x7c\0\0\0", "DDS"),
        (b"II*\0\x08\0\0\0", "a TIFF that is damaged"),
        (b"", "empty file"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, reason: str) -> None:
    for read in (page_count, lambda data: decode(data, "gray")):
        with pytest.raises(BadImage, match=reason):
            read(data)


def test_a_png_with_a_wrong_checksum_is_refused_whatever_its_kind() -> None:
    for color_type, channels in ((0, 1), (6, 4)):
        data = bytearray(png(np.full((4, 4, channels), 7), 8, color_type))
        data[data.index(b"IDAT") + 12] ^= 1
        with pytest.raises(BadImage, match="a checksum is wrong"):
            decode(bytes(data), "gray")


def test_a_size_is_refused_before_memory_is_taken() -> None:
    huge = [
        tiff(b"", tiff_tags(60000, 60000, [8])),
        b"RIFF\x1e\0\0\0WEBPVP8X\n\0\0\0\0\0\0\0" + b"\xfe\x3f\0" * 2,  # claims 16383x16383
        b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\x08\x01\0\0;",
        b"P5 60000 60000 255\n",
    ]
    for data in huge:
        with pytest.raises(BadImage):
            decode(data, "gray")


def test_damage_of_any_format_is_a_bad_image_and_makes_no_noise() -> None:
    """In a process of its own, since pytest keeps warnings to itself."""
    command = [sys.executable, "-m", "tests.support.damage", "1500", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]
    read, refused = map(int, done.stdout.split())
    assert read > 50 and refused > 500
