"""What can be known to be wrong with a run before a worker starts, and its folder."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable

import torch

from cluster.errors import UserError
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.storage.base import Storage, open_storage
from data_pipeline.stream.cache import open_cache
from models import ModelConfigError
from trainers.checkpoint.format import CONFIG, PREFIX, DataInfo, build_recognizer, without_pretrained
from trainers.checkpoint.warm_start import initialise
from trainers.config.train import TrainConfig, to_yaml
from trainers.distributed.context import Place
from trainers.engine.setup import Source
from trainers.optim import Freezing
from trainers.run.resume import open_run, require_same_data
from trainers.run.resume_notes import resume_notes
from trainers.tasks.check_metrics import check_metrics
from trainers.tasks.ctc_room import texts_without_room
from trainers.tasks.sequence import SequenceTask


def new_run(config: TrainConfig) -> Storage:
    """The folder of a fresh run below `config.runs_dir`, its configuration in it: what cannot be written says so now."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    run = open_storage(config.runs_dir).child(f"{config.name}-{stamp}-{uuid.uuid4().hex[:4]}")
    run.child(CONFIG).write_bytes(to_yaml(config).encode())
    return run


def check_run(config: TrainConfig, fresh: bool = True) -> Dataset:
    """Everything about a run that can be wrong and can be known before a worker starts.

    A `fresh` run has no checkpoint yet: the pretrained weights that it begins with must be there.

    Raises:
        UserError: dataset, splits, vocabulary, network or weights, by name.
    """
    dataset = open_dataset(config.data.dataset)
    _require_splits(config, dataset)
    check_metrics(config, dataset)
    place = Place(0, config.scaling.num_train_workers, torch.device("cpu"))
    tokenizer = Tokenizer(dataset.manifest.charset)
    source = Source(config, place, dataset, tokenizer)
    source.training()  # a window and a batch fit into stream.memory_mb
    source.evaluation(config.data.val_split)
    policy = dataset.manifest.image
    if policy.channels not in (1, config.model.in_channels):  # gray may stand for all channels
        raise UserError(
            f"model.in_channels={config.model.in_channels}, but the images of '{config.data.dataset}' are "
            f"{policy.color}: set model.in_channels={policy.channels}."
        )
    task, data = SequenceTask(tokenizer), DataInfo.of(dataset.manifest, config.stream.max_tokens)
    with torch.device("meta"):
        model = build_recognizer(config, task, data).eval()
        images = torch.zeros((1, policy.channels, policy.height, policy.width), dtype=torch.uint8)
        targets = torch.zeros((1, 2), dtype=torch.long)
        try:
            model(images, targets)
        except ModelConfigError as error:
            raise UserError(f"{error}.") from None
        Freezing(model, config.optim.freeze)  # its patterns match
        if fresh and config.init.checkpoint:
            initialise(model, task.tokenizer, config.init)  # on the meta device: only whether it can be done
    if fresh and config.model != without_pretrained(config.model):
        build_recognizer(config, task, data, pretrained=True)
    open_cache(config.stream.cache)  # what cannot be used says so now; one in memory is cleared when this process ends
    return dataset


def _require_splits(config: TrainConfig, dataset: Dataset) -> None:
    """Check that every split that the configuration names has rows; those that a run can do without can be left out."""
    splits, wrong, without = dataset.manifest.splits, [], []
    for key in ("train_split", "val_split", "test_split"):
        name = getattr(config.data, key)
        if name and (name not in splits or not splits[name].rows):
            wrong.append(f"data.{key}={name}: the dataset has {'an empty' if name in splits else 'no'} split of this name")
            without += [f"data.{key}="] if key != "train_split" else []
    if wrong:
        filled = ", ".join(name for name, split in splits.items() if split.rows)
        leave_out = f" To do without, leave the value empty: {' '.join(without)}" if without else ""
        raise UserError(f"{'; '.join(wrong)}. Splits of '{config.data.dataset}' with rows: {filled or 'none'}.{leave_out}")


def begin_run(config: TrainConfig, run: Storage, warn: Callable[[str], None]) -> Dataset:
    """Check a run that begins or is resumed in the folder `run`; `warn` hears what is doubtful.

    The folder still has the configuration of before. Nothing in it changes: `trainers.run.resume.keep_config` does that
    afterwards.

    Raises:
        UserError: a mistake in the configuration or the data.
    """
    dataset = check_run(config, fresh=not any(name.startswith(PREFIX) for name in run.names()))
    require_same_data(run, dataset)
    for note in resume_notes(run, open_run(run.uri, missing_variables=True)[1], config):
        warn(note)
    crowded = texts_without_room(config, dataset)
    if crowded:
        rows = dataset.manifest.split(config.data.train_split).rows
        warn(
            f"{crowded:,} of {rows:,} training texts have more tokens than their images have columns of features: "
            "the CTC head cannot learn them. Prepare wider images, or choose a backbone of smaller stride."
        )
    return dataset
