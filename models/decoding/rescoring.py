"""Rescoring of candidates: by the other direction of the decoder, or by the CTC head.

`two_way`: the decoder reads each image from left to right and from right to left, with the same weights; the candidates of
each direction are also scored by the other, and rank by the mean of their two log-probabilities (BTTR, Zhao et al. 2021;
CoMER, Zhao and Gao 2022). With method greedy, each direction has one candidate.
`ctc_weight`: a candidate scores (1 - ctc_weight) times the log-probability of the decoder plus ctc_weight times that of
the CTC head (Hori et al. 2017). The text with the best score / length ** length_penalty is returned.

Both score complete texts: all candidates end with EOS within the length limit.

Legend: B batch, n candidates of an image, T emitted positions, V vocabulary.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from models.decoders import Decoder
from models.decoders.directions import bidirectional, reverse_targets
from models.decoding.base import DecodableModel
from models.decoding.beam import beam_search, best_of, single_candidates, token_counts
from models.decoding.grammar import right_to_left
from models.decoding.greedy import greedy_decode
from models.decoding.maps import attention_along
from models.decoding.settings import Decoding
from models.errors import ModelConfigError
from models.heads.off import NoHead
from models.types import Candidates, Generation, Memory, OutputSpec

MAX_LOGITS = 2**25  # of one pass; 128 MiB in float32
NO_PATH = -1e4  # log-probability of a text for which the image has too few columns: finite, so that such texts keep an order


def rescored_decode(model: DecodableModel, memory: Memory, decoding: Decoding) -> Generation:
    """Best text of each image by all scores, with the attention of the decoder from left to right."""
    spec = model.output_spec
    find = bidirectional_candidates if decoding.two_way else left_to_right_candidates
    found = find(model.decoder, memory, decoding, spec)
    scores, absent = found.scores, found.scores == -torch.inf
    if decoding.ctc_weight > 0:
        ctc_scores = ctc_log_probs(model, memory, found.token_ids, found.lengths)
        scores = (1 - decoding.ctc_weight) * scores + decoding.ctc_weight * ctc_scores
    scores = scores / token_counts(found.token_ids, found.lengths, spec).clamp(min=1) ** decoding.length_penalty
    scores = scores.masked_fill(absent, -torch.inf)
    # Greedy decoding has one candidate of each direction, of which one is returned.
    scores, indices = scores.topk(decoding.num_best)
    lengths = found.lengths.gather(1, indices)
    token_ids = found.token_ids.gather(1, indices[..., None].expand(-1, -1, found.token_ids.shape[2]))
    best = best_of(Candidates(token_ids, lengths, found.log_probs.gather(1, indices), scores), None, spec)
    if decoding.method == "greedy":
        best = replace(best, candidates=None)
    if not decoding.return_attention:
        return best
    return replace(best, attention=attention_along(model.decoder, memory, best.token_ids, spec))


def check_heads(model: DecodableModel, decoding: Decoding) -> None:
    """Raises ModelConfigError where the model lacks a head that rescoring needs."""
    if decoding.two_way and model.directions is not bidirectional:
        raise ModelConfigError(
            "decoding.two_way", "the decoder was trained from left to right only; train with model.decoder.direction=both"
        )
    if decoding.ctc_weight > 0 and isinstance(model.ctc, NoHead):
        raise ModelConfigError("decoding.ctc_weight", "the model has no CTC head; train with model.ctc.head=linear, or set 0")
    if decoding.ctc_weight > 0 and decoding.method == "greedy" and not decoding.two_way:
        raise ModelConfigError(
            "decoding.ctc_weight",
            "greedy decoding has one candidate, so nothing to rank; use decoding.method=beam",
        )


def search(decoder: Decoder, memory: Memory, decoding: Decoding, spec: OutputSpec) -> Candidates:
    """All candidates that decoding in one direction finds."""
    decoding = replace(decoding, return_attention=False)
    if decoding.method == "greedy" or decoding.beam_size == 1:
        return single_candidates(greedy_decode(decoder, memory, decoding, spec), decoding, spec)
    return beam_search(decoder, memory, decoding, spec, decoding.beam_size)[0]


def left_to_right_candidates(decoder: Decoder, memory: Memory, decoding: Decoding, spec: OutputSpec) -> Candidates:
    """Candidates from left to right; their `scores` are their log-probabilities."""
    found = search(decoder, memory, decoding, spec)
    return replace(found, scores=found.log_probs)


def bidirectional_candidates(decoder: Decoder, memory: Memory, decoding: Decoding, spec: OutputSpec) -> Candidates:
    """Candidates (B, 2 n) of both directions, `log_probs` from left to right, `scores` the mean of both directions.

    Of two equal candidates, the second has the score -inf.
    """
    reverse_spec = right_to_left(spec)
    forward = search(decoder, memory, decoding, spec)
    backward = search(decoder, memory, decoding, reverse_spec)
    width = max(forward.token_ids.shape[2], backward.token_ids.shape[2])
    forward_ids = F.pad(forward.token_ids, (0, width - forward.token_ids.shape[2]), value=spec.pad_id)
    backward_ids = F.pad(backward.token_ids, (0, width - backward.token_ids.shape[2]), value=spec.pad_id)
    # Each candidate as a target of the direction that did not find it.
    forward_in, forward_out = reversed_texts(forward_ids, spec)
    backward_in, backward_out = reversed_texts(backward_ids, reverse_spec)
    tgt_in, tgt_out = torch.cat([forward_in, backward_in], 1), torch.cat([forward_out, backward_out], 1)
    cross_scores = text_log_probs(decoder, memory, tgt_in, tgt_out, spec)
    of_forward, of_backward = cross_scores.split([forward_ids.shape[1], backward_ids.shape[1]], 1)

    token_ids = torch.cat([forward_ids, backward_out], 1)
    log_probs = torch.cat([forward.log_probs, of_backward], 1)
    scores = (log_probs + torch.cat([of_forward, backward.log_probs], 1)) / 2
    same = (token_ids[:, :, None] == token_ids[:, None]).all(-1).tril(-1).any(-1)
    absent = torch.cat([forward.scores, backward.scores], 1) == -torch.inf
    return Candidates(
        token_ids, torch.cat([forward.lengths, backward.lengths], 1), log_probs, scores.masked_fill(same | absent, -torch.inf)
    )


def reversed_texts(token_ids: Tensor, spec: OutputSpec) -> tuple[Tensor, Tensor]:
    """Converts texts (B, n, T) that end with EOS to input and output of the other direction, each (B, n, T)."""
    begin = token_ids.new_full((*token_ids.shape[:2], 1), spec.bos_id)
    tgt_in = torch.cat([begin, token_ids[..., :-1]], 2).flatten(0, 1)
    reverse_in, reverse_out = reverse_targets(tgt_in, spec)
    return reverse_in.view_as(token_ids), reverse_out.view_as(token_ids)


def text_log_probs(decoder: Decoder, memory: Memory, tgt_in: Tensor, tgt_out: Tensor, spec: OutputSpec) -> Tensor:
    """Teacher-forced log-probabilities (B, n) of `tgt_out` (B, n, T) after `tgt_in`, PAD excluded."""
    batch, count, width = tgt_out.shape
    images = torch.arange(batch, device=tgt_out.device).repeat_interleave(count)
    rows = max(1, MAX_LOGITS // (width * spec.num_classes))
    parts: list[Tensor] = []
    for image, inputs, outputs in zip(
        images.split(rows), tgt_in.flatten(0, 1).split(rows), tgt_out.flatten(0, 1).split(rows), strict=True
    ):
        mask = None if memory.mask is None else memory.mask[image]
        logits = decoder(inputs, memory._replace(tokens=memory.tokens[image], mask=mask))
        log_probs = logits.float().log_softmax(-1).gather(2, outputs[..., None])[..., 0]
        parts.append(log_probs.masked_fill(outputs == spec.pad_id, 0.0).sum(1))
    return torch.cat(parts).view(batch, count)


def ctc_log_probs(model: DecodableModel, memory: Memory, token_ids: Tensor, lengths: Tensor) -> Tensor:
    """Log-probabilities (B, n) by the CTC head of texts (B, n, T) of `lengths` (B, n)."""
    logits, columns = model.ctc(memory)
    assert logits is not None and columns is not None
    count = token_ids.shape[1]
    losses = F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1).repeat_interleave(count, 1),
        token_ids.flatten(0, 1),
        columns.repeat_interleave(count),
        lengths.flatten(),
        blank=model.output_spec.bos_id,
        reduction="none",
    )
    return (-losses).clamp(min=NO_PATH).view_as(lengths)
