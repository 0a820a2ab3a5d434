"""Candidates are judged by teacher-forced log-probabilities of both directions, and by the CTC loss."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from models import (
    BackboneConfig,
    Candidates,
    CtcConfig,
    DecoderConfig,
    Decoding,
    EncoderConfig,
    Generation,
    ModelConfig,
    ModelConfigError,
    OutputSpec,
    Recognizer,
    SmallCnnConfig,
    build_model,
)
from models.decoders.directions import bidirectional, left_to_right, reverse_targets
from models.decoding import decode, rescoring
from models.decoding.beam import beam_search
from models.decoding.grammar import right_to_left
from models.heads.off import NoHead
from models.types import Memory
from tests.support.balanced_texts import check_rows
from tests.support.random_decoder import GROUPS, RandomDecoder, image_of, random_memory, text_log_prob

SPEC = replace(GROUPS, max_length=6)
REVERSE = right_to_left(SPEC)
seeds = st.integers(0, 10_000)


class RandomCtc(nn.Module):
    """Random columns; the first image has fewer than the others."""

    def __init__(self, seed: int, columns: int = 9) -> None:
        super().__init__()
        self.seed, self.columns = seed, columns

    def forward(self, memory: Memory) -> tuple[Tensor, Tensor]:
        # Of each image alone, so that a batch equals its members.
        logits = (memory.tokens.mean(1)[:, None, :] * torch.linspace(-3, 3, self.columns)[:, None]).sin() @ self.weight()
        return 3 * logits, torch.full((len(logits),), self.columns)

    def weight(self) -> Tensor:
        return torch.randn((6, SPEC.num_classes), generator=torch.Generator().manual_seed(self.seed))


def recognizer(seed: int, ctc: nn.Module | None = None, directions: Callable[..., object] = bidirectional) -> Recognizer:
    """What decoding needs of a recognizer."""
    head = ctc or NoHead(CtcConfig(), 6, SPEC, outputs=2)
    model = SimpleNamespace(decoder=RandomDecoder(SPEC, seed), ctc=head, directions=directions, output_spec=SPEC)
    return cast(Recognizer, model)


def candidates_of(generation: Generation) -> Candidates:
    assert generation.candidates is not None
    return generation.candidates


def text_of(row: Tensor) -> list[int]:
    tokens: list[int] = row.tolist()
    return tokens[: tokens.index(SPEC.eos_id)]


def both_log_probs(model: Recognizer, memory: Memory, text: list[int]) -> tuple[float, float]:
    forward = text_log_prob(model.decoder, memory, [*text, SPEC.eos_id], SPEC)
    return forward, text_log_prob(model.decoder, memory, [*text[::-1], SPEC.bos_id], REVERSE)


def ctc_log_prob(model: Recognizer, memory: Memory, text: list[int]) -> float:
    logits, columns = model.ctc(memory)
    assert logits is not None and columns is not None
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    loss = F.ctc_loss(log_probs, torch.tensor([text]), columns, torch.tensor([len(text)]), SPEC.bos_id, reduction="sum")
    return -float(loss)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 5), st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 0.3, 1.0]), st.booleans())
def test_two_way(seed: int, beams: int, penalty: float, weight: float, balanced: bool) -> None:
    """The candidates of both beams, merged, ranked by both directions and the CTC head: written out one by one."""
    model, memory = recognizer(seed, RandomCtc(seed)), random_memory(3, seed)
    decoding = Decoding("beam", None, beams, beams, penalty, two_way=True, ctc_weight=weight, balanced=balanced)
    generation = decode(model, memory, decoding)
    candidates = candidates_of(generation)
    search = replace(decoding, beam_size=max(2, beams))
    for image in range(3):
        one = image_of(memory, image)
        texts = set()
        if beams > 1:
            forward, _ = beam_search(model.decoder, one, search, SPEC, beams)
            backward, _ = beam_search(model.decoder, one, search, REVERSE, beams)
            texts |= {tuple(text_of(row)) for row in forward.token_ids[forward.scores > -torch.inf]}
            rows = backward.token_ids[backward.scores > -torch.inf].tolist()
            texts |= {tuple(row[: row.index(SPEC.bos_id)][::-1]) for row in rows}
        else:
            texts = {tuple(text_of(candidates.token_ids[image, 0]))}
        scores = {}
        for text in texts:
            mean = sum(both_log_probs(model, one, list(text))) / 2
            by_ctc = ctc_log_prob(model, one, list(text))
            by_ctc = by_ctc if by_ctc > -torch.inf else -1e4
            scores[text] = ((1 - weight) * mean + weight * by_ctc) / (len(text) + 1) ** penalty
        expected = sorted(scores.values(), reverse=True)[:beams]
        expected += [-torch.inf] * (beams - len(expected))
        torch.testing.assert_close(candidates.scores[image], torch.tensor(expected), rtol=1e-4, atol=1e-4)
        best = text_of(generation.token_ids[image])
        assert scores[tuple(best)] == pytest.approx(expected[0], abs=1e-3)
        assert float(generation.log_probs[image]) == pytest.approx(both_log_probs(model, one, best)[0], abs=1e-4)
        assert int(generation.lengths[image]) == len(best)
    check_rows(
        candidates.token_ids[candidates.scores > -torch.inf], SPEC if balanced else replace(SPEC, open_ids=(), close_ids=())
    )


@settings(max_examples=20, deadline=None)
@given(seeds, st.floats(0.1, 1.0))
def test_ctc_weight(seed: int, weight: float) -> None:
    model, memory = recognizer(seed, RandomCtc(seed), left_to_right), random_memory(3, seed)
    decoding = Decoding("beam", beam_size=4, num_best=4, ctc_weight=weight, return_attention=True)
    generation = decode(model, memory, decoding)
    candidates = candidates_of(generation)
    assert torch.equal(candidates.scores, candidates.scores.sort(descending=True)[0])
    for image in range(3):
        one = image_of(memory, image)
        for n in range(4):
            text = text_of(candidates.token_ids[image, n])
            log_prob = text_log_prob(model.decoder, one, [*text, SPEC.eos_id], SPEC)
            assert float(candidates.log_probs[image, n]) == pytest.approx(log_prob, abs=1e-4)
            score = ((1 - weight) * log_prob + weight * ctc_log_prob(model, one, text)) / (len(text) + 1)
            assert float(candidates.scores[image, n]) == pytest.approx(score, abs=1e-4)
    # The candidates are those of the beam, which finds complete texts only; the CTC head reorders them.
    found, _ = beam_search(model.decoder, memory, decoding, SPEC, 4)
    for image in range(3):
        assert {tuple(row) for row in found.token_ids[image].tolist()} == {
            tuple(row) for row in candidates.token_ids[image].tolist()
        }


def test_texts_too_long_for_the_columns_are_still_ranked() -> None:
    model, memory = recognizer(5, RandomCtc(5, columns=1)), random_memory(4, 5)
    generation = decode(model, memory, Decoding("beam", beam_size=3, num_best=3, ctc_weight=0.5, length_penalty=0.0))
    candidates = candidates_of(generation)
    assert (candidates.scores > -torch.inf).all()
    impossible = candidates.lengths > 1
    assert impossible.any()
    expected = 0.5 * candidates.log_probs - 0.5 * 1e4
    torch.testing.assert_close(candidates.scores[impossible], expected[impossible])


@settings(max_examples=20, deadline=None)
@given(seeds, st.booleans())
def test_greedy_two_way_takes_the_better_of_two(seed: int, attention: bool) -> None:
    model, memory = recognizer(seed), random_memory(3, seed)
    generation = decode(model, memory, Decoding(two_way=True, return_attention=attention))
    beam = decode(model, memory, Decoding("beam", beam_size=1, two_way=True, return_attention=attention))
    assert generation.candidates is None and beam.candidates is not None
    assert torch.equal(generation.token_ids, beam.token_ids) and torch.equal(generation.log_probs, beam.log_probs)
    assert (generation.attention is not None) == attention
    for image in range(3):
        one = image_of(memory, image)
        ways = [rescoring.search(model.decoder, one, Decoding(two_way=True), spec) for spec in (SPEC, REVERSE)]
        forward, backward = (way.token_ids[0, 0].tolist() for way in ways)
        texts = [forward[: forward.index(SPEC.eos_id)], backward[: backward.index(SPEC.bos_id)][::-1]]
        scores = [sum(both_log_probs(model, one, text)) / (len(text) + 1) for text in texts]
        assert text_of(generation.token_ids[image]) in [
            text for text, score in zip(texts, scores, strict=True) if score > max(scores) - 1e-4
        ]


@pytest.mark.parametrize("two_way", [False, True])
def test_attention_is_that_of_the_text_from_left_to_right(two_way: bool) -> None:
    model, memory = recognizer(2, RandomCtc(2)), random_memory(4, 2)
    generation = decode(model, memory, Decoding("beam", beam_size=4, two_way=two_way, ctc_weight=0.5, return_attention=True))
    assert generation.attention is not None and generation.attention.shape == (4, generation.token_ids.shape[1], 2, 3)
    for image in range(4):
        cache, token = model.decoder.start(image_of(memory, image), 6), torch.tensor([SPEC.bos_id])
        for t in range(int(generation.lengths[image]) + 1):
            model.decoder.step(token, cache, need_weights=True)
            assert cache.weights is not None
            torch.testing.assert_close(generation.attention[image, t], cache.weights[0, 1:].view(2, 3))
            token = generation.token_ids[image, t : t + 1]
        assert generation.attention[image, t + 1 :].abs().sum() == 0


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, memory = recognizer(7), random_memory(3, 7)
    decoding = Decoding("beam", beam_size=4, num_best=4, two_way=True)
    whole = candidates_of(decode(model, memory, decoding))
    monkeypatch.setattr(rescoring, "MAX_LOGITS", 100)
    parts = candidates_of(decode(model, memory, decoding))
    assert torch.equal(whole.token_ids, parts.token_ids)
    torch.testing.assert_close(whole.scores, parts.scores)


def test_what_a_model_cannot_do() -> None:
    memory = random_memory(1)
    with pytest.raises(ModelConfigError, match=r"decoding\.two_way.*model\.decoder\.direction=both"):
        decode(recognizer(0, directions=left_to_right), memory, Decoding(two_way=True))
    with pytest.raises(ModelConfigError, match=r"decoding\.ctc_weight.*model\.ctc\.head=linear"):
        decode(recognizer(0), memory, Decoding("beam", ctc_weight=0.2))
    with pytest.raises(ModelConfigError, match=r"decoding\.ctc_weight.*decoding\.method=beam"):
        decode(recognizer(0, RandomCtc(0)), memory, Decoding(ctc_weight=0.2))
    with pytest.raises(ModelConfigError, match=r"decoding\.balanced"):
        plain = OutputSpec(SPEC.num_classes, SPEC.bos_id, SPEC.eos_id, SPEC.pad_id, 6)
        rescoring.search(RandomDecoder(SPEC), memory, Decoding(balanced=True), plain)


def tiny_recognizer(seed: int) -> Recognizer:
    """Both directions and a CTC head, with weights that make texts differ."""
    config = ModelConfig(
        backbone=BackboneConfig(small_cnn=SmallCnnConfig(width=4)),
        encoder=EncoderConfig(embed_dim=16, mlp_dim=24),
        decoder=DecoderConfig(embed_dim=16, mlp_dim=24, direction="both"),
        ctc=CtcConfig(head="linear"),
    )
    torch.manual_seed(seed)
    model = build_model(config, SPEC).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.4)
    return model


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_a_recognizer(seed: int) -> None:
    """The score of the best text is made of what `forward` returns for it; images of a batch are read as if alone."""
    model = tiny_recognizer(seed)
    images = torch.randint(0, 256, (3, 1, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    sizes = torch.tensor([[64, 96], [64, 48], [40, 72]])
    decoding = Decoding("beam", beam_size=3, num_best=2, two_way=True, ctc_weight=0.25, balanced=True)
    generation = model.generate(images, decoding, sizes)
    candidates = candidates_of(generation)
    tgt_in = torch.cat([torch.full((3, 1), SPEC.bos_id), generation.token_ids[:, :-1]], 1)
    tgt_in = tgt_in.masked_fill(tgt_in == SPEC.eos_id, SPEC.pad_id)
    with torch.inference_mode():
        output = model(images, tgt_in, sizes)
    _, reverse_out = reverse_targets(tgt_in, SPEC)
    assert output.logits is not None and output.reverse_logits is not None and output.ctc_logits is not None
    forward = -F.cross_entropy(output.logits.transpose(1, 2), generation.token_ids, ignore_index=SPEC.pad_id, reduction="none")
    backward = -F.cross_entropy(output.reverse_logits.transpose(1, 2), reverse_out, ignore_index=SPEC.pad_id, reduction="none")
    by_ctc = -F.ctc_loss(
        output.ctc_logits.log_softmax(-1).transpose(0, 1),
        generation.token_ids,
        output.ctc_lengths,
        generation.lengths,
        SPEC.bos_id,
        reduction="none",
    )
    scores = (0.75 * (forward.sum(1) + backward.sum(1)) / 2 + 0.25 * by_ctc) / (generation.lengths + 1)
    torch.testing.assert_close(generation.log_probs, forward.sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(candidates.scores[:, 0], scores, rtol=1e-4, atol=1e-4)
    for image, (height, width) in enumerate(sizes.tolist()):
        alone = model.generate(images[image : image + 1, :, :height, :width], decoding)
        assert text_of(alone.token_ids[0]) == text_of(generation.token_ids[image])


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(return_attention=True),
        Decoding("beam", num_best=5, return_attention=True),
        Decoding("beam", two_way=True, balanced=True, return_attention=True),
        Decoding("beam", ctc_weight=0.5),
    ],
    ids=["greedy", "beam", "two_way", "ctc"],
)
def test_autocast(decoding: Decoding) -> None:
    model = tiny_recognizer(0)
    images = torch.randint(0, 256, (2, 1, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        generation = model.generate(images, decoding)
        again = model.generate(images, replace(decoding, method="beam", beam_size=1, num_best=1))
        greedy = model.generate(images, Decoding(two_way=decoding.two_way, balanced=decoding.balanced))
    assert generation.log_probs.dtype == torch.float32 and generation.log_probs.isfinite().all()
    assert generation.token_ids.is_inference()
    if decoding.ctc_weight == 0:  # which makes texts end within the limit
        assert torch.equal(again.token_ids, greedy.token_ids)
