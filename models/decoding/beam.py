"""Beam search over all images of a batch at once.

Each image has `beam_size` running hypotheses, all of the same length. Of their 2 K most probable continuations, those that end
(with EOS among the first K, or at the length limit) leave the beam and are stored if they are among the n best so far; the
first K of the rest continue. An image is done when no running hypothesis can rank before the worst stored one.

Legend: B batch, K beams, R = B * K rows, n finished hypotheses, T emitted positions, S source positions, V vocabulary.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from models.decoders import Decoder
from models.decoding.grammar import build_grammar
from models.decoding.greedy import greedy_decode
from models.decoding.maps import to_maps
from models.decoding.settings import Decoding
from models.decoding.stopping import all_done, length_limit
from models.types import Candidates, Generation, Memory, OutputSpec


class FinishedHypotheses(NamedTuple):
    """The best finished hypotheses (B, n), best first; where there are fewer, their `scores` are -inf.

    `steps`: step of the last token; `beams`: beam that read the tokens before it; `tokens`: the last token.
    """

    scores: Tensor
    log_probs: Tensor
    steps: Tensor
    beams: Tensor
    tokens: Tensor

    @classmethod
    def empty(cls, batch: int, count: int, device: torch.device) -> "FinishedHypotheses":
        """Creates slots for `count` hypotheses of each image."""
        worst = torch.full((batch, count), -torch.inf, device=device)
        zeros = torch.zeros((batch, count), dtype=torch.long, device=device)
        return cls(worst, worst, zeros - 1, zeros, zeros)

    def merge(self, others: "FinishedHypotheses") -> "FinishedHypotheses":
        """Best n of these and `others`."""
        count = self.scores.shape[1]
        scores, indices = torch.cat([self.scores, others.scores], 1).topk(count)
        rest = (torch.cat(pair, 1).gather(1, indices) for pair in zip(self[1:], others[1:], strict=True))
        return FinishedHypotheses(scores, *rest)


def beam_decode(decoder: Decoder, memory: Memory, decoding: Decoding, spec: OutputSpec) -> Generation:
    """Best text of each image and its n best by beam search; with one beam, by greedy decoding."""
    if decoding.beam_size == 1:
        generation = greedy_decode(decoder, memory, decoding, spec)
        return replace(generation, candidates=single_candidates(generation, decoding, spec))
    candidates, attention = beam_search(decoder, memory, decoding, spec, decoding.num_best)
    return best_of(candidates, attention, spec)


def best_of(candidates: Candidates, attention: Tensor | None, spec: OutputSpec) -> Generation:
    """Generation of the first of the candidates, with its maps (B, T, h, w)."""
    token_ids = candidates.token_ids[:, 0]
    steps = int(token_counts(token_ids, candidates.lengths[:, 0], spec).max())
    return Generation(
        token_ids[:, :steps],
        candidates.lengths[:, 0],
        candidates.log_probs[:, 0],
        None if attention is None else attention[:, :steps],
        candidates,
    )


def single_candidates(generation: Generation, decoding: Decoding, spec: OutputSpec) -> Candidates:
    """The result of greedy decoding as the only candidate of each image."""
    tokens = token_counts(generation.token_ids, generation.lengths, spec)
    return Candidates(
        generation.token_ids[:, None],
        generation.lengths[:, None],
        generation.log_probs[:, None],
        (generation.log_probs / tokens**decoding.length_penalty)[:, None],
    )


def token_counts(token_ids: Tensor, lengths: Tensor, spec: OutputSpec) -> Tensor:
    """Number of tokens of each text, EOS included if it was emitted."""
    return lengths + (token_ids == spec.eos_id).any(-1)


def beam_search(
    decoder: Decoder, memory: Memory, decoding: Decoding, spec: OutputSpec, count: int
) -> tuple[Candidates, Tensor | None]:
    """The `count` best texts of each image, and the maps (B, T, h, w) of the best if they are requested."""
    limit, beams, vocabulary = length_limit(decoding, spec), decoding.beam_size, spec.num_classes
    batch, device = memory.tokens.shape[0], memory.tokens.device
    cache = decoder.start(memory, limit, beams)
    grammar = build_grammar(decoding, spec, batch * beams, limit, device)
    first_rows = torch.arange(0, batch * beams, beams, device=device)[:, None]
    finished = FinishedHypotheses.empty(batch, count, device)
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    # All beams of an image begin alike: only the first counts.
    scores = torch.full((batch, beams), -torch.inf, device=device)
    scores[:, 0] = 0.0
    tokens = torch.full((batch * beams,), spec.bos_id, dtype=torch.long, device=device)
    backtrace = BeamBacktrace([], [], [])
    step = 0
    while step < limit and not all_done(done, step):
        logits = decoder.step(tokens, cache, decoding.return_attention)
        log_probs = grammar.restrict(logits.float().log_softmax(-1), limit - step)
        totals = (scores[:, :, None] + log_probs.view(batch, beams, vocabulary)).flatten(1)
        log_probs, indices = totals.topk(2 * beams)
        sources, next_tokens = indices // vocabulary, indices % vocabulary
        eos = next_tokens == spec.eos_id

        ends = torch.ones_like(eos) if step == limit - 1 else eos
        end_log_probs = log_probs.masked_fill(~ends, -torch.inf)[:, :beams]
        finished = finished.merge(
            FinishedHypotheses(
                end_log_probs / (step + 1) ** decoding.length_penalty,
                end_log_probs,
                torch.full_like(sources, step)[:, :beams],
                sources[:, :beams],
                next_tokens[:, :beams],
            )
        )

        scores, chosen = log_probs.masked_fill(eos, -torch.inf).topk(beams)
        parents, chosen_tokens = sources.gather(1, chosen), next_tokens.gather(1, chosen)
        backtrace.add(parents, chosen_tokens, cache.weights)
        # Log-probabilities only decrease, and the length penalty divides them most in the longest text: an upper bound.
        done = done | (scores[:, 0] / limit**decoding.length_penalty <= finished.scores[:, -1])
        scores = scores.masked_fill(done[:, None], -torch.inf)  # so that no more hypotheses of the image are stored
        rows, tokens = (first_rows + parents).flatten(), chosen_tokens.flatten()
        cache.reorder(rows)
        grammar.reorder(rows)
        grammar.advance(tokens)
        step += 1
    return backtrace.candidates(finished, memory, spec)


class BeamBacktrace(NamedTuple):
    """Choices of each step: the parent beam (B, K) of each beam, its token (B, K), the attention (R, S) before it."""

    parents: list[Tensor]
    tokens: list[Tensor]
    weights: list[Tensor]

    def add(self, parents: Tensor, tokens: Tensor, weights: Tensor | None) -> None:
        """Appends a step."""
        self.parents.append(parents)
        self.tokens.append(tokens)
        if weights is not None:
            self.weights.append(weights)

    def candidates(self, finished: FinishedHypotheses, memory: Memory, spec: OutputSpec) -> tuple[Candidates, Tensor | None]:
        """Texts of the finished hypotheses, traced back from their last tokens; the maps (B, T, h, w) of the best."""
        steps = finished.steps.masked_fill(finished.scores == -torch.inf, -1)
        beams, images = finished.beams, torch.arange(len(steps), device=steps.device)
        columns: list[Tensor] = []
        maps: list[Tensor] = []
        for step in reversed(range(int(steps.max()) + 1)):
            before = step < steps
            token = torch.where(before, self.tokens[step].gather(1, beams), spec.pad_id)
            columns.append(torch.where(steps == step, finished.tokens, token))
            beams = torch.where(before, self.parents[step].gather(1, beams), beams)
            if self.weights:
                weights = self.weights[step].unflatten(0, self.parents[step].shape)[images, beams[:, 0]]
                maps.append(weights.masked_fill((step > steps[:, 0])[:, None], 0.0))
        token_ids = torch.stack(columns[::-1], -1)
        lengths = steps + (finished.tokens != spec.eos_id)
        candidates = Candidates(token_ids, lengths.clamp(min=0), finished.log_probs, finished.scores)
        return candidates, to_maps(torch.stack(maps[::-1], 1), memory) if maps else None
