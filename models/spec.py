"""What a model must know of its output: sizes and special ids, no tokenizer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OutputSpec:
    """Sizes and special token ids of a sequence output.

    `max_length` is the most tokens that a decoder emits for one image, EOS included; it is also the longest `tgt_in`.
    `open_ids` and `close_ids`: tokens that begin and end a group (the braces of LaTeX), for balanced decoding.
    """

    num_classes: int
    bos_id: int
    eos_id: int
    pad_id: int
    max_length: int
    open_ids: tuple[int, ...] = ()
    close_ids: tuple[int, ...] = ()
