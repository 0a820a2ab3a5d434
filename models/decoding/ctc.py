"""Decoding with the CTC head: the best path, or the best texts by prefix beam search.

A path has a token or the blank in each column; merging repeats and dropping blanks gives its text. EOS and PAD are never
part of a text. Texts are ranked by their log-probability: it covers the whole image and does not decrease with each token,
so `length_penalty` does not apply.

Legend: B batch, w columns of the feature map, h its height, K prefixes of an image, n candidates, T emitted positions,
L the longest text, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.decoding.grammar import OpenGroups, check_groups, without_groups
from models.decoding.settings import Decoding
from models.decoding.stopping import length_limit
from models.layers.padding import columns_mask
from models.types import Candidates, Generation, Memory, OutputSpec


def best_path(logits: Tensor, columns: Tensor, memory: Memory, decoding: Decoding, spec: OutputSpec) -> Generation:
    """Text of the most probable path through the first `columns` (B,) of `logits` (B, w, V), computed from `memory`.

    The attention of a token is uniform over the image area of the columns with that token; EOS has none.
    """
    limit = length_limit(decoding, spec)
    mask = columns_mask(columns, logits.shape[1])
    best, path = token_log_probs(logits, spec, keep_blank=True).max(-1)
    path = path.masked_fill(~mask, spec.bos_id)
    before = F.pad(path[:, :-1], (1, 0), value=spec.bos_id)
    named = path != spec.bos_id
    # Each column's index in the text; tokens beyond the limit are dropped, blanks go to an index that is cut off.
    index = ((named & (path != before)).cumsum(1) - 1).masked_fill(~named, limit).clamp(max=limit)
    lengths = (named & (path != before)).sum(1).clamp(max=limit)
    texts = torch.full((len(path), limit + 1), spec.pad_id, device=path.device).scatter(1, index, path)[:, :limit]
    token_ids = with_eos(texts, lengths, limit, spec)
    attention = None
    if decoding.return_attention:
        named_by = F.one_hot(index, limit + 1)[..., : token_ids.shape[1]].transpose(1, 2).float()
        evenly = named_by / named_by.sum(-1, keepdim=True).clamp(min=1)
        area = memory.area()
        rows = named_by.new_ones(1, memory.size[0]) if area is None else area[:, :, 0].float()
        attention = evenly[:, :, None] * (rows / rows.sum(1, keepdim=True))[:, None, :, None]
    return Generation(token_ids, lengths, best.masked_fill(~mask, 0.0).sum(1), attention)


def token_log_probs(logits: Tensor, spec: OutputSpec, keep_blank: bool) -> Tensor:
    """Log-probabilities (B, w, V) with -inf at tokens that are never part of a text; the rest is not normalized again."""
    dropped = [spec.eos_id, spec.pad_id] if keep_blank else [spec.bos_id, spec.eos_id, spec.pad_id]
    log_probs = logits.float().log_softmax(-1)
    return log_probs.index_fill(-1, torch.tensor(dropped, device=logits.device), -torch.inf)


def with_eos(texts: Tensor, lengths: Tensor, limit: int, spec: OutputSpec) -> Tensor:
    """Appends EOS to `texts` (..., L) of `lengths` (...) shorter than the limit, then PAD: (..., T)."""
    width = min(limit, int(lengths.max()) + 1)
    index = torch.arange(width, device=texts.device)
    token_ids = F.pad(texts, (0, 1), value=spec.pad_id)[..., :width]
    token_ids = token_ids.masked_fill(index == lengths[..., None], spec.eos_id)
    return token_ids.masked_fill(index > lengths[..., None], spec.pad_id)


class Prefixes(NamedTuple):
    """Prefixes of texts in the beam, (B, K): all different where their probability is not 0.

    `blank`, `named`: log-probability of all paths so far that end in a blank, or in the last token of the prefix;
    `tokens` (B, K, L): the prefixes, -1 after their end; `lengths` (B, K).
    """

    blank: Tensor
    named: Tensor
    tokens: Tensor
    lengths: Tensor

    @classmethod
    def empty(cls, batch: int, beams: int, longest: int, device: torch.device) -> "Prefixes":
        """The empty prefix, and K - 1 of probability 0."""
        blank = torch.full((batch, beams), -torch.inf, device=device)
        tokens = torch.full((batch, beams, longest), -1, device=device)
        lengths = torch.zeros((batch, beams), dtype=torch.long, device=device)
        return cls(blank.index_fill(1, lengths[0, :1], 0.0), blank, tokens, lengths)

    @property
    def log_probs(self) -> Tensor:
        """Log-probabilities (B, K) of all paths so far."""
        return torch.logaddexp(self.blank, self.named)

    def last(self, blank_id: int) -> Tensor:
        """Last token (B, K) of each prefix, the blank for the empty one."""
        last = self.tokens.gather(2, (self.lengths - 1).clamp(min=0)[..., None])[..., 0]
        return last.masked_fill(self.lengths == 0, blank_id)

    def is_parent(self) -> Tensor:
        """Whether prefix j is prefix i and one more token, (B, i, j)."""
        width = int(self.lengths.max())
        tokens, index = self.tokens[:, :, :width], torch.arange(width, device=self.tokens.device)
        parents = tokens.masked_fill(index == self.lengths[..., None] - 1, -1)
        same = (tokens[:, :, None] == parents[:, None]).all(-1)
        return same & ((self.lengths > 0) & (self.log_probs > -torch.inf))[:, None]


def prefix_beam_search(logits: Tensor, columns: Tensor, decoding: Decoding, spec: OutputSpec) -> Generation:
    """Best texts by the probability of all their paths (Graves et al. 2006; Hannun et al. 2014).

    Scans the first `columns` (B,) of `logits` (B, w, V). Exact where no prefix is ever dropped. With `balanced`, only open
    groups can be closed, and texts with open groups are dropped at the end unless there are no others.
    """
    if decoding.balanced:
        check_groups(spec)
    batch, width, vocabulary = logits.shape
    beams, limit = decoding.beam_size, length_limit(decoding, spec)
    log_probs = logits.float().log_softmax(-1)
    extending = token_log_probs(logits, spec, keep_blank=False)
    prefixes = Prefixes.empty(batch, beams, min(limit, width), logits.device)
    groups = OpenGroups(spec if decoding.balanced else without_groups(spec), batch * beams, limit, logits.device)
    first_rows = torch.arange(0, batch * beams, beams, device=logits.device)[:, None]
    for column in range(width):
        stay, extended = extend_column(prefixes, log_probs[:, column], extending[:, column], groups, limit, spec)
        totals, indices = torch.cat([stay.log_probs, extended.flatten(1)], 1).topk(beams)
        grows = indices >= beams
        sources = torch.where(grows, (indices - beams) // vocabulary, indices)
        added = torch.where(grows, (indices - beams) % vocabulary, spec.pad_id)
        lengths = stay.lengths.gather(1, sources)
        tokens = stay.tokens.gather(1, sources[..., None].expand_as(stay.tokens))
        longest = tokens.shape[2]  # prefixes of probability 0 may have reached it as well
        slot = lengths.clamp(max=longest - 1)[..., None]
        tokens = tokens.scatter(2, slot, torch.where(grows[..., None], added[..., None], tokens.gather(2, slot)))
        following = Prefixes(
            stay.blank.gather(1, sources).masked_fill(grows, -torch.inf),
            torch.where(grows, totals, stay.named.gather(1, sources)),
            tokens,
            (lengths + grows).clamp(max=longest),
        )
        # An image that ends before this column keeps its prefixes.
        inside = (column < columns)[:, None]
        prefixes = Prefixes(
            torch.where(inside, following.blank, prefixes.blank),
            torch.where(inside, following.named, prefixes.named),
            torch.where(inside[..., None], following.tokens, prefixes.tokens),
            torch.where(inside, following.lengths, prefixes.lengths),
        )
        unchanged = torch.arange(beams, device=logits.device).expand(batch, -1)
        groups.reorder((first_rows + torch.where(inside, sources, unchanged)).flatten())
        groups.advance(added.masked_fill(~inside, spec.pad_id).flatten())
    return best_prefixes(prefixes, groups.depth.view(batch, beams), decoding, spec)


def extend_column(
    prefixes: Prefixes, log_probs: Tensor, extending: Tensor, groups: OpenGroups, limit: int, spec: OutputSpec
) -> tuple[Prefixes, Tensor]:
    """Advances the prefixes by a column: unextended, and log-probabilities (B, K, V) of each with one more token.

    `log_probs` (B, V) of the column, `extending` the same with -inf at tokens that are never part of a text. An extended
    prefix that is in the beam itself counts only there.
    """
    last, total = prefixes.last(spec.bos_id), prefixes.log_probs
    # A repeated token starts a new symbol only after a blank.
    extended = total[:, :, None] + extending[:, None]
    again = prefixes.blank + extending.gather(1, last)
    extended = extended.scatter(2, last[..., None], again[..., None])
    end = groups.end().view(*last.shape, 1)
    closes = groups.closes.expand_as(extended).scatter(2, end, False)
    extended = extended.masked_fill(closes | (prefixes.lengths == limit)[..., None], -torch.inf)
    # Paths that reach prefix j by extending prefix i with its last token.
    is_parent, children = prefixes.is_parent(), last[:, None].expand(-1, last.shape[1], -1)
    from_parents = extended.gather(2, children).masked_fill(~is_parent, -torch.inf).amax(1)
    extended = extended.scatter_add(
        2, children, torch.zeros_like(is_parent, dtype=total.dtype).masked_fill(is_parent, -torch.inf)
    )
    named = torch.logaddexp(prefixes.named + log_probs.gather(1, last), from_parents)
    return prefixes._replace(blank=total + log_probs[:, spec.bos_id, None], named=named), extended


def best_prefixes(prefixes: Prefixes, depth: Tensor, decoding: Decoding, spec: OutputSpec) -> Generation:
    """The n best prefixes as texts; prefixes with open groups (`depth` (B, K)) only where there are no others."""
    limit, log_probs = length_limit(decoding, spec), prefixes.log_probs
    complete = (depth == 0) & (log_probs > -torch.inf)
    log_probs = log_probs.masked_fill(~complete & complete.any(1, keepdim=True), -torch.inf)
    scores, indices = log_probs.topk(decoding.num_best)
    texts = prefixes.tokens.gather(1, indices[..., None].expand(-1, -1, prefixes.tokens.shape[2]))
    lengths = prefixes.lengths.gather(1, indices)
    missing = scores == -torch.inf
    token_ids = with_eos(texts, lengths.masked_fill(missing, 0), limit, spec).masked_fill(missing[..., None], spec.pad_id)
    lengths = lengths.masked_fill(missing, 0)
    width = min(limit, int(lengths[:, 0].max()) + 1)
    candidates = Candidates(token_ids, lengths, scores, scores)
    return Generation(token_ids[:, 0, :width], lengths[:, 0], scores[:, 0], None, candidates)
