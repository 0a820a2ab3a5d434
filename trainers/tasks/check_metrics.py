"""Whether what a run or a study is judged by is among what its validations report: known from its dataset, before any step."""

from __future__ import annotations

from collections import Counter

from cluster.errors import UserError
from data_pipeline.dataset.manifest import Dataset
from data_pipeline.dataset.shards import read_split
from trainers.config.criterion import Criterion, Mode, require_metric
from trainers.config.train import TrainConfig
from trainers.tasks.metrics.sequence import reported_groups
from trainers.tasks.sequence import SequenceTask


def groups_of(dataset: Dataset, split: str, max_sources: int) -> tuple[str, ...]:
    """The sources of a split whose metrics are reported apart; reads that column alone. See `reported_groups` for the choice.

    Raises:
        DatasetError: there is no such split, or it is empty.
        StorageError: a shard is missing or cannot be read.
    """
    if max_sources < 1:
        return ()
    return reported_groups(Counter(read_split(dataset, split, ["source"]).column("source").to_pylist()), max_sources)


def check_metrics(config: TrainConfig, dataset: Dataset) -> None:
    """Check what a run chooses its checkpoints by, and what its patience counts; without a validation there is no choice.

    Raises:
        UserError: the metric is none of those that the validation reports, or the mode contradicts it.
    """
    if config.data.val_split:
        for section, part in (("checkpoint", config.checkpoint), ("early_stopping", config.early_stopping)):
            check_metric(section, part.metric, part.mode, config, dataset)


def check_metric(section: str, metric: str, mode: Mode, config: TrainConfig, dataset: Dataset) -> Criterion:
    """The criterion that a metric of a run's validation is; `section` names the keys, and is empty for a study's own.

    Raises:
        UserError: as `check_metrics`; or nothing is validated.
    """
    split = config.data.val_split
    if not split:
        raise UserError(f"data.val_split is empty: nothing is validated, so there is no {metric} to compare by.")
    # The names of sources are read only where one is asked for.
    groups = groups_of(dataset, split, config.tracking.max_sources) if metric.count("/") > 1 else ()
    require_metric(section, metric, mode, SequenceTask.reported("val", groups), split)
    return Criterion.of(metric, mode, SequenceTask.metric_directions)
