"""Drawings of a report: of any number of classes and any names, not wider than the page, and nothing on a page unescaped."""

import math
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.trainers.report.test_page import HOSTILE, Page
from trainers.report.bars_plot import lowest
from trainers.report.drawings import draw
from trainers.report.gallery import draw_gallery
from trainers.report.matrix_plot import draw_matrix, strongest_blocks
from trainers.report.metrics_table import per_class_text
from trainers.report.plot_style import DPI, HALF_WIDTH, WHOLE_WIDTH
from trainers.report.record import RunReport
from trainers.report.share_plots import wilson_interval
from trainers.report.write import write_report
from trainers.tasks.inspection.confusion import confusion_matrices
from trainers.tasks.presentation import (
    Bars,
    Curves,
    Drawing,
    Gallery,
    Image,
    Matrix,
    NotedImage,
    Reliability,
    Section,
    Table,
)

HALF, WHOLE = (int(width * DPI) for width in (HALF_WIDTH, WHOLE_WIDTH))
BLUE, ORANGE = (23, 58, 143), (160, 60, 5)  # of a share of 1: right, wrong


def drawn(drawing: Drawing) -> Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = draw(drawing)
    assert image.dtype == np.uint8 and image.ndim == 3 and image.std() > 0 and image.shape[1] <= WHOLE
    return image


def names_of(count: int) -> list[str]:
    odd = ["$\\frac {", "_hidden", "long " * 30, "a\nb\tc \x00", "", "日本 語 마스크"]
    return [*odd, *(f"class {index}" for index in range(count))][:count]


@pytest.mark.parametrize("size", [2, 18, 1000])
def test_matrices_of_any_size_fit_the_page(size: int) -> None:
    counts = np.diag(np.full(size, 12_345))
    counts[0, 1] = 3
    for matrix in confusion_matrices(names_of(size), counts, HOSTILE):
        image = drawn(matrix)
        assert image.shape[0] < 1.3 * WHOLE
        assert image.shape[1] == HALF or size > 2


def test_right_is_blue_and_wrong_is_orange_where_it_stands() -> None:
    (matrix,) = confusion_matrices(["a", "b"], np.array([[5, 0], [7, 0]]), "x")
    image = drawn(matrix)
    blue, orange = (np.argwhere(np.all(image == color, axis=2)) for color in (BLUE, ORANGE))
    assert len(blue) > 1000 and len(orange) > 1000
    top, left = blue.mean(0)
    assert orange.mean(0)[0] > top + 30 and abs(orange.mean(0)[1] - left) < 5, "the second row, the same column"


def test_a_large_matrix_loses_no_strong_cell() -> None:
    shades = np.zeros((1000, 7))
    shades[501, 3], shades[502, 3] = -0.9, 0.5
    reduced = strongest_blocks(shades, 400)
    assert reduced.shape == (334, 7) and reduced.min() == -0.9 and np.count_nonzero(reduced) == 1
    assert strongest_blocks(shades[:5], 400) is not None and (strongest_blocks(shades[:5], 400) == shades[:5]).all()


@pytest.mark.parametrize("size", [1, 26, 45, 100])
def test_bars_of_any_number_of_names_fit_the_page(size: int) -> None:
    values = np.linspace(0, 1, size)
    values[-1] = math.nan
    image = drawn(Bars(HOSTILE, names_of(size), {"F1": values.tolist(), "recall": values.tolist()}, [12_345] * size))
    assert image.shape[1] == (HALF if size <= 30 else WHOLE) and image.shape[0] < 900
    assert lowest([0.5, math.nan, 0.1], 2) == [2, 0], "what was not measured is not low"


def test_curves_with_gaps_and_reliability_of_nothing_are_drawn() -> None:
    shape = drawn(Curves("x", [0, 0.5, 1], {"precision": [0.5, 1.0, math.nan]}, "threshold", {"configured: $": 0.9})).shape
    nothing = np.full(3, math.nan)
    assert drawn(Reliability("x", nothing, nothing, np.zeros(3, int), math.nan)).shape == shape and shape[1] == HALF
    some = Reliability("x", np.array([0.1, 0.5, math.nan]), np.array([0.0, 1.0, math.nan]), np.array([1, 9, 0]), 0.4)
    assert drawn(some).shape == shape
    low, high = wilson_interval(np.array([0.0, 0.5, 1.0]), np.array([10, 10, 10]))
    assert low == pytest.approx([0, 0.2366, 0.7225], abs=1e-4) and high == pytest.approx([0.2775, 0.7634, 1], abs=1e-4)


def test_a_gallery_shows_image_and_attention_side_by_side() -> None:
    gray = np.full((40, 60), 250, np.uint8)
    notes = {"predicted": "a " * 300, "truth": "日本 $ _"}
    attention = np.zeros((2, 2))
    attention[0, 0] = 1
    plain, seen = (draw_gallery(Gallery("x", [NotedImage(HOSTILE, gray, notes, "scan", seen)])) for seen in (None, attention))
    assert plain.shape == seen.shape and (plain[..., 2] < 60).sum() < (seen[..., 2] < 60).sum(), "orange has no blue"
    odd = [NotedImage("", np.zeros(shape, np.uint8), {}) for shape in ((0, 0), (1, 900), (900, 1), (7, 7, 3))]
    whole = draw_gallery(Gallery("x", odd * 3))
    assert whole.shape[1] <= WHOLE + 10
    assert draw_gallery(Gallery("x", [])).ndim == 3


def test_a_page_shows_drawings_in_two_columns(tmp_path: Path) -> None:
    small = Bars(HOSTILE, ["a"], {"F1": [0.5]})
    wide = Matrix("wide", ["a"], names_of(30), np.ones((1, 30)), np.ones((1, 30)))
    rows = [[HOSTILE, index] for index in range(30)]
    sections = [Section(HOSTILE, (small, wide)), Section("Table", Table(["class", "rows"], rows))]
    html = write_report(tmp_path, RunReport(title="x", sections=sections, attention_note=HOSTILE)).read_text()
    page = Page(html)
    assert "script" not in page.tags and "<script" not in html and HOSTILE in page.text["h2"]
    assert page.sources == ["section-1.png", "section-1-2.png"]
    assert html.count('<figure class="wide">') == 1 and page.tags.count("figure") == 2
    assert all(cv2.imread(str(tmp_path / source)) is not None for source in page.sources)
    assert page.text["summary"] == ["30 rows"], "a long table is folded"


def test_metrics_of_classes_as_text() -> None:
    table = Table(("class", "rows", "F1"), [("a\x1b[2J", 3, 0.5), ("longer name", 12, math.nan)])
    lines = per_class_text(table).splitlines()
    assert "\x1b" not in lines[1] and lines[1].split()[-2:] == ["3", "0.5000"] and lines[2].split()[-2:] == ["12", "-"]
    assert len({len(line) for line in lines}) == 1
    assert "no classes" in per_class_text(None)


def test_a_matrix_of_few_numbers_writes_shares_as_well() -> None:
    with_shares, without = (
        draw_matrix(Matrix("x", ["a"], ["b"], np.array([[5]]), np.array([[0.0]]), shade_format=shares))
        for shares in (".0%", "")
    )
    assert (with_shares[..., 0] < 128).sum() > (without[..., 0] < 128).sum()
