import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.crohme.inkml import UnusableInk, read_inkml
from tests.crohme.ink_document import inkml


def test_strokes_truths_and_annotations_are_read() -> None:
    ink = read_inkml(inkml("z+1", "<mi>z</mi>", traces=("1 2, 3.5 -4, 5 6", "7 8"), ui="abc"))
    assert [stroke.tolist() for stroke in ink.strokes] == [[[1, 2], [3.5, -4], [5, 6]], [[7, 8]]]
    assert all(stroke.dtype == np.float64 for stroke in ink.strokes)
    assert ink.latex == "z+1"
    assert ink.mathml is not None
    assert ink.annotations == {"UI": "abc"}


def test_time_and_force_are_left_out_and_commas_and_lines_may_end_a_trace() -> None:
    ink = read_inkml(inkml("z", traces=("1 2 900 .5, 3 4 901 .6", "\n5 6,\n7 8,\n", " \n ")))
    assert [stroke.tolist() for stroke in ink.strokes] == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]


def test_one_truth_is_enough() -> None:
    assert read_inkml(inkml(latex="z")).mathml is None
    assert read_inkml(inkml(mathml="<mi>z</mi>")).latex is None


def test_mathml_without_its_namespace_is_found() -> None:
    data = inkml(mathml="<mi>z</mi>").replace(b' xmlns="http://www.w3.org/1998/Math/MathML"', b"")
    assert read_inkml(data).mathml is not None


def test_cp1252_is_read() -> None:
    data = inkml(mathml="<mi>a</mi><mo>·</mo><mi>b</mi>").decode().encode("cp1252")
    with pytest.raises(UnicodeDecodeError):
        data.decode()
    math = read_inkml(data).mathml
    assert math is not None and [leaf.text for leaf in math] == ["a", "·", "b"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_heeded(encoding: str) -> None:
    data = inkml("z", head='<?xml version="1.0" encoding="ISO-8859-1"?>').decode().encode(encoding)
    assert read_inkml(data).latex == "z"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"<ink>", "malformed XML"),
        (b"<html/>", "root element is 'html'"),
        (b"\x81\x8d", "neither UTF-8 nor cp1252"),
        (inkml(), "no truth"),
        (inkml("z", traces=()), "no strokes"),
        (inkml("z", traces=("", " ")), "no strokes"),
        (inkml("z", traces=("0 0", "1")), "trace '1'"),
        (inkml("z", traces=("0 'a",)), "trace '0'"),
        (inkml("z", traces=("0 nan",)), "trace '0'"),
        (inkml("z", traces=("0 1e300",)), "trace '0'"),
        (inkml("z", head='<!DOCTYPE ink [<!ENTITY a "b">]>'), "document type"),
        (inkml("z&a;"), "malformed XML"),
    ],
)
def test_unusable_files_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(UnusableInk, match=reason):
        read_inkml(data)


def test_an_entity_bomb_is_not_expanded_in_any_encoding() -> None:
    bomb = '<!DOCTYPE ink [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
    for encoding in ("utf-8", "utf-16"):
        with pytest.raises(UnusableInk, match="document type"):
            read_inkml(inkml("&b;", head=bomb).decode().encode(encoding))


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200))
def test_damaged_files_are_read_or_refused(noise: bytes, at: int) -> None:
    whole = inkml("z", "<mi>z</mi>")
    for data in (noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            assert read_inkml(data).strokes
        except UnusableInk as error:
            assert str(error)
