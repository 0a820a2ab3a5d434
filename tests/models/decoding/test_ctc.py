"""Reading with a CTC head: against all paths, and against the loss that the head is trained with."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from models import (
    BackboneConfig,
    Candidates,
    CtcConfig,
    DecoderConfig,
    Decoding,
    EncoderConfig,
    ModelConfig,
    ModelConfigError,
    OutputSpec,
    SmallCnnConfig,
    build_model,
    check_decoding,
)
from models.decoding.ctc import best_path, prefix_beam_search
from models.types import Memory
from tests.support.balanced_texts import is_balanced

BLANK, EOS, PAD = 3, 1, 0
LETTERS = OutputSpec(num_classes=5, bos_id=BLANK, eos_id=EOS, pad_id=PAD, max_length=8)  # two letters: 2 and 4
PAIRS = replace(LETTERS, open_ids=(2,), close_ids=(4,))
seeds = st.integers(0, 10_000)


def memory_of(size: tuple[int, int]) -> Memory:
    """A memory of maps of that size."""
    return Memory(torch.zeros(1, size[0] * size[1], 1), None, size)


def random_logits(batch: int, columns: int, seed: int, vocabulary: int = 5) -> Tensor:
    return 2 * torch.randn((batch, columns, vocabulary), generator=torch.Generator().manual_seed(seed))


def collapse(path: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != BLANK)


def texts_of_all_paths(logits: Tensor) -> dict[tuple[int, ...], float]:
    """Log-probability of each text that the columns (w, V) can spell."""
    log_probs = logits.double().log_softmax(-1).tolist()
    sums: dict[tuple[int, ...], float] = {}
    for path in itertools.product([2, BLANK, 4], repeat=len(log_probs)):
        probability = math.exp(sum(log_probs[column][token] for column, token in enumerate(path)))
        sums[collapse(path)] = sums.get(collapse(path), 0.0) + probability
    return {text: math.log(probability) for text, probability in sums.items()}


def text_of(token_ids: Tensor, length: Tensor) -> tuple[int, ...]:
    """The text of one row, which has EOS, then PAD after it, up to the length limit."""
    row, end = token_ids.tolist(), int(length)
    assert row[end:] == ([EOS] + [PAD] * (len(row) - end - 1) if end < len(row) else [])
    return tuple(row[:end])


def candidates_of(logits: Tensor, columns: list[int], decoding: Decoding, spec: OutputSpec = LETTERS) -> Candidates:
    generation = prefix_beam_search(logits, torch.tensor(columns), decoding, spec)
    assert generation.candidates is not None
    first, width = generation.candidates, generation.token_ids.shape[1]
    assert torch.equal(first.token_ids[:, 0, :width], generation.token_ids)
    assert torch.equal(first.lengths[:, 0], generation.lengths) and torch.equal(first.log_probs[:, 0], generation.log_probs)
    return generation.candidates


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 8), st.integers(1, 5))
def test_wide_prefix_beam_is_exact(seed: int, limit: int, columns: int) -> None:
    """Two images, of which the second ends earlier, against all paths."""
    logits, shorter = random_logits(2, columns, seed), max(1, columns - 2)
    decoding = Decoding("beam", limit, beam_size=100, num_best=4)
    candidates = candidates_of(logits, [columns, shorter], decoding)
    for image, width in enumerate([columns, shorter]):
        texts = {text: p for text, p in texts_of_all_paths(logits[image, :width]).items() if len(text) <= limit}
        expected = sorted(texts.values(), reverse=True)[:4]
        expected += [-math.inf] * (4 - len(expected))
        torch.testing.assert_close(candidates.scores[image], torch.tensor(expected), rtol=1e-4, atol=1e-4)
        for n in range(4):
            if candidates.scores[image, n] == -torch.inf:
                assert (candidates.token_ids[image, n] == PAD).all()
                continue
            text = text_of(candidates.token_ids[image, n], candidates.lengths[image, n])
            assert float(candidates.log_probs[image, n]) == pytest.approx(texts[text], abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(3, 20))
def test_score_is_that_of_the_loss(seed: int, columns: int) -> None:
    logits, lengths = random_logits(3, columns, seed), torch.tensor([columns, columns - 1, columns - 2])
    generation = prefix_beam_search(logits, lengths, Decoding("beam", beam_size=100), LETTERS)
    losses = F.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1), generation.token_ids, lengths, generation.lengths, blank=BLANK, reduction="none"
    )
    # Some prefixes were dropped on the way: what is left of a text's paths is no more than all of them.
    assert (generation.log_probs <= -losses + 1e-4).all()
    torch.testing.assert_close(generation.log_probs, -losses, rtol=1e-3, atol=5e-2)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 12), st.booleans())
def test_prefix_beam_of_a_batch_is_that_of_its_members(seed: int, beams: int, balanced: bool) -> None:
    logits, columns = random_logits(4, 9, seed), [9, 4, 7, 1]
    decoding = Decoding("beam", 5, beam_size=beams, num_best=min(3, beams), balanced=balanced)
    together = candidates_of(logits, columns, decoding, PAIRS)
    for image, width in enumerate(columns):
        alone = candidates_of(logits[image : image + 1, :width], [width], decoding, PAIRS)
        for n in range(decoding.num_best):
            length = int(alone.lengths[0, n])
            assert together.lengths[image, n] == length
            assert torch.equal(together.token_ids[image, n, :length], alone.token_ids[0, n, :length])
        torch.testing.assert_close(together.scores[image], alone.scores[0])
        rows = [
            tuple(row)
            for row, s in zip(together.token_ids[image].tolist(), together.scores[image], strict=True)
            if s > -math.inf
        ]
        assert len(set(rows)) == len(rows)


@settings(max_examples=40, deadline=None)
@given(seeds, st.integers(1, 5))
def test_balanced_texts_by_all_paths(seed: int, columns: int) -> None:
    logits = random_logits(1, columns, seed)
    candidates = candidates_of(logits, [columns], Decoding("beam", beam_size=100, balanced=True), PAIRS)
    balanced = {text: p for text, p in texts_of_all_paths(logits[0]).items() if is_balanced(list(text), PAIRS)}
    assert text_of(candidates.token_ids[0, 0], candidates.lengths[0, 0]) == max(balanced, key=lambda text: balanced[text])
    assert float(candidates.scores[0, 0]) == pytest.approx(max(balanced.values()), abs=1e-4)


def test_best_unbalanced_text_where_there_is_no_other() -> None:
    logits = torch.full((1, 1, 5), -50.0)
    logits[0, 0, 2] = 50.0  # one group is opened, the beam has no room for another text
    generation = prefix_beam_search(logits, torch.tensor([1]), Decoding("beam", beam_size=1, balanced=True), PAIRS)
    assert generation.token_ids.tolist() == [[2, EOS]]
    with pytest.raises(ModelConfigError, match=r"decoding\.balanced.*no groups"):
        prefix_beam_search(logits, torch.tensor([1]), Decoding("beam", balanced=True), LETTERS)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 8), st.integers(1, 7))
def test_best_path(seed: int, limit: int, columns: int) -> None:
    logits, lengths = random_logits(3, columns, seed), [columns, max(1, columns - 1), max(1, columns - 3)]
    decoding = Decoding(max_length=limit, return_attention=True)
    generation = best_path(logits, torch.tensor(lengths), memory_of((2, columns)), decoding, LETTERS)
    assert generation.candidates is None and generation.attention is not None
    steps = generation.token_ids.shape[1]
    assert steps == min(limit, int(generation.lengths.max()) + 1)
    assert generation.attention.shape == (3, steps, 2, columns)
    for image, width in enumerate(lengths):
        log_probs = logits[image, :width].log_softmax(-1)
        path = tuple(max([2, BLANK, 4], key=lambda token: float(log_probs[column, token])) for column in range(width))
        assert text_of(generation.token_ids[image], generation.lengths[image]) == collapse(path)[:limit]
        expected = sum(float(log_probs[column, token]) for column, token in enumerate(path))
        assert float(generation.log_probs[image]) == pytest.approx(expected, abs=1e-4)
        # Each token looks at the columns of its run.
        start, index = 0, 0
        for token, run in itertools.groupby(path):
            end = start + len(list(run))
            if token != BLANK and index < limit:
                look = torch.zeros(2, columns)
                look[:, start:end] = 1 / (2 * (end - start))
                torch.testing.assert_close(generation.attention[image, index], look)
            index += token != BLANK
            start = end
        assert generation.attention[image, min(index, limit) :].abs().sum() == 0


@pytest.mark.parametrize(
    ("decoding", "message"),
    [
        (Decoding(balanced=True), r"decoding\.balanced: .*decoding\.method=beam"),
        (Decoding("beam", return_attention=True), r"decoding\.return_attention: .*decoding\.method=greedy"),
        (Decoding(two_way=True), r"decoding\.two_way: the model has no decoder"),
        (Decoding("beam", ctc_weight=0.3), r"decoding\.ctc_weight: the model has no decoder"),
    ],
)
def test_what_a_ctc_head_cannot_do_is_refused(decoding: Decoding, message: str) -> None:
    config = ModelConfig(decoder=DecoderConfig(name="none"), ctc=CtcConfig("linear"))
    model = build_model(config, PAIRS).eval()
    with pytest.raises(ModelConfigError, match=message):
        check_decoding(model, decoding)
    with pytest.raises(ModelConfigError, match=message):
        model.generate(torch.zeros(1, 1, 16, 32, dtype=torch.uint8), decoding)


def test_repeats_need_a_blank() -> None:
    def spelled(path: list[int]) -> list[list[int]]:
        logits = 20 * F.one_hot(torch.tensor([path]), 5).float()
        columns = torch.tensor([len(path)])
        greedy = best_path(logits, columns, memory_of((1, len(path))), Decoding(), LETTERS).token_ids.tolist()
        assert prefix_beam_search(logits, columns, Decoding("beam"), LETTERS).token_ids.tolist() == greedy
        return greedy

    assert spelled([2, 2, BLANK, 2, 4, 4]) == [[2, 2, 4, EOS]]
    assert spelled([2, 2, 2, 2]) == [[2, EOS]]
    assert spelled([BLANK, BLANK]) == [[EOS]]
    assert spelled([2, BLANK] * 12) == [[2] * 8]  # the limit leaves no room for EOS


def test_a_recognizer_without_decoder_reads_with_its_head() -> None:
    config = ModelConfig(
        backbone=BackboneConfig(small_cnn=SmallCnnConfig(width=4)),
        encoder=EncoderConfig(embed_dim=16, mlp_dim=24),
        decoder=DecoderConfig(name="none"),
        ctc=CtcConfig(head="linear"),
    )
    torch.manual_seed(0)
    model = build_model(config, PAIRS).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.4)
    images = torch.randint(0, 256, (3, 1, 64, 96), dtype=torch.uint8)
    sizes = torch.tensor([[64, 96], [64, 48], [33, 72]])
    for decoding in [Decoding(return_attention=True), Decoding("beam", num_best=3), Decoding("beam", balanced=True)]:
        together = model.generate(images, decoding, sizes)
        assert (together.attention is not None) == decoding.return_attention
        with torch.autocast("cpu", torch.bfloat16):
            assert model.generate(images, decoding, sizes).log_probs.dtype == torch.float32
        for image, (height, width) in enumerate(sizes.tolist()):
            alone = model.generate(images[image : image + 1, :, :height, :width], decoding)
            assert text_of(alone.token_ids[0], alone.lengths[0]) == text_of(together.token_ids[image], together.lengths[image])
            torch.testing.assert_close(alone.log_probs[0], together.log_probs[image], rtol=1e-4, atol=1e-4)
    for wrong in [Decoding(two_way=True), Decoding("beam", ctc_weight=0.5)]:
        with pytest.raises(ModelConfigError, match="the model has no decoder"):
            model.generate(images, wrong)
