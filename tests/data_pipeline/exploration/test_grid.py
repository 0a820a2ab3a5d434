import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.exploration.grid import GAP, Card, GridStyle, captioned_grid, draw_grid
from data_pipeline.exploration.text_layout import Word

CARD_WIDTH = GridStyle().card_width


def test_every_image_is_in_the_grid_in_reading_order() -> None:
    colors = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (200, 200, 10)]
    images = [np.full((40, 60, 3), color, np.uint8) for color in colors]
    grid = captioned_grid(images, ["a", "b", "c", "d"], columns=3)
    assert grid.dtype == np.uint8 and grid.shape[1] == GAP + 3 * (CARD_WIDTH + GAP)
    pixels = [np.argwhere((grid == color).all(axis=2)) for color in colors]
    assert all(len(found) > 1000 for found in pixels)
    centers = [tuple(found.mean(axis=0)) for found in pixels]
    assert centers[0][1] < centers[1][1] < centers[2][1]
    assert centers[3][0] > centers[0][0] and abs(centers[3][1] - centers[0][1]) < 1


def test_proportions_are_kept() -> None:
    grid = captioned_grid([np.zeros((30, 90, 3), np.uint8) + np.array([200, 0, 0], np.uint8)], [""])
    found = np.argwhere((grid == (200, 0, 0)).all(axis=2))
    height, width = found.max(axis=0) - found.min(axis=0) + 1
    assert width == pytest.approx(3 * height, abs=2)


def test_a_caption_is_drawn_and_a_longer_one_takes_more_room() -> None:
    image = np.full((40, 60), 255, np.uint8)
    none, short, long = (captioned_grid([image], [caption]) for caption in ("", "x ^ 2", "\\frac { a } { b } " * 5))
    assert (short != none).any() and short.shape == none.shape
    assert long.shape[0] > short.shape[0]


@settings(max_examples=25, deadline=None)
@given(
    shapes=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 400), st.integers(0, 400)),
            st.tuples(st.integers(1, 60), st.integers(1, 60), st.sampled_from([1, 3])),
        ),
        max_size=7,
    ),
    caption=st.text(max_size=200),
    columns=st.integers(1, 8),
)
def test_any_images_and_captions_make_a_grid(shapes: list[tuple[int, ...]], caption: str, columns: int) -> None:
    images = [np.zeros(shape, np.uint8) for shape in shapes]
    grid = captioned_grid(images, [caption] * len(images), columns)
    shown = max(1, min(columns, len(images)))
    assert grid.ndim == 3 and grid.shape[1:] == (GAP + shown * (CARD_WIDTH + GAP), 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.float32), "image 0 is float32"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
    ],
)
def test_what_is_not_an_image_is_named(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        captioned_grid([image], ["a"])


def test_captions_must_match_and_columns_be_positive() -> None:
    with pytest.raises(ValueError, match="1 images and 0 captions"):
        captioned_grid([np.zeros((4, 4), np.uint8)], [])
    with pytest.raises(ValueError, match="0 columns"):
        captioned_grid([], [], columns=0)


def pixels_of(grid: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((grid == color).all(axis=2).sum())


def test_headers_edges_and_words_are_drawn_in_their_colors() -> None:
    image = np.full((40, 60), 255, np.uint8)
    red, green, blue = (200, 10, 10), (10, 150, 10), (10, 10, 200)
    card = Card(image, [Word("head", red, bold=True)], [[Word("plain"), Word("word", blue, bold=True)]], edge=green)
    bare, full = draw_grid([Card(image)], 1), draw_grid([card], 1)
    assert full.shape[0] > bare.shape[0] and full.shape[1] == bare.shape[1]
    assert pixels_of(full, green) > 200
    assert all(pixels_of(full, color) > 5 and not pixels_of(bare, color) for color in (red, green, blue))


def test_a_line_of_one_pixel_can_be_seen() -> None:
    for shape in ((1, 900), (900, 1)):
        assert pixels_of(draw_grid([Card(np.zeros(shape, np.uint8))], 1), (0, 0, 0)) > 300


def test_the_grid_does_not_import_matplotlib() -> None:
    """It needs its fonts alone, and takes most of a second to import."""
    program = "import sys, data_pipeline.exploration.grid as g; g.captioned_grid([], []); print('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
