"""Targets of sequence datasets: the column `text` as padded token ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from data_pipeline.dataset.targets import UnusableTarget
from data_pipeline.dataset.tokenizer import Tokenizer

TEXT = "text"
TEXT_COLUMNS = {TEXT: "string"}  # what a sequence dataset's manifest declares
# Default limit of a text in tokens: the longest text decides the shape of a batch's targets and of a model's outputs.
MAX_TOKENS = 4096


@dataclass(frozen=True)
class TokenTargets:
    """Encodes texts for a sequence recognizer: {"tokens": int64 (B, T)}, `<bos>` ... `<eos>` `<pad>` ...

    A blank row is `<bos>` `<eos>`. Texts of more than `max_tokens` tokens cannot be used.
    """

    tokenizer: Tokenizer
    max_tokens: int = MAX_TOKENS
    columns: ClassVar[tuple[str, ...]] = (TEXT,)

    def encode(self, row: Mapping[str, Any]) -> list[int]:
        """Encode the text as token ids.

        Raises:
            UnusableTarget: the text has too many tokens.
            UserError: it has a token outside the vocabulary.
        """
        text: str = row[TEXT]
        if len(text) > self.max_tokens and (count := len(text.split())) > self.max_tokens:
            raise UnusableTarget(f"{count:,} tokens, more than the {self.max_tokens:,} allowed (stream.max_tokens)")
        return self.tokenizer.encode(text)

    def collate(self, targets: Sequence[Any | None], size: int) -> dict[str, np.ndarray]:
        """Pad the token ids of `size` rows to the longest."""
        width = max((len(ids) for ids in targets if ids is not None), default=2)
        tokens = np.full((size, width), self.tokenizer.pad_id, np.int64)
        tokens[:, :2] = self.tokenizer.bos_id, self.tokenizer.eos_id
        for row, ids in zip(tokens, targets, strict=False):
            if ids is not None:
                row[: len(ids)] = ids
        return {"tokens": tokens}

    def concat(self, parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Pad the parts to the longest and concatenate them."""
        arrays = [part["tokens"] for part in parts]
        tokens = np.full((sum(map(len, arrays)), max(array.shape[1] for array in arrays)), self.tokenizer.pad_id, np.int64)
        first = 0
        for array in arrays:
            tokens[first : first + len(array), : array.shape[1]] = array
            first += len(array)
        return {"tokens": tokens}
