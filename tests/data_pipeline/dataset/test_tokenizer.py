"""Text to ids and back, and what is said when two vocabularies differ."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.errors import UserError
from data_pipeline.dataset.tokenizer import Tokenizer, VocabularyMismatch

CHARSET = ["a", "b", r"\frac", "{", "}"]


@given(st.lists(st.sampled_from(CHARSET)))
def test_what_is_encoded_decodes(tokens: list[str]) -> None:
    tokenizer = Tokenizer(CHARSET)
    ids = tokenizer.encode(" ".join(tokens))
    assert ids[0] == tokenizer.bos_id and ids[-1] == tokenizer.eos_id and len(ids) == len(tokens) + 2
    assert tokenizer.decode([*ids, tokenizer.pad_id, 3]) == " ".join(tokens)
    assert tokenizer.tokens(ids) == tokens


def test_the_charset_follows_the_special_tokens_in_its_order() -> None:
    tokenizer = Tokenizer(CHARSET)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (0, 1, 2)
    assert tokenizer.encode("b a") == [0, 4, 3, 1] and len(tokenizer) == 8


def test_it_survives_its_file() -> None:
    charset = ["α", r"\\", '"', "a"]
    assert Tokenizer.from_json(Tokenizer(charset).to_json()).charset == charset


def test_an_unknown_token_is_named_with_its_text() -> None:
    with pytest.raises(UserError, match=r"'c' of 'a c' is not in the vocabulary of 5 tokens"):
        Tokenizer(CHARSET).encode("a c")


def test_a_charset_that_repeats_a_token_is_refused() -> None:
    with pytest.raises(UserError, match=r"repeats \['b'\]"):
        Tokenizer(["a", "b", "b"])


def test_a_difference_lists_what_only_one_has() -> None:
    with pytest.raises(VocabularyMismatch) as raised:
        Tokenizer(["a", "b", "c"]).require_same(Tokenizer(["b", "c", "d", "e"]), "the checkpoint", "the dataset")
    assert "only in the checkpoint: a; only in the dataset: d e" in str(raised.value)
    assert "(3 tokens)" in str(raised.value) and "(4)" in str(raised.value)


def test_a_long_difference_is_cut() -> None:
    many = Tokenizer([f"t{number}" for number in range(50)])
    with pytest.raises(VocabularyMismatch, match="t19 and 30 more; only in B: a"):
        many.require_same(Tokenizer(["a"]), "A", "B")


def test_another_order_is_a_difference() -> None:
    with pytest.raises(VocabularyMismatch, match="other order from position 1: 'b' and 'c'"):
        Tokenizer(["a", "b", "c"]).require_same(Tokenizer(["a", "c", "b"]), "A", "B")
    Tokenizer(CHARSET).require_same(Tokenizer(CHARSET), "A", "B")


def test_a_smaller_vocabulary_is_covered_and_a_larger_one_is_not() -> None:
    Tokenizer(CHARSET).require_covers(Tokenizer(["}", "a"]), "the checkpoint", "the dataset")
    with pytest.raises(VocabularyMismatch, match="the dataset has 1 tokens that the checkpoint was never taught: z"):
        Tokenizer(CHARSET).require_covers(Tokenizer(["z", "a"]), "the checkpoint", "the dataset")


@pytest.mark.parametrize(
    ("charset", "groups"),
    [
        (["a", "b", "{", "}"], ((5,), (6,))),
        (["}", "a", "{"], ((5,), (3,))),
        (["{", "a"], ((), ())),
        (["a", "}"], ((), ())),
        ([], ((), ())),
    ],
)
def test_groups_are_braces_where_both_are_known(charset: list[str], groups: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    assert Tokenizer(charset).groups() == groups
