import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_pipeline.exploration.text_layout import ELLIPSIS, INK, MUTED, Word, line_length, shorten, wrap

texts = st.text("ab\\{}_^$\t", min_size=1, max_size=30)
words_strategy = st.lists(st.builds(Word, texts, st.sampled_from([INK, MUTED]), st.booleans()), max_size=20)


@given(words=words_strategy, width=st.integers(2, 40), max_lines=st.integers(1, 6))
def test_lines_stay_in_their_box(words: list[Word], width: int, max_lines: int) -> None:
    lines = wrap(words, width, max_lines)
    assert len(lines) <= max_lines and all(0 < line_length(line) <= width for line in lines)
    assert all(word.text and word.text.isprintable() for line in lines for word in line)


@given(words=words_strategy, width=st.integers(2, 40))
def test_with_room_enough_all_is_shown_in_its_color(words: list[Word], width: int) -> None:
    lines = wrap(words, width, max_lines=1000)
    for color in (INK, MUTED):
        shown = "".join(word.text for line in lines for word in line if word.color == color)
        assert shown == "".join(word.text.replace("\t", " ") for word in words if word.color == color)


@given(words=words_strategy, width=st.integers(1, 40))
def test_a_line_is_shortened_only_where_it_must_be(words: list[Word], width: int) -> None:
    line = shorten(words, width)
    assert line_length(line) <= width
    if line_length(words) > width:
        assert line[-1].text.endswith(ELLIPSIS)
    else:
        assert [word.text for word in line] == [word.text.replace("\t", " ") for word in words]


def test_what_is_cut_ends_in_an_ellipsis() -> None:
    lines = wrap([Word("aaaa"), Word("bbbb", MUTED), Word("cccc")], width=5, max_lines=2)
    assert [[word.text for word in line] for line in lines] == [["aaaa"], ["bbbb" + ELLIPSIS]]
    assert [word.text for word in shorten([Word("aa"), Word("bb")], 4)] == ["aa" + ELLIPSIS]


def test_no_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="no room"):
        wrap([], width=1, max_lines=1)
