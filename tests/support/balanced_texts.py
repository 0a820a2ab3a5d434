"""What texts of balanced decoding have to be."""

from __future__ import annotations

import torch

from models import OutputSpec


def is_balanced(tokens: list[int], spec: OutputSpec) -> bool:
    ends = dict(zip(spec.open_ids, spec.close_ids, strict=True))
    stack: list[int] = []
    for token in tokens:
        if token in ends:
            stack.append(ends[token])
        elif token in spec.close_ids and (not stack or stack.pop() != token):
            return False
    return not stack


def check_rows(token_ids: torch.Tensor, spec: OutputSpec) -> None:
    for row in token_ids.tolist():
        assert row.count(spec.eos_id) == 1, "every text ends within the limit"
        text = row[: row.index(spec.eos_id)]
        assert set(row[len(text) + 1 :]) <= {spec.pad_id}
        assert not {spec.bos_id, spec.pad_id} & set(text)
        assert is_balanced(text, spec)
