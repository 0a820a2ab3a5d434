"""Records that cross the border of `models`: sizes and token ids in, tensors out.

Legend: B batch, T target or emitted positions, S source positions, M width of the memory, h w height and width of the
feature map, V vocabulary, L levels, n candidates of an image, K classes of a label head.
"""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class OutputSpec:
    """Sizes and special token ids of a sequence output: all that a model knows of a tokenizer.

    `max_length` is the maximum number of tokens that a decoder emits for one image, EOS included; it is also the longest
    `tgt_in`. `open_ids` and `close_ids`: tokens that begin and end a group (the braces of LaTeX), for balanced decoding.
    """

    num_classes: int
    bos_id: int
    eos_id: int
    pad_id: int
    max_length: int
    open_ids: tuple[int, ...] = ()
    close_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class HeadSpec:
    """Name of a label head and its number of classes K."""

    name: str
    num_classes: int


@dataclass(frozen=True)
class LabelSpec:
    """Label heads of a classifier: all that a model knows of labels.

    `joint`: there is a joint class for each combination of the heads' classes, row-major: that of the last head changes
    fastest.
    """

    heads: tuple[HeadSpec, ...]
    joint: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes of each head."""
        return tuple(head.num_classes for head in self.heads)

    @property
    def num_joint(self) -> int:
        """Number of combinations of the heads' classes."""
        return prod(self.sizes)


class ClassifierOutput(NamedTuple):
    """Outputs of a classifier.

    `logits` (B, K) by the name of the label head; `joint` (B, product of all K): logits of the joint classes, None where the
    spec has none; `attention` (B, heads): weights of the label heads' states in the joint class, adding up to 1, None unless
    the configured head has attention.
    """

    logits: dict[str, Tensor]
    joint: Tensor | None = None
    attention: Tensor | None = None


class Memory(NamedTuple):
    """Encoded images: what an encoder returns and decoders attend to.

    `tokens` (B, S, M): `prefix` positions outside the feature map (a class token), then its h * w positions row by row;
    `mask` (B, S): True on the image, or None where there is no padding; `size`: (h, w).
    """

    tokens: Tensor
    mask: Tensor | None
    size: tuple[int, int]
    prefix: int = 0

    def area(self) -> Tensor | None:
        """Mask of the feature map, bool (B, h, w), True on the image: a rectangle in the upper left. None without padding."""
        return None if self.mask is None else self.mask[:, self.prefix :].unflatten(1, self.size)

    def for_rows(self, rows: int) -> "Memory":
        """Memory repeated to `rows`, a multiple of B: all images, then all images again."""
        copies = rows // len(self.tokens)
        if copies == 1:
            return self
        mask = None if self.mask is None else self.mask.repeat(copies, 1)
        return self._replace(tokens=self.tokens.repeat(copies, 1, 1), mask=mask)


class SampledTokens(NamedTuple):
    """Positions where a decoder reads its own prediction instead of the ground truth (scheduled sampling).

    `mask` bool (B, T): True where the input is the most probable token of the position before. The first position and PAD
    are always the ground truth. `passes`: number of passes in which a transformer predicts its inputs; an RNN, which
    predicts them step by step, ignores it.
    """

    mask: Tensor
    passes: int = 1


class ModelOutput(NamedTuple):
    """Training outputs of a recognizer, one field a head; None where the configuration has no such head.

    `logits` (B, T, V): of the token after each of `tgt_in`; `reverse_logits` (B, T, V): the same for `reverse_targets`;
    `ctc_logits` (B, w, V), the blank at `bos_id`, of which the first `ctc_lengths` (B,) columns of each image count;
    `repulsion`: similarity of the attention heads, a scalar between 0 and 1;
    `counts` (B, V), not negative: estimated number of occurrences of each token in the image;
    `levels` (B, T, L): logits of the nesting level of the token after each of `tgt_in`, the last one for L - 1 or more.
    """

    logits: Tensor | None = None
    reverse_logits: Tensor | None = None
    ctc_logits: Tensor | None = None
    ctc_lengths: Tensor | None = None
    repulsion: Tensor | None = None
    counts: Tensor | None = None
    levels: Tensor | None = None


@dataclass(frozen=True)
class Candidates:
    """The n best texts of each image, best first.

    `token_ids` int64 (B, n, T): as in `Generation`; `lengths` int64 (B, n); `log_probs` (B, n): of the texts;
    `scores` (B, n): the ranking criterion, -inf where an image has fewer candidates (their rows are PAD, of length 0).
    """

    token_ids: Tensor
    lengths: Tensor
    log_probs: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Generation:
    """Decoded texts of a batch of images.

    `token_ids` int64 (B, T): without BOS, up to and including EOS, then PAD; a row that reached the length limit has no EOS.
    `lengths` int64 (B,): tokens before EOS. `log_probs` (B,): sum over the emitted tokens, EOS included; of a CTC head:
    of the best path (greedy) or of all paths of the text (beam).
    `attention` (B, T, h, w): of the decoder's last layer to the memory, mean over heads, or None; 0 after EOS.
    `candidates`: the n best, of method beam.
    """

    token_ids: Tensor
    lengths: Tensor
    log_probs: Tensor
    attention: Tensor | None = None
    candidates: Candidates | None = None
