import numpy as np
import pytest
from data_pipeline.exploration.contact_sheet import GAP, TILE_WIDTH, contact_sheet
from hypothesis import given, settings
from hypothesis import strategies as st


def test_every_image_is_on_the_sheet_in_reading_order() -> None:
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (200, 200, 10)]
    images = [np.full((40, 60, 3), colour, np.uint8) for colour in colours]
    sheet = contact_sheet(images, ["a", "b", "c", "d"], columns=3)
    assert sheet.dtype == np.uint8 and sheet.shape[1] == GAP + 3 * (TILE_WIDTH + GAP)
    places = [np.argwhere((sheet == colour).all(axis=2)) for colour in colours]
    assert all(len(place) > 1000 for place in places)
    centres = [tuple(place.mean(axis=0)) for place in places]
    assert centres[0][1] < centres[1][1] < centres[2][1]
    assert centres[3][0] > centres[0][0] and abs(centres[3][1] - centres[0][1]) < 1


def test_proportions_are_kept() -> None:
    sheet = contact_sheet([np.zeros((30, 90, 3), np.uint8) + np.array([200, 0, 0], np.uint8)], [""])
    place = np.argwhere((sheet == (200, 0, 0)).all(axis=2))
    height, width = place.max(axis=0) - place.min(axis=0) + 1
    assert width == pytest.approx(3 * height, abs=2)


def test_a_caption_is_drawn_and_a_longer_one_takes_more_room() -> None:
    image = np.full((40, 60), 255, np.uint8)
    none, short, long = (contact_sheet([image], [caption]) for caption in ("", "x ^ 2", "\\frac { a } { b } " * 5))
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
def test_any_images_and_captions_make_a_sheet(shapes: list[tuple[int, ...]], caption: str, columns: int) -> None:
    images = [np.zeros(shape, np.uint8) for shape in shapes]
    sheet = contact_sheet(images, [caption] * len(images), columns)
    shown = max(1, min(columns, len(images)))
    assert sheet.ndim == 3 and sheet.shape[1:] == (GAP + shown * (TILE_WIDTH + GAP), 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.float32), "image 0 is float32"),
        (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
    ],
)
def test_what_is_no_picture_is_named(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        contact_sheet([image], ["a"])


def test_captions_must_match_and_columns_be_positive() -> None:
    with pytest.raises(ValueError, match="1 images and 0 captions"):
        contact_sheet([np.zeros((4, 4), np.uint8)], [])
    with pytest.raises(ValueError, match="0 columns"):
        contact_sheet([], [], columns=0)
