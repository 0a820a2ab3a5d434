"""What is drawn is looked at through its pixels: what must be seen is there, and odd input is drawn, too."""

import warnings

import numpy as np
import pytest

from trainers.report.attention_strip import draw_attention_strip, overlaid
from trainers.report.learning_curves import curve, draw_learning_curves, list_panels
from trainers.report.sample_grid import RIGHT, WRONG, draw_sample_grid
from trainers.tasks.metrics.sequence import HEADLINES
from trainers.tasks.presentation import AttentionExample, Example, Image, MetricColumn


def paper(rows: int = 32, columns: int = 96, channels: int = 0) -> Image:
    shape = (rows, columns, channels) if channels else (rows, columns)
    return np.full(shape, 255, np.uint8)


def pixels_of(drawn: Image, color: tuple[int, int, int]) -> int:
    """How many pixels have exactly this color."""
    return int(np.all(drawn == color, axis=2).sum())


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
def test_any_history_gives_learning_curves(history: list[dict[str, float]]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = draw_learning_curves(history, HEADLINES)
    assert drawn.dtype == np.uint8 and drawn.ndim == 3 and drawn.std() > 0


def test_a_curve_skips_gaps_and_is_in_the_order_of_steps() -> None:
    history = [
        {"step": 20, "val/loss": 2.0},
        {"step": 10, "val/loss": 3.0},
        {"step": 30, "train/loss": 1.0},
        {"step": 40, "val/loss": float("inf")},
    ]
    assert curve(history, "val/loss") == ([10.0, 20.0], [3.0, 2.0])


def test_each_kind_of_value_gets_a_panel() -> None:
    one = draw_learning_curves([{"step": 1, "train/loss": 1.0}])
    row = {"step": 1, "train/loss": 1.0, "val/wer": 0.5, "data/images_per_s": 10.0, "data/wait_share": 0.1}
    four = draw_learning_curves([row], HEADLINES)
    assert four.shape[0] == 2 * one.shape[0] and four.shape[1] == 2 * one.shape[1]


def test_validation_is_drawn_as_the_task_says() -> None:
    row = {
        "val/exact_match": 0.5,
        "val/wer": 0.4,
        "val/score": 0.5,
        "val/loss": 2.0,
        "train/loss": 1.0,
        "val/within_1": 0.6,
        "val/count": 9.0,
    }
    row |= {"val/a/b/exact_match": 0.4, "val/a/b/wer": 0.3}
    panels = {panel.title: list(panel.labels.items()) for panel in list_panels([row], HEADLINES)}
    assert panels == {
        "Loss": [("train/loss", "train"), ("val/loss", "val")],
        "Validation": [
            ("val/exact_match", "Exact match"),
            ("val/a/b/exact_match", "Exact match, a/b"),  # of sources the main metric alone
            ("val/wer", "WER"),
        ],
        "Validation: Score": [("val/score", "Score")],  # no share of one: on an axis of its own
    }
    error = MetricColumn("mean_error", "off by", ".2f", "min", "Mean error")
    assert [panel.title for panel in list_panels([{"val/mean_error": 1.0}], [error])] == ["Validation: Mean error"]
    assert list_panels([row], [])[1:] == []


@pytest.mark.parametrize("source", ["$\\frac {", "_hidden", "long" * 50])
def test_any_name_of_a_source_can_stand_in_a_legend(source: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = {"val/exact_match": 0.5, f"val/{source}/exact_match": 0.5}
        assert draw_learning_curves([row], HEADLINES).shape == draw_learning_curves([{"val/wer": 0.5}], HEADLINES).shape


def test_the_sums_of_an_epoch_are_not_drawn_beside_its_intervals() -> None:
    rows = [{"step": 1, "data/images_per_s": 9.0, "data/wait_share": 0.1}, {"step": 2, "epoch/images_per_s": 9.0}]
    assert list_panels(rows, HEADLINES) == list_panels(rows[:1], HEADLINES)
    assert [list(panel.labels) for panel in list_panels(rows, [])] == [["data/images_per_s"], ["data/wait_share"]]


def test_right_examples_are_green_and_wrong_words_red() -> None:
    right = draw_sample_grid([Example("a", paper(), "x + y", "x  + y")])
    assert pixels_of(right, RIGHT) > 100 and pixels_of(right, WRONG) == 0
    wrong = draw_sample_grid([Example("a", paper(), "x + y", "x - y")])
    assert pixels_of(wrong, WRONG) > 100 and pixels_of(wrong, RIGHT) == 0
    # More wrong words, more red: the words themselves are colored, not only the edge of the card.
    worse = draw_sample_grid([Example("a", paper(), "x + y", "8 8 8 8 8 8 8 8")])
    assert pixels_of(worse, WRONG) > pixels_of(wrong, WRONG) + 20


def test_the_task_may_say_what_is_correct() -> None:
    assert pixels_of(draw_sample_grid([Example("a", paper(), "x y", "y x", verdict=True)]), RIGHT) > 100


def test_the_image_itself_is_to_be_seen() -> None:
    image = paper(40, 80, 3)
    image[:] = (12, 34, 200)
    assert pixels_of(draw_sample_grid([Example("a", image, "x", "x")]), (12, 34, 200)) > 1000


@pytest.mark.parametrize("text", ["", "$ x _ 1 $", "\\frac { $", "日本 語", "a\nb\tc \x00", "\\" * 400, "^ _ % & # ~ $$"])
def test_any_text_can_be_drawn(text: str) -> None:
    examples = [Example(text, paper(), text, "x", source=text), Example("b", paper(), "x", text)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw_sample_grid(examples).shape[1] == draw_sample_grid([Example("", paper(), "", "")] * 2).shape[1]
        strips = [draw_attention_strip(AttentionExample(paper(), [token], np.ones((1, 2, 3)))) for token in (text, "x")]
    assert strips[0].shape == strips[1].shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (0, 0), (3000, 2000, 3)])
def test_images_of_any_shape_are_drawn(shape: tuple[int, ...]) -> None:
    image = np.zeros(shape, np.uint8)
    for drawn in (
        draw_sample_grid([Example("a", image, "x", "y")]),
        draw_attention_strip(AttentionExample(image, ["x"], np.ones((1, 2, 3)))),
    ):
        assert max(drawn.shape) < 1000 and drawn.std() > 0


def test_no_examples_and_no_tokens_are_drawn_too() -> None:
    assert draw_sample_grid([]).ndim == 3
    assert draw_attention_strip(AttentionExample(paper(), [], np.zeros((0, 2, 3)))).size > 1000


def test_a_strip_shows_the_first_tokens_in_reading_order() -> None:
    maps = np.zeros((100, 1, 2))
    maps[0, 0, 1] = maps[1:, 0, 0] = 1
    some, all_of_them = (draw_attention_strip(AttentionExample(paper(), ["x"] * 100, maps), n) for n in (2, 100))
    blue = some[:, :, 2].astype(int)  # the glow has none
    left, right = blue[:, : some.shape[1] // 2], blue[:, some.shape[1] // 2 :]
    assert left[:, : left.shape[1] // 2].sum() > left[:, left.shape[1] // 2 :].sum(), "the first looks to the right"
    assert right[:, : right.shape[1] // 2].sum() < right[:, right.shape[1] // 2 :].sum()
    assert all_of_them.shape[0] > 5 * some.shape[0]


def test_maps_that_do_not_fit_the_tokens_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4, 8\).*3 tokens"):
        draw_attention_strip(AttentionExample(paper(), ["a", "b", "c"], np.ones((2, 4, 8))))


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


def test_nothing_of_a_photo_has_color_but_what_glows() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    shown = overlaid(image, np.array([[0.0, 1.0], [0.0, 1.0]])).astype(int)
    assert not np.ptp(shown[:, :8], axis=2).any() and (np.ptp(shown[:, 24:], axis=2) > 40).mean() > 0.9


def test_light_ink_on_black_glows_as_well() -> None:
    image = np.zeros((10, 20), np.uint8)
    image[5] = 255
    shown = overlaid(image, np.ones((1, 1)))
    assert shown[0, 0, 0] > 200 and shown[0, 0, 2] < 60
    assert (shown[5] == 255).all()
