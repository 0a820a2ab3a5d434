"""The sequence task and datasets that say too little."""

from __future__ import annotations

from typing import Any

import pytest

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import DatasetError, Manifest, Split
from trainers.config.load import load_config
from trainers.tasks.sequence import SequenceTask


@pytest.mark.parametrize("stats", [{}, {"max_tokens": None}, {"max_tokens": "7"}])
def test_a_split_without_its_longest_text_is_refused(stats: dict[str, Any]) -> None:
    target = {"charset": ["a"]}
    manifest = Manifest(
        "small", "sequence", target, {"text": "string"}, ImagePolicy(32, 64), {"train": Split([], stats)}, 0, {}
    )
    with pytest.raises(DatasetError, match="'small' is damaged: target_stats"):
        SequenceTask.from_dataset(manifest, load_config(None))
