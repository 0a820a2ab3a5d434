import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import UserError
from data_pipeline.importers.crohme.render import MARGIN, PEN_RANGE, render_ink


def _line(*points: tuple[float, float]) -> np.ndarray:
    return np.array(points, dtype=np.float64)


def _circle(x: float, y: float, radius: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 60)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def _ink_box(image: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero((image < 128).any(axis=1))[0], np.nonzero((image < 128).any(axis=0))[0]
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def _thickness(image: np.ndarray, column: int) -> float:
    return float((255 - image[:, column].astype(float)).sum() / 255)


def test_ink_is_black_on_white_at_its_place() -> None:
    # An L: down the left side, then along the bottom.
    image = render_ink([_line((0, 0), (0, 100), (200, 100))])
    assert image.dtype == np.uint8
    assert image.shape == (128, 2 * 112 + 2 * MARGIN)
    assert image[MARGIN + 50, MARGIN] < 32 and image[-MARGIN, MARGIN + 150] < 32
    assert (image[:100, 30:] == 255).all()


def test_the_edges_are_smoothed() -> None:
    image = render_ink([_circle(0, 0, 10)])
    assert len(np.unique(image)) > 8


@pytest.mark.parametrize(
    ("strokes", "limits"),
    [
        ([_circle(0, 0, 5), _circle(100, 0, 5)], (128, 1024)),
        ([_circle(0, 0, 5), _circle(1000, 0, 5)], (128, 1024)),
        ([_circle(0, 0, 5), _circle(0, 1000, 5)], (128, 1024)),
        ([_circle(0, 0, 5), _circle(30, 0, 5)], (64, 100)),
    ],
)
def test_the_aspect_ratio_is_kept_within_both_limits(strokes: list[np.ndarray], limits: tuple[int, int]) -> None:
    image = render_ink(strokes, *limits)
    assert image.shape[0] <= limits[0] and image.shape[1] <= limits[1]
    assert image.shape[0] == limits[0] or image.shape[1] == limits[1]
    width, height = np.ptp(np.concatenate(strokes), axis=0)
    inner_height, inner_width = image.shape[0] - 2 * MARGIN, image.shape[1] - 2 * MARGIN
    if width > height:
        assert inner_height == pytest.approx(inner_width * height / width, abs=1)
    else:
        assert inner_width == pytest.approx(inner_height * width / height, abs=1)


@settings(deadline=None)
@given(scale=st.floats(1e-3, 1e6), x=st.floats(-1e6, 1e6), y=st.floats(-1e6, 1e6))
def test_units_and_origin_do_not_matter(scale: float, x: float, y: float) -> None:
    strokes = [_line((0, 0), (40, 30)), _circle(80, 20, 15), _line((120, 20))]
    moved = [stroke * scale + np.array([x, y]) * scale for stroke in strokes]
    difference = render_ink(strokes).astype(int) - render_ink(moved)
    assert np.abs(difference).mean() < 0.5


def test_a_single_point_is_a_disc() -> None:
    image = render_ink([_line((0, 0), (0, 100)), _line((50, 50))])
    dot = image[:, MARGIN + 30 :] < 128
    rows, columns = np.nonzero(dot)
    assert np.ptp(rows) == np.ptp(columns) and 3 <= np.ptp(rows) <= 8
    assert dot.sum() == pytest.approx(np.pi / 4 * (np.ptp(rows) + 1) ** 2, rel=0.25)
    assert (render_ink([_line((0, 0), (0, 100)), _line((50, 50), (50, 50))]) == image).all()


def test_a_lone_dot_is_a_small_disc_in_the_middle() -> None:
    image = render_ink([_line((3, 4))])
    top, bottom, left, right = _ink_box(image)
    assert image.shape == (128, 2 * MARGIN)
    assert bottom - top < 10 and right - left < 10
    assert abs((top + bottom) / 2 - 63.5) <= 1 and abs((left + right) / 2 - 7.5) <= 1


@pytest.mark.parametrize(
    "strokes",
    [
        [_line((0, 0), (50, 1), (100, 0))],
        [_line((0, 0), (100, 1)), _line((0, 30), (100, 30))],
        [_line((0, 0)), _line((50, 1)), _line((100, 0))],
    ],
    ids=["minus", "equals", "dots"],
)
def test_flat_ink_is_not_blown_up(strokes: list[np.ndarray]) -> None:
    image = render_ink(strokes)
    assert image.shape == (128, 2 * 112 + 2 * MARGIN)
    top, bottom, _, _ = _ink_box(image)
    assert abs((top + bottom) / 2 - 63.5) <= 2
    assert _thickness(image, 120) <= 2 * 1.5 * PEN_RANGE[1] + 2


@pytest.mark.parametrize(("symbols", "pen"), [(1, PEN_RANGE[1]), (40, PEN_RANGE[0])])
def test_the_pen_follows_the_strokes_within_its_range(symbols: int, pen: float) -> None:
    image = render_ink([_line((x * 30.0, 0), (x * 30.0 + 20, 0), (x * 30.0 + 20, 20)) for x in range(symbols)])
    column = MARGIN + round(10 * (image.shape[1] - 2 * MARGIN) / (symbols * 30 - 10))
    assert _thickness(image, column) == pytest.approx(pen, abs=0.35)


@pytest.mark.parametrize(("height", "width"), [(16, 1024), (128, 10)])
def test_limits_without_room_are_refused(height: int, width: int) -> None:
    with pytest.raises(UserError, match=f"{height} x {width}"):
        render_ink([_circle(0, 0, 1)], height, width)


_POINTS = st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), min_size=1, max_size=6)


@settings(deadline=None)
@given(st.lists(_POINTS, min_size=1, max_size=4), st.integers(17, 200), st.integers(17, 300))
def test_any_ink_fits_and_shows(points: list[list[tuple[float, float]]], max_height: int, max_width: int) -> None:
    image = render_ink([_line(*stroke) for stroke in points], max_height, max_width)
    assert image.shape[0] <= max_height and image.shape[1] <= max_width
    assert image.min() < 200
    assert (image[0] == 255).all() and (image[:, 0] == 255).all() and (image[-1] == 255).all()


def test_with_a_stroke_size_symbols_are_of_one_size_and_formulas_of_many_heights() -> None:
    box = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]], float)
    line = [box + np.array([15, 0]) * index for index in range(3)]
    fraction = [*line, *[stroke + np.array([0, 30]) for stroke in line]]
    one, two = (render_ink(strokes, 256, 512, stroke_size=20) for strokes in (line, fraction))
    assert one.shape == (20 + 2 * MARGIN, 80 + 2 * MARGIN) and two.shape == (80 + 2 * MARGIN, 80 + 2 * MARGIN)
    np.testing.assert_array_equal(render_ink([stroke * 1000 for stroke in line], 256, 512, stroke_size=20), one)
    assert render_ink(fraction, 40, 512, stroke_size=20).shape[0] == 40, "the limits hold"
