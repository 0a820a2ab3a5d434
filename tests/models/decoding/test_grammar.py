"""Balanced decoding emits whole texts whose groups are closed, pair by pair."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Decoding, ModelConfigError
from models.decoding.beam import beam_decode
from models.decoding.grammar import CompleteTexts, build_grammar, right_to_left, without_groups
from models.decoding.greedy import greedy_decode
from tests.support.balanced_texts import check_rows, is_balanced
from tests.support.random_decoder import GROUPS, SMALL, RandomDecoder, random_memory

seeds = st.integers(0, 10_000)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 10), st.booleans())
def test_every_text_is_whole(seed: int, limit: int, reverse: bool) -> None:
    spec = right_to_left(GROUPS) if reverse else GROUPS
    decoder, memory = RandomDecoder(spec, seed, sharpness=5.0), random_memory(6, seed)
    decoder.head[:, spec.open_ids] *= 2  # groups inside groups
    decoding = Decoding(max_length=limit, balanced=True)
    check_rows(greedy_decode(decoder, memory, decoding, spec).token_ids, spec)
    candidates = beam_decode(decoder, memory, replace(decoding, method="beam", beam_size=4, num_best=4), spec).candidates
    assert candidates is not None
    check_rows(candidates.token_ids[candidates.scores > -torch.inf], spec)
    assert (candidates.scores[:, 0] > -torch.inf).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=10, max_size=10), st.integers(1, 10))
def test_exactly_what_leads_to_whole_texts_is_allowed(choices: list[int], limit: int) -> None:
    """A token is allowed if and only if a whole text of at most `limit` tokens begins with what it makes."""
    grammar = CompleteTexts(GROUPS, 1, limit, torch.device("cpu"))
    text: list[int] = []
    for t in range(limit):
        allowed = (grammar.restrict(torch.zeros(1, GROUPS.num_classes), limit - t) == 0)[0].nonzero()[:, 0].tolist()
        assert allowed == [token for token in range(GROUPS.num_classes) if leads_on([*text, token], limit)]
        text.append(allowed[choices[t] % len(allowed)])
        if text[-1] == GROUPS.eos_id:
            return
        grammar.advance(torch.tensor(text[-1:]))
    raise AssertionError("no room is left, but the text has not ended")


def leads_on(tokens: list[int], limit: int) -> bool:
    """Whether closing all groups, then EOS, makes a whole text of these tokens within the limit."""
    if tokens[-1] == GROUPS.eos_id:
        return is_balanced(tokens[:-1], GROUPS)
    if tokens[-1] in (GROUPS.bos_id, GROUPS.pad_id):
        return False
    ends = {3: 4, 5: 6}
    stack: list[int] = []
    for token in tokens:
        if token in ends:
            stack.append(ends[token])
        elif token in ends.values() and (not stack or stack.pop() != token):
            return False
    return len(tokens) + len(stack) + 1 <= limit


def test_log_probs_stay_those_of_the_model() -> None:
    decoder, memory = RandomDecoder(GROUPS, 3), random_memory(1)
    generation = greedy_decode(decoder, memory, Decoding(balanced=True), GROUPS)
    tokens = generation.token_ids[0]
    tgt_in = torch.cat([torch.tensor([GROUPS.bos_id]), tokens[:-1]])[None]
    expected = decoder(tgt_in, memory)[0].log_softmax(-1).gather(1, tokens[:, None]).sum()
    assert float(generation.log_probs[0]) == pytest.approx(float(expected), abs=1e-4)


def test_balanced_needs_groups() -> None:
    for spec in (
        SMALL,
        replace(GROUPS, close_ids=()),
        replace(GROUPS, close_ids=(4,)),
        replace(GROUPS, close_ids=(4, 4)),
        replace(GROUPS, close_ids=(4, 5)),
    ):
        with pytest.raises(ModelConfigError, match=r"decoding\.balanced"):
            build_grammar(Decoding(balanced=True), spec, 1, 4, torch.device("cpu"))


def test_whole_texts_without_groups() -> None:
    grammar = CompleteTexts(without_groups(GROUPS), 1, 2, torch.device("cpu"))
    allowed = [(grammar.restrict(torch.zeros(1, 9), remaining) == 0)[0].nonzero()[:, 0].tolist() for remaining in (2, 1)]
    assert allowed == [[1, 3, 4, 5, 6, 7, 8], [1]]
