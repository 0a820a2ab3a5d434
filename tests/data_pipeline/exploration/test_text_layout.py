import pytest
from hypothesis import given
from hypothesis import strategies as st
from trainers.report.text_layout import ELLIPSIS, lay_out, line_count

from trainers.report.token_diff import Token

tokens_strategy = st.lists(st.builds(Token, st.text("ab\\{}_^$", min_size=1, max_size=30), st.booleans()), max_size=20)


@given(tokens=tokens_strategy, width=st.integers(2, 40), max_lines=st.integers(1, 6))
def test_pieces_stay_in_their_box_and_do_not_overlap(tokens: list[Token], width: int, max_lines: int) -> None:
    pieces = lay_out(tokens, width, max_lines)
    taken: set[tuple[int, int]] = set()
    for piece in pieces:
        cells = {(piece.line, piece.column + offset) for offset in range(len(piece.text))}
        assert not cells & taken
        taken |= cells
    assert all(line < max_lines and column < width for line, column in taken)
    assert line_count(pieces) <= max_lines


@given(tokens=tokens_strategy, width=st.integers(2, 40))
def test_with_room_enough_all_is_shown_with_its_marks(tokens: list[Token], width: int) -> None:
    pieces = lay_out(tokens, width, max_lines=1000)
    for wrong in (True, False):
        shown = "".join(piece.text for piece in pieces if piece.wrong is wrong)
        assert shown == "".join(token.text for token in tokens if token.wrong is wrong)


def test_what_is_cut_ends_in_an_ellipsis() -> None:
    pieces = lay_out([Token("aaaa", False), Token("bbbb", True), Token("cccc", False)], width=5, max_lines=2)
    assert [piece.text for piece in pieces] == ["aaaa", "bbbb", ELLIPSIS]


def test_no_room_is_an_error() -> None:
    with pytest.raises(ValueError, match="no room"):
        lay_out([], width=1, max_lines=1)
