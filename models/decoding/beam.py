"""Beam search over all images of a batch at once.

Each image has `beam_size` running hypotheses, all of the same length. Of their 2 K likeliest continuations those that end
(with EOS among the first K, or at the length limit) leave the beam and are kept if they are among the n best so far; the
first K of the rest run on. An image is done when none that runs can come before the worst that is kept.

Legend: B batch, K beams, R = B * K rows, n kept hypotheses, T emitted positions, S source positions, V vocabulary.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from models.decoders import Decoder
from models.decoding.grammar import build_grammar
from models.decoding.greedy import greedy_decode
from models.decoding.maps import to_maps
from models.decoding.settings import Candidates, Decoding, Generation, length_limit
from models.decoding.stopping import all_done
from models.memory import Memory
from models.spec import OutputSpec


class Kept(NamedTuple):
    """The best hypotheses (B, n) that have ended, best first; where there are fewer, their `scores` are -inf.

    `steps`: when the last token came; `beams`: which beam read the tokens before it; `tokens`: the last token.
    """

    scores: Tensor
    log_probs: Tensor
    steps: Tensor
    beams: Tensor
    tokens: Tensor

    @classmethod
    def none(cls, batch: int, count: int, device: torch.device) -> "Kept":
        """Room for `count` hypotheses of each image."""
        worst = torch.full((batch, count), -torch.inf, device=device)
        zeros = torch.zeros((batch, count), dtype=torch.long, device=device)
        return cls(worst, worst, zeros - 1, zeros, zeros)

    def best_with(self, others: "Kept") -> "Kept":
        """The best of these and others."""
        count = self.scores.shape[1]
        scores, places = torch.cat([self.scores, others.scores], 1).topk(count)
        return Kept(scores, *(torch.cat(pair, 1).gather(1, places) for pair in zip(self[1:], others[1:], strict=True)))


def beam_decode(decoder: Decoder, memory: Memory, decoding: Decoding, spec: OutputSpec) -> Generation:
    """The best text of each image and its n best. One beam is greedy decoding."""
    if decoding.beam_size == 1:
        generation = greedy_decode(decoder, memory, decoding, spec)
        return replace(generation, candidates=only_candidates(generation, decoding, spec))
    candidates, attention = beam_search(decoder, memory, decoding, spec, decoding.num_best)
    return best_of(candidates, attention, spec)


def best_of(candidates: Candidates, attention: Tensor | None, spec: OutputSpec) -> Generation:
    """The first of the candidates as what was decoded, with its maps (B, T, h, w)."""
    token_ids = candidates.token_ids[:, 0]
    steps = int(token_counts(token_ids, candidates.lengths[:, 0], spec).max())
    return Generation(
        token_ids[:, :steps],
        candidates.lengths[:, 0],
        candidates.log_probs[:, 0],
        None if attention is None else attention[:, :steps],
        candidates,
    )


def only_candidates(generation: Generation, decoding: Decoding, spec: OutputSpec) -> Candidates:
    """What greedy decoding gave as the one candidate of each image."""
    tokens = token_counts(generation.token_ids, generation.lengths, spec)
    return Candidates(
        generation.token_ids[:, None],
        generation.lengths[:, None],
        generation.log_probs[:, None],
        (generation.log_probs / tokens**decoding.length_penalty)[:, None],
    )


def token_counts(token_ids: Tensor, lengths: Tensor, spec: OutputSpec) -> Tensor:
    """Tokens of each text, EOS included if it was emitted."""
    return lengths + (token_ids == spec.eos_id).any(-1)


def beam_search(
    decoder: Decoder, memory: Memory, decoding: Decoding, spec: OutputSpec, count: int
) -> tuple[Candidates, Tensor | None]:
    """The `count` best texts of each image, and the maps (B, T, h, w) of the best if they are asked for."""
    limit, beams, vocabulary = length_limit(decoding, spec), decoding.beam_size, spec.num_classes
    batch, device = memory.tokens.shape[0], memory.tokens.device
    cache = decoder.start(memory, limit, beams)
    grammar = build_grammar(decoding, spec, batch * beams, limit, device)
    first_rows = torch.arange(0, batch * beams, beams, device=device)[:, None]
    kept = Kept.none(batch, count, device)
    done = torch.zeros(batch, dtype=torch.bool, device=device)
    # All beams of an image begin alike: one of them stands for all.
    scores = torch.full((batch, beams), -torch.inf, device=device)
    scores[:, 0] = 0.0
    tokens = torch.full((batch * beams,), spec.bos_id, dtype=torch.long, device=device)
    history = History([], [], [])
    step = 0
    while step < limit and not all_done(done, step):
        logits = decoder.step(tokens, cache, decoding.return_attention)
        log_probs = grammar.restrict(logits.float().log_softmax(-1), limit - step)
        together = (scores[:, :, None] + log_probs.view(batch, beams, vocabulary)).flatten(1)
        log_probs, places = together.topk(2 * beams)
        sources, tokens_of = places // vocabulary, places % vocabulary
        eos = tokens_of == spec.eos_id

        ends = torch.ones_like(eos) if step == limit - 1 else eos
        log_probs_of_ends = log_probs.masked_fill(~ends, -torch.inf)[:, :beams]
        kept = kept.best_with(
            Kept(
                log_probs_of_ends / (step + 1) ** decoding.length_penalty,
                log_probs_of_ends,
                torch.full_like(sources, step)[:, :beams],
                sources[:, :beams],
                tokens_of[:, :beams],
            )
        )

        scores, chosen = log_probs.masked_fill(eos, -torch.inf).topk(beams)
        parents, chosen_tokens = sources.gather(1, chosen), tokens_of.gather(1, chosen)
        history.add(parents, chosen_tokens, cache.weights)
        # A log-probability can but fall, and what is left of it counts most in the longest text.
        done = done | (scores[:, 0] / limit**decoding.length_penalty <= kept.scores[:, -1])
        scores = scores.masked_fill(done[:, None], -torch.inf)  # so that nothing more of the image is kept
        rows, tokens = (first_rows + parents).flatten(), chosen_tokens.flatten()
        cache.reorder(rows)
        grammar.reorder(rows)
        grammar.advance(tokens)
        step += 1
    return history.candidates(kept, memory, spec)


class History(NamedTuple):
    """What each step chose: the beam (B, K) that each beam goes on from, its token (B, K), the attention (R, S) before."""

    parents: list[Tensor]
    tokens: list[Tensor]
    weights: list[Tensor]

    def add(self, parents: Tensor, tokens: Tensor, weights: Tensor | None) -> None:
        """One more step."""
        self.parents.append(parents)
        self.tokens.append(tokens)
        if weights is not None:
            self.weights.append(weights)

    def candidates(self, kept: Kept, memory: Memory, spec: OutputSpec) -> tuple[Candidates, Tensor | None]:
        """The texts of the kept hypotheses, followed from their last tokens back; the maps (B, T, h, w) of the best."""
        steps = kept.steps.masked_fill(kept.scores == -torch.inf, -1)
        beams, images = kept.beams, torch.arange(len(steps), device=steps.device)
        columns: list[Tensor] = []
        maps: list[Tensor] = []
        for step in reversed(range(int(steps.max()) + 1)):
            before = step < steps
            token = torch.where(before, self.tokens[step].gather(1, beams), spec.pad_id)
            columns.append(torch.where(steps == step, kept.tokens, token))
            beams = torch.where(before, self.parents[step].gather(1, beams), beams)
            if self.weights:
                weights = self.weights[step].unflatten(0, self.parents[step].shape)[images, beams[:, 0]]
                maps.append(weights.masked_fill((step > steps[:, 0])[:, None], 0.0))
        token_ids = torch.stack(columns[::-1], -1)
        lengths = steps + (kept.tokens != spec.eos_id)
        candidates = Candidates(token_ids, lengths.clamp(min=0), kept.log_probs, kept.scores)
        return candidates, to_maps(torch.stack(maps[::-1], 1), memory) if maps else None
