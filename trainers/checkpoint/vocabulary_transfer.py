"""Which tensors of a network have a row for each token of its vocabulary, and how such rows go from one vocabulary to another.

Legend: V the size of a vocabulary, E rows beyond it that no token uses.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from data_pipeline.dataset.tokenizer import Tokenizer
from models import ModelConfig, OutputSpec, build_model


def vocabulary_axes(config: ModelConfig, spec: OutputSpec) -> dict[str, int]:
    """The axis along which each tensor grows with the vocabulary, by its name in the state; others are left out.

    Found by building the network twice, without memory, for V and for V + 1 tokens.
    """
    with torch.device("meta"):
        small = build_model(config, spec).state_dict()
        large = build_model(config, replace(spec, num_classes=spec.num_classes + 1)).state_dict()
    axes = {}
    for name, tensor in small.items():
        grown = [axis for axis, size in enumerate(tensor.shape) if size != large[name].shape[axis]]
        if grown:
            (axes[name],) = grown  # a tensor over pairs of tokens would need a rule of its own
    return axes


def shared_ids(old: Tokenizer, new: Tokenizer) -> list[tuple[int, int]]:
    """Ids of the same token in both vocabularies, in the order of the new one: the special ones, then the charset's."""
    specials = [(old.bos_id, new.bos_id), (old.eos_id, new.eos_id), (old.pad_id, new.pad_id)]
    # The charset comes last in either.
    places = {token: place for place, token in enumerate(old.charset, len(old) - len(old.charset))}
    first = len(new) - len(new.charset)
    return specials + [(places[token], place) for place, token in enumerate(new.charset, first) if token in places]


def carry_rows(source: Tensor, target: Tensor, axis: int, ids: list[tuple[int, int]], sizes: tuple[int, int]) -> None:
    """Copy into `target` the rows of `source` that belong to the same tokens, and the rows beyond the vocabularies.

    Both have V + E rows along `axis`; `ids` are pairs of row numbers (of source, of target), `sizes` the V of each.
    """
    beyond = min(source.shape[axis] - sizes[0], target.shape[axis] - sizes[1])
    pairs = [*ids, *((sizes[0] + row, sizes[1] + row) for row in range(beyond))]
    places = torch.tensor(pairs, device=source.device)
    rows = source.index_select(axis, places[:, 0]).to(target)
    target.index_copy_(axis, places[:, 1].to(target.device), rows)
