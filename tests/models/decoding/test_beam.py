"""Beam search finds what a search of all texts finds, image by image, and one beam is greedy decoding."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Decoding, Generation, Memory, ModelConfigError, OutputSpec
from models.decoders import Decoder
from models.decoding.beam import beam_decode, beam_search
from models.decoding.greedy import greedy_decode
from models.decoding.settings import check_settings
from tests.support.random_decoder import GROUPS, SMALL, RandomDecoder, image_of, random_memory, text_log_prob

Search = Callable[[Decoder, Memory, Decoding, OutputSpec], Generation]
seeds = st.integers(0, 10_000)
penalties = st.sampled_from([0.0, 0.5, 1.0, 2.0])


def all_outputs(limit: int) -> list[list[int]]:
    """Everything that can be emitted: up to and with EOS, or as long as the limit allows."""
    others = [token for token in range(SMALL.num_classes) if token != SMALL.eos_id]
    ended = [[*text, SMALL.eos_id] for length in range(limit) for text in itertools.product(others, repeat=length)]
    return ended + [list(text) for text in itertools.product(others, repeat=limit)]


def emitted(generation: Generation, image: int) -> list[int]:
    """The tokens of one image, without what fills the row."""
    row, length = generation.token_ids[image].tolist(), int(generation.lengths[image])
    return row[: length + 1] if length < len(row) and row[length] == SMALL.eos_id else row[:length]


@settings(max_examples=25, deadline=None)
@given(seeds, penalties, st.integers(1, 4))
def test_wide_beam_is_exhaustive(seed: int, penalty: float, limit: int) -> None:
    decoder, memory = RandomDecoder(SMALL, seed, sharpness=1.0), random_memory(2, seed)
    decoding = Decoding("beam", limit, beam_size=5**limit, num_best=6, length_penalty=penalty)
    if limit == 1:
        decoding = replace(decoding, num_best=5)
    generation = beam_decode(decoder, memory, decoding, SMALL)
    candidates = generation.candidates
    assert candidates is not None
    for image in range(2):
        one = image_of(memory, image)
        log_probs = {tuple(tokens): text_log_prob(decoder, one, tokens, SMALL) for tokens in all_outputs(limit)}
        scores = {tokens: log_prob / len(tokens) ** penalty for tokens, log_prob in log_probs.items()}
        best = sorted(scores.values(), reverse=True)[: decoding.num_best]
        torch.testing.assert_close(candidates.scores[image], torch.tensor(best), rtol=1e-5, atol=1e-5)
        found = tuple(emitted(generation, image))
        assert scores[found] == pytest.approx(best[0], abs=1e-5)
        assert float(generation.log_probs[image]) == pytest.approx(log_probs[found], abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 10), st.booleans())
def test_one_beam_is_greedy(seed: int, limit: int, balanced: bool) -> None:
    decoder, memory = RandomDecoder(GROUPS, seed), random_memory(4, seed)
    decoding = Decoding(max_length=limit, balanced=balanced, return_attention=True, beam_size=1)
    greedy = greedy_decode(decoder, memory, decoding, GROUPS)
    beam = beam_decode(decoder, memory, replace(decoding, method="beam"), GROUPS)
    # The search itself does the same with one beam where a longer text cannot make up for its log-probability.
    candidates, attention = beam_search(decoder, memory, replace(decoding, length_penalty=0.0), GROUPS, 1)
    assert beam.attention is not None and greedy.attention is not None and attention is not None and beam.candidates is not None
    for token_ids in (beam.token_ids, beam.candidates.token_ids[:, 0], candidates.token_ids[:, 0]):
        assert torch.equal(greedy.token_ids, token_ids)
    for lengths in (beam.lengths, beam.candidates.lengths[:, 0], candidates.lengths[:, 0]):
        assert torch.equal(greedy.lengths, lengths)
    for log_probs in (beam.log_probs, beam.candidates.log_probs[:, 0], candidates.log_probs[:, 0]):
        assert torch.equal(greedy.log_probs, log_probs)
    assert torch.equal(greedy.attention, beam.attention) and torch.equal(greedy.attention, attention)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(2, 12), penalties, st.booleans())
def test_batch_equals_its_members(seed: int, beams: int, penalty: float, balanced: bool) -> None:
    decoder, memory = RandomDecoder(GROUPS, seed), random_memory(5, seed)
    decoding = Decoding("beam", None, beams, min(3, beams), penalty, balanced=balanced, return_attention=True)
    together = beam_decode(decoder, memory, decoding, GROUPS)
    assert together.candidates is not None and together.attention is not None
    for image in range(5):
        alone = beam_decode(decoder, image_of(memory, image), decoding, GROUPS)
        assert alone.candidates is not None and alone.attention is not None
        width, longest = alone.token_ids.shape[1], alone.candidates.token_ids.shape[2]
        assert torch.equal(together.token_ids[image, :width], alone.token_ids[0])
        assert (together.token_ids[image, width:] == GROUPS.pad_id).all()
        assert torch.equal(together.candidates.token_ids[image, :, :longest], alone.candidates.token_ids[0])
        assert torch.equal(together.candidates.lengths[image], alone.candidates.lengths[0])
        torch.testing.assert_close(together.candidates.scores[image], alone.candidates.scores[0])
        torch.testing.assert_close(together.attention[image, :width], alone.attention[0])
        assert together.attention[image, width:].abs().sum() == 0


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(2, 12), penalties)
def test_candidates(seed: int, beams: int, penalty: float) -> None:
    """Sorted, distinct, each with the log-probability that the decoder gives it, the first of them the text."""
    decoder, memory = RandomDecoder(GROUPS, seed), random_memory(3, seed)
    decoding = Decoding("beam", beam_size=beams, num_best=beams, length_penalty=penalty)
    generation = beam_decode(decoder, memory, decoding, GROUPS)
    candidates = generation.candidates
    assert candidates is not None
    assert torch.equal(candidates.scores, candidates.scores.sort(descending=True)[0])
    width = generation.token_ids.shape[1]
    assert torch.equal(candidates.token_ids[:, 0, :width], generation.token_ids)
    assert torch.equal(candidates.log_probs[:, 0], generation.log_probs)
    for image in range(3):
        seen = set()
        for n in range(beams):
            if candidates.scores[image, n] == -torch.inf:
                assert (candidates.token_ids[image, n] == GROUPS.pad_id).all() and candidates.lengths[image, n] == 0
                continue
            length = int(candidates.lengths[image, n])
            row = candidates.token_ids[image, n].tolist()
            tokens = row[: length + 1] if length < GROUPS.max_length else row
            assert (tokens[-1] == GROUPS.eos_id) == (length < GROUPS.max_length)
            assert GROUPS.eos_id not in tokens[:-1] and set(row[len(tokens) :]) <= {GROUPS.pad_id}
            log_prob = text_log_prob(decoder, image_of(memory, image), tokens, GROUPS)
            assert float(candidates.log_probs[image, n]) == pytest.approx(log_prob, abs=1e-4)
            assert float(candidates.scores[image, n]) == pytest.approx(log_prob / len(tokens) ** penalty, abs=1e-4)
            seen.add(tuple(tokens))
        assert len(seen) == int((candidates.scores[image] > -torch.inf).sum())
    # How many are kept does not change which are best.
    fewer = beam_decode(decoder, memory, replace(decoding, num_best=1), GROUPS)
    assert torch.equal(fewer.token_ids, generation.token_ids)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 6))
def test_attention_is_that_of_the_best_text(seed: int, beams: int) -> None:
    decoder, memory = RandomDecoder(GROUPS, seed), random_memory(3, seed)
    generation = beam_decode(decoder, memory, Decoding("beam", beam_size=beams, return_attention=True), GROUPS)
    assert generation.attention is not None
    assert generation.attention.shape == (3, generation.token_ids.shape[1], 2, 3)
    for image in range(3):
        cache, tokens = decoder.start(image_of(memory, image), GROUPS.max_length), torch.tensor([GROUPS.bos_id])
        for t in range(min(int(generation.lengths[image]) + 1, generation.token_ids.shape[1])):
            decoder.step(tokens, cache, need_weights=True)
            assert cache.weights is not None
            torch.testing.assert_close(generation.attention[image, t], cache.weights[0, 1:].view(2, 3))
            tokens = generation.token_ids[image, t : t + 1]
        assert generation.attention[image, t + 1 :].abs().sum() == 0


def test_steps_stop_where_nothing_can_change() -> None:
    fewest = 10
    for seed in range(20):
        decoder, memory = RandomDecoder(GROUPS, seed), random_memory(4, seed)
        greedy = greedy_decode(decoder, memory, Decoding(), GROUPS)
        assert decoder.steps == greedy.token_ids.shape[1] == min(10, int(greedy.lengths.max()) + 1)
        decoder.steps = 0
        beam_decode(decoder, memory, Decoding("beam", beam_size=3, length_penalty=0.0), GROUPS)
        fewest = min(fewest, decoder.steps)
    assert fewest < 10


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("search", [greedy_decode, beam_decode])
def test_seldom_checks_change_nothing(monkeypatch: pytest.MonkeyPatch, search: Search, attention: bool) -> None:
    """As on an accelerator, which goes on for a few steps after all have ended."""
    more = 0
    for seed in range(20):
        decoder, memory = RandomDecoder(GROUPS, seed), random_memory(2, seed)
        decoding = Decoding(beam_size=3, length_penalty=0.0, return_attention=attention)
        expected, steps = search(decoder, memory, decoding, GROUPS), decoder.steps
        with monkeypatch.context() as patch:
            for module in ("greedy", "beam"):
                patch.setattr(f"models.decoding.{module}.all_done", lambda done, step: step % 8 == 0 and bool(done.all()))
            found = search(decoder, memory, decoding, GROUPS)
        more += decoder.steps - 2 * steps
        assert torch.equal(found.token_ids, expected.token_ids) and torch.equal(found.log_probs, expected.log_probs)
        assert torch.equal(found.lengths, expected.lengths)
        assert (found.attention is not None) == attention
        if found.attention is not None and expected.attention is not None:
            assert torch.equal(found.attention, expected.attention)
    assert more > 0


def test_impossible_settings() -> None:
    for decoding, key in [
        (Decoding("beam", beam_size=0), "beam_size"),
        (Decoding("beam", beam_size=2, num_best=3), "num_best"),
        (Decoding("beam", num_best=0), "num_best"),
        (Decoding("greedy", num_best=2), "num_best"),
        (Decoding("beam", length_penalty=-0.1), "length_penalty"),
        (Decoding("beam", length_penalty=float("nan")), "length_penalty"),
        (Decoding("beam", ctc_weight=1.1), "ctc_weight"),
        (Decoding("beam", ctc_weight=-0.1), "ctc_weight"),
    ]:
        with pytest.raises(ModelConfigError) as error:
            check_settings(decoding)
        assert error.value.key == f"decoding.{key}"
    with pytest.raises(ModelConfigError, match=r"decoding\.max_length"):
        beam_decode(RandomDecoder(SMALL), random_memory(1), Decoding("beam", max_length=5), SMALL)
