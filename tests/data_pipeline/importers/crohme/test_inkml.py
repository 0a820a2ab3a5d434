import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_pipeline.importers.crohme.inkml import UnusableInk, read_inkml
from tests.support.ink_document import inkml


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


CHANNELS = {
    "X": '<channel name="X" type="decimal"/>',
    "Y": '<channel name="Y" type="decimal"/>',
    "-Y": '<channel name="Y" type="decimal" orientation="-ve"/>',
    "T": '<channel name="T" type="integer" units="ms"/>',
    "Xmm": '<channel name="X" units="mm"/>',
    "Ycm": '<channel name="Y" units="cm"/>',
    "Yem": '<channel name="Y" units="em"/>',
}


def trace_format(channels: str, more: str = "", name: str = "") -> str:
    inside = "".join(CHANNELS[channel] for channel in channels.split())
    return f"<traceFormat{name and f' xml:id={name!r}'}>{inside}{more}</traceFormat>"


def strokes(body: str) -> list[list[list[float]]]:
    document = f'<ink xmlns="http://www.w3.org/2003/InkML"><annotation type="truth">z</annotation>{body}</ink>'
    return [stroke.tolist() for stroke in read_inkml(document.encode()).strokes]


@pytest.mark.parametrize(
    ("channels", "trace", "points"),
    [
        ("T X Y", "0 10 11, 1 20 31", [[10, 11], [20, 31]]),
        ("Y X", "10 11", [[11, 10]]),
        ("X Y T", "10 11", [[10, 11]]),  # in CROHME channels are declared that the traces do not have
        ("X -Y", "1 2, 3 4", [[1, -2], [3, -4]]),
        ("Xmm Ycm", "5 1, 10 2", [[5 * 72 / 25.4, 72 / 2.54], [10 * 72 / 25.4, 2 * 72 / 2.54]]),
        ("", "1 2 3", [[1, 2]]),
    ],
)
def test_channels_are_read_in_the_order_that_the_trace_format_gives(
    channels: str, trace: str, points: list[list[float]]
) -> None:
    assert np.allclose(strokes(f"{trace_format(channels)}<trace>{trace}</trace>")[0], points)


def test_channels_that_come_now_and_then_stand_after_the_others() -> None:
    rare = "<intermittentChannels><channel name='B' type='boolean'/></intermittentChannels>"
    assert strokes(f"{trace_format('X Y', rare)}<trace>1 2, 3 4 T, 5 6 *</trace>") == [[[1, 2], [3, 4], [5, 6]]]


def test_a_format_is_found_by_reference_context_group_and_ink_source() -> None:
    definitions = (
        f"<definitions>{trace_format('Y X', name='yx')}<context xml:id='a' traceFormatRef='#yx'/>"
        f"<context xml:id='b' contextRef='#a'/><inkSource xml:id='pad'>{trace_format('T X Y')}</inkSource>"
        "<context xml:id='c' inkSourceRef='#pad'/></definitions>"
    )
    body = (
        "<trace>1 2 3</trace><trace contextRef='#a'>1 2 3</trace><traceGroup contextRef='#b'><trace>1 2 3</trace>"
        "<trace contextRef='#c'>1 2 3</trace></traceGroup>"
        f"<context>{trace_format('T T X Y')}</context><trace>1 2 3 4</trace>"
        "<context><inkSource/></context><trace>1 2 3 4</trace><trace contextRef='#DefaultContext'>1 2 3 4</trace>"
    )
    found = strokes(definitions + body)
    assert [stroke[0] for stroke in found] == [[1, 2], [2, 1], [2, 1], [2, 3], [3, 4], [3, 4], [1, 2]]


def test_differences_and_their_differences_are_summed() -> None:
    found = strokes("""<trace>1125 18432,'23'43,"7"-8,3-5,7 -3,6 2,*6,* *,!5!-6,7 8</trace>""")
    # By hand: values of the first two points, speeds after the second, then each speed changes by what is written.
    x = [1125, 1148, 1178, 1211, 1251, 1297, 1349, 1407, 5, 7]
    y = [18432, 18475, 18510, 18540, 18567, 18596, 18631, 18672, -6, 8]
    assert found == [[[float(a), float(b)] for a, b in zip(x, y, strict=True)]]


@given(st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=3, max_size=12), st.sampled_from("!'\""))
def test_a_trace_means_the_same_in_every_encoding(points: list[tuple[int, int]], prefix: str) -> None:
    values = np.array(points)
    order = "!'\"".index(prefix)
    coded = [values[0], *np.diff(values, axis=0)] if order else values
    coded = [*coded[:2], *np.diff(coded[1:], axis=0)] if order == 2 else coded
    rows = []
    for index, (x, y) in enumerate(coded):
        sign = "!" if index == 0 else "'" if order == 2 and index == 1 else prefix
        rows.append(f"{sign}{x}{sign}{y}")
    assert strokes(f"<trace>{','.join(rows)}</trace>")[0] == values.tolist()


def test_what_the_pen_did_in_the_air_is_not_drawn() -> None:
    assert strokes("<trace>1 2</trace><trace type='penUp'>3 4</trace><trace type='penDown'>5 6</trace>") == [[[1, 2]], [[5, 6]]]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (f"{trace_format('T X')}<trace>1 2</trace>", r"no channel Y \(it has T, X\)"),
        (f"{trace_format('Xmm Yem')}<trace>1 2</trace>", "units mm and em"),
        ("<trace id='t' contextRef='#x'>1 2</trace>", "'#x' is referred to, but is not there"),
        ("<definitions><context id='a' contextRef='#a'/></definitions><trace contextRef='#a'>1 2</trace>", "in a circle"),
        ("<trace id='t'>'1'2</trace>", "trace 't': its first point is given as a difference"),
        ("<trace id='t'>1 2, ? 3</trace>", "trace 't': '[?]' for x or y"),
        ("<trace id='t'>1 2, 3</trace>", "trace 't': a point without x or y"),
        ("<trace xml:id='t'>1 2, 3;4</trace>", "trace 't': ';4' is no number"),
    ],
)
def test_traces_that_say_no_positions_are_refused_by_name(body: str, reason: str) -> None:
    with pytest.raises(UnusableInk, match=reason):
        strokes(body)
