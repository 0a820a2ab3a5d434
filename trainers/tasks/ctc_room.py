"""Texts that a CTC head cannot read: each token needs a column of the feature map, and two equal ones a blank between."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.shards import read_split


def texts_without_room(model: Any, dataset: Dataset, split: str) -> int:
    """How many texts of a split need more columns than a recognizer's features of their images have."""
    rows = read_split(dataset, split, ["height", "width", "text"])
    sizes = torch.tensor([rows.column(side).to_pylist() for side in ("height", "width")]).t()
    columns = model.backbone.feature_sizes(sizes)[:, 1]
    needed = torch.tensor([columns_for(text) for text in rows.column("text").to_pylist()])
    return int((needed > columns).sum())


def columns_for(text: str) -> int:
    """The fewest columns that a CTC head needs for `text`."""
    tokens = text.split()
    return len(tokens) + sum(one == other for one, other in pairwise(tokens))
