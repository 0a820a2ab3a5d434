"""Pages of a TIFF become rows; nothing else has pages, and of animations a warning says that one frame was read."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_pipeline.preparation.decoding import MAX_PAGES, page_count
from tests.support.encoded_images import PNG, SizePredictor, encoded, rows_of
from trainers.prediction.frames import frames_of

IMAGES = [Image.fromarray(np.full((10 + i, 20), 40 * i, np.uint8)) for i in range(3)]


def several(form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    images = IMAGES if form == "TIFF" else [image.resize((20, 10)) for image in IMAGES]  # frames are of one size
    images[0].save(buffer, form, save_all=True, append_images=images[1:], **options)
    return buffer.getvalue()


def directories(order: str, *pages: tuple[int, int], last: int = 0) -> bytes:
    """A TIFF of directories alone, each with NewSubfileType (kind) and the number of its next one, or `last`."""
    data = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
    for i, (kind, following) in enumerate(pages):
        at = 8 + 18 * following if following else (last if i == len(pages) - 1 else 0)
        data += struct.pack(order + "HHHIII", 1, 254, 4, 1, kind, at)
    return data


@pytest.mark.parametrize("order", ["<", ">"])
def test_smaller_copies_loops_and_cut_files(order: str) -> None:
    assert page_count(directories(order, (0, 1), (1, 2), (2, 0))) == 2, "the second is the first made smaller"
    assert page_count(directories(order, (0, 1), (0, 0))) == 2
    assert page_count(directories(order, (0, 1), (0, 0), last=8)) == 2, "a loop ends"
    assert page_count(directories(order, (0, 1), (0, 0), last=10**6)) == 3, "something was to be there"
    assert page_count(PNG) == 1


def test_a_file_of_absurdly_many_pages_is_one_row_with_an_error() -> None:
    many = directories("<", *[(0, i + 1) for i in range(MAX_PAGES + 5)], (0, 0))
    out = SizePredictor()(rows_of(many, PNG) | {"problem": np.array(["", ""], object)})
    assert out["error"] == [f"has more than {MAX_PAGES} pages", ""]


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "AVIF"])
def test_frames_are_counted(form: str) -> None:
    assert frames_of(several(form)) == 3
    assert frames_of(encoded(form)) == 1


def test_pages_become_rows_and_a_frame_that_is_left_out_a_warning() -> None:
    tiff = several("TIFF")
    batch = rows_of(PNG, tiff, several("GIF"), tiff[: len(tiff) // 2])
    out = SizePredictor()(batch | {"problem": np.array([""] * 4, object), "source": np.array(["p", "q", "r", "s"])})
    rows = list(zip(out["id"], out["page"], out["pages"], out["prediction"], strict=True))
    assert rows[:4] == [("0", 1, 1, "(8, 8)"), ("1", 1, 3, "(10, 20)"), ("1", 2, 3, "(11, 20)"), ("1", 3, 3, "(12, 20)")]
    assert list(out["source"][:5]) == ["p", "q", "q", "q", "r"]
    assert rows[4][:3] == ("2", 1, 1) and out["warning"][4] == "the first of 3 frames was read"
    cut = [i for i, row in enumerate(rows) if row[0] == "3"]
    assert cut and any(out["error"][i] for i in cut), "what the cut has taken is not passed over"
    assert "page" not in SizePredictor()(rows_of(PNG)), "a row of a dataset is one image"
