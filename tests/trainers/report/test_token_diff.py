from hypothesis import given
from hypothesis import strategies as st
from rapidfuzz.distance import Levenshtein

from trainers.report.token_diff import Token, mark_tokens

texts = st.lists(st.sampled_from(["\\frac", "{", "}", "a", "b", "$", "<b>"]), max_size=12).map(" ".join)


@given(truth=texts, prediction=texts)
def test_nothing_is_lost_and_what_is_not_wrong_agrees(truth: str, prediction: str) -> None:
    left, right = mark_tokens(truth, prediction)
    assert [token.text for token in left] == truth.split()
    assert [token.text for token in right] == prediction.split()
    common = [token.text for token in left if not token.wrong]
    assert common == [token.text for token in right if not token.wrong]
    # No more is marked than the fewest edits touch: an edit touches one token on either side or on both.
    edits = Levenshtein.distance(truth.split(), prediction.split())
    wrong_left, wrong_right = len(left) - len(common), len(right) - len(common)
    assert max(wrong_left, wrong_right) <= edits <= wrong_left + wrong_right


def test_a_replaced_a_missed_and_an_added_token_are_marked_where_they_stand() -> None:
    truth, prediction = mark_tokens("a + b = c", "a - b = c d")
    assert truth[1] == Token("+", True) and prediction[1] == Token("-", True)
    assert [token.text for token in prediction if token.wrong] == ["-", "d"]
    assert [token.text for token in mark_tokens("a b c", "a c")[0] if token.wrong] == ["b"]
