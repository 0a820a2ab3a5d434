"""The pictures are looked at through their pixels: what must be seen is there, and odd input gives a picture too."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from trainers.report.figure import RIGHT, WRONG

from trainers.report.attention_strip import draw_attention_sheet, overlaid
from trainers.report.learning_curves import _panels, curve, draw_learning_curves
from trainers.report.record import AttentionExample, Example, Image
from trainers.report.sample_grid import draw_sample_sheet


def paper(rows: int = 32, columns: int = 96, channels: int = 0) -> Image:
    shape = (rows, columns, channels) if channels else (rows, columns)
    return np.full(shape, 255, np.uint8)


def read(path: Path) -> Image:
    """The pixels of a PNG, (H, W, 3) in BGR."""
    picture = cv2.imread(str(path))
    assert picture is not None, path
    return np.asarray(picture, np.uint8)


def pixels_of(path: Path, colour: str) -> int:
    """How many pixels of a PNG have exactly this colour, #rrggbb."""
    wanted = np.array([int(colour[start : start + 2], 16) for start in (5, 3, 1)])
    return int(np.all(read(path) == wanted, axis=2).sum())


@pytest.mark.parametrize(
    "history",
    [
        [],
        [{}],
        [{"step": 1.0}],
        [{"step": 1.0, "train/loss": float("nan")}],
        [{"step": 5.0, "train/loss": 0.0}],
        [{"step": 1.0, "data/images_per_s": 0.0, "data/wait_share": 0.0}],
        [{"train/loss": 2.0}, {"train/loss": 1.0}],
        [{"step": 10.0 * i, "train/loss": 90.0 / (i + 1), "val/wer": 3.0 - i / 40, "train/lr": 0.0} for i in range(90)],
    ],
)
def test_any_history_gives_learning_curves(tmp_path: Path, history: list[dict[str, float]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = draw_learning_curves(history, tmp_path / "curves.png")
    assert read(path).size


def test_a_curve_skips_gaps_and_is_in_the_order_of_steps() -> None:
    history = [
        {"step": 20, "val/loss": 2.0},
        {"step": 10, "val/loss": 3.0},
        {"step": 30, "train/loss": 1.0},
        {"step": 40, "val/loss": float("inf")},
    ]
    assert curve(history, "val/loss") == ([10.0, 20.0], [3.0, 2.0])


def test_each_kind_of_figure_gets_a_panel(tmp_path: Path) -> None:
    one = read(draw_learning_curves([{"step": 1, "train/loss": 1.0}], tmp_path / "one.png"))
    row = {"step": 1, "train/loss": 1.0, "val/wer": 0.5, "data/images_per_s": 10.0, "data/wait_share": 0.1}
    four = read(draw_learning_curves([row], tmp_path / "four.png"))
    assert four.shape[0] == 2 * one.shape[0] and four.shape[1] == 2 * one.shape[1]


def test_an_epochs_sums_are_not_drawn_beside_its_intervals() -> None:
    rows = [{"step": 1, "data/images_per_s": 9.0, "data/wait_share": 0.1}, {"step": 2, "epoch/images_per_s": 9.0}]
    assert _panels([rows[0]]) == _panels(rows)
    assert [keys for _, keys in _panels(rows)] == [["data/images_per_s"], ["data/wait_share"]]


def test_right_examples_are_green_and_wrong_tokens_red(tmp_path: Path) -> None:
    right = draw_sample_sheet([Example("a", paper(), "x + y", "x  + y")], tmp_path / "right.png")
    assert pixels_of(right, RIGHT) > 100 and pixels_of(right, WRONG) == 0
    wrong = draw_sample_sheet([Example("a", paper(), "x + y", "x - y")], tmp_path / "wrong.png")
    assert pixels_of(wrong, WRONG) > 100 and pixels_of(wrong, RIGHT) == 0
    # More wrong tokens, more red: the tokens themselves are coloured, not only the tile's mark.
    worse = draw_sample_sheet([Example("a", paper(), "x + y", "8 8 8 8 8 8 8 8")], tmp_path / "worse.png")
    assert pixels_of(worse, WRONG) > pixels_of(wrong, WRONG) + 20


def test_the_image_itself_is_to_be_seen(tmp_path: Path) -> None:
    image = paper(40, 80, 3)
    image[:] = (12, 34, 200)
    path = draw_sample_sheet([Example("a", image, "x", "x")], tmp_path / "sheet.png")
    assert pixels_of(path, "#0c22c8") > 1000


@pytest.mark.parametrize(
    "text", ["", "$ x _ 1 $", "\\frac { $", "$ \\undefined {", "日本 語", "a\nb\tc \x00", "\\" * 400, "^ _ % & # ~ $$"]
)
def test_text_is_never_taken_for_mathtext(tmp_path: Path, text: str) -> None:
    examples = [Example(text, paper(), text, "x", source=text), Example("b", paper(), "x", text)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_sample_sheet(examples, tmp_path / "sheet.png").stat().st_size
        attention = AttentionExample(paper(), [text], np.ones((1, 2, 3)))
        assert draw_attention_sheet(attention, tmp_path / "attention.png").stat().st_size


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (0, 0), (3000, 2000, 3)])
def test_images_of_any_shape_are_drawn(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = np.zeros(shape, np.uint8)
    assert draw_sample_sheet([Example("a", image, "x", "y")], tmp_path / "sheet.png").stat().st_size
    path = draw_attention_sheet(AttentionExample(image, ["x"], np.ones((1, 2, 3))), tmp_path / "attention.png")
    assert max(read(path).shape) < 1000


def test_no_examples_and_no_tokens_give_pictures_too(tmp_path: Path) -> None:
    assert draw_sample_sheet([], tmp_path / "sheet.png").is_file()
    empty = AttentionExample(paper(), [], np.zeros((0, 2, 3)))
    assert draw_attention_sheet(empty, tmp_path / "attention.png").is_file()


def test_maps_that_do_not_fit_the_tokens_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(2, 4, 8\).*3 tokens"):
        draw_attention_sheet(AttentionExample(paper(), ["a", "b", "c"], np.ones((2, 4, 8))), tmp_path / "x.png")


def test_the_overlay_glows_where_the_map_is_high_and_keeps_the_ink() -> None:
    image = paper(40, 120)
    image[:, 60] = 0
    attention = np.zeros((4, 12))
    attention[1:3, 1] = 0.01  # scaled to its own maximum, so a weak map is seen as well
    shown = overlaid(image, attention)
    assert shown.shape == (40, 120, 3) and shown.dtype == np.uint8
    assert shown[20, 15, 2] < 60 and shown[20, 15, 0] > 200  # no longer white: red and yellow, no blue
    assert (shown[20, 110] == 255).all()
    assert (shown[:, 60] == 0).all()


@pytest.mark.parametrize("level", [0, 255])
def test_a_map_of_nothing_leaves_the_image(level: int) -> None:
    image = np.full((10, 20), level, np.uint8)
    for attention in (np.zeros((2, 4)), np.full((2, 4), np.nan), -np.ones((2, 4)), np.zeros((0, 0))):
        assert (overlaid(image, attention) == level).all()


def test_light_ink_on_black_glows_as_well() -> None:
    image = np.zeros((10, 20), np.uint8)
    image[5] = 255
    shown = overlaid(image, np.ones((1, 1)))
    assert shown[0, 0, 0] > 200 and shown[0, 0, 2] < 60
    assert (shown[5] == 255).all()
