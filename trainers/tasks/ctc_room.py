"""Texts that a CTC head cannot read: each token needs a column of the feature map, and two equal ones a blank between."""

from __future__ import annotations

from itertools import pairwise

import torch

from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.dataset.tokenizer import Tokenizer
from trainers.checkpoint.format import DataInfo, build_recognizer
from trainers.config.train import TrainConfig
from trainers.tasks.sequence import SequenceTask


def texts_without_room(config: TrainConfig, dataset: Dataset) -> int:
    """How many texts of the train split need more columns than their images give; 0 for a model that has no CTC head."""
    if config.model.ctc.head == "none":
        return 0
    with torch.device("meta"):
        task = SequenceTask(Tokenizer(dataset.manifest.charset))
        backbone = build_recognizer(config, task, DataInfo.of(dataset.manifest, config.stream.max_tokens)).backbone
    rows = read_split(dataset, config.data.train_split, ["height", "width", "text"])
    sizes = torch.tensor([rows.column(side).to_pylist() for side in ("height", "width")]).t()
    columns = backbone.feature_sizes(sizes)[:, 1]
    needed = torch.tensor([columns_for(text) for text in rows.column("text").to_pylist()])
    return int((needed > columns).sum())


def columns_for(text: str) -> int:
    """The fewest columns that a CTC head needs for `text`."""
    tokens = text.split()
    return len(tokens) + sum(one == other for one, other in pairwise(tokens))
