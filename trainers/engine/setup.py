"""The parts of a worker: dataset, streams, network and step, as the run begins or as its last checkpoint left them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from cluster.cores import cores_each
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.dataset.targets import TargetEncoder
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.storage.base import Storage
from data_pipeline.stream import EvaluationStream, Position, StreamConfig, TrainStream
from trainers.checkpoint.format import VOCAB, DataInfo, TrainerState, build_recognizer, criterion_of, load_trainer_state
from trainers.checkpoint.warm_start import REPORT as INITIALISED
from trainers.checkpoint.warm_start import initialise
from trainers.checkpoint.writer import newest_whole
from trainers.config.train import TrainConfig
from trainers.distributed.collectives import from_rank_zero
from trainers.distributed.context import Place
from trainers.distributed.ddp import with_synchronized_norms, wrapped
from trainers.distributed.micro_batch import MicroBatch
from trainers.distributed.precision import compiled, recompute_activations
from trainers.engine.early_stopping import EarlyStopping
from trainers.engine.find_micro_batch import find_micro_batch
from trainers.engine.reporter import Line
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import scaled_lr
from trainers.run.resume_notes import schedule_change
from trainers.tasks.check_metrics import groups_of
from trainers.tasks.sequence import SequenceTask


@dataclass
class Source:
    """Where the batches of a rank come from."""

    config: TrainConfig
    place: Place
    dataset: Dataset
    tokenizer: Tokenizer

    @property
    def stream_config(self) -> StreamConfig:
        """As configured, carried out as this place does it."""
        return replace(self.config.stream, execution=self.place.execution)  # type: ignore[arg-type]

    @property
    def targets(self) -> TargetEncoder:
        """How the columns of the dataset become targets."""
        return TokenTargets(self.tokenizer, self.config.stream.max_tokens)

    def training(self) -> TrainStream:
        """A stream over the train split."""
        return TrainStream(
            self.dataset,
            self.config.data.train_split,
            self.targets,
            self.stream_config,
            seed=self.config.seed,
            global_batch_size=self.config.global_batch_size,
            rank=self.place.rank,
            world_size=self.place.world_size,
            processes=self.place.processes,
        )

    def evaluation(self, split: str) -> EvaluationStream | None:
        """A stream over `split`; None where it has no name."""
        if not split:
            return None
        return EvaluationStream(
            self.dataset,
            split,
            self.targets,
            self.stream_config,
            batch_size=self.config.batch_size_per_worker,
            rank=self.place.rank,
            world_size=self.place.world_size,
            processes=self.place.processes,
        )


@dataclass
class Parts:
    """What a worker works with. `position` is that of the checkpoint that it goes on from."""

    source: Source
    task: SequenceTask
    data: DataInfo
    stream: TrainStream
    validation: EvaluationStream | None
    groups: tuple[str, ...]  # of the validation
    total_steps: int
    network: Any
    step: TrainStep
    micro_batch: MicroBatch
    patience: EarlyStopping
    position: Position = field(default_factory=Position)


def assemble(config: TrainConfig, line: Line, run: Storage, place: Place) -> Parts:
    """Make the parts; all ranks do so together.

    Raises:
        UserError: a mistake in configuration, data or checkpoints.
    """
    if place.device.type == "cpu":
        torch.set_num_threads(config.scaling.threads_per_worker or cores_each(place.processes))
    dataset = open_dataset(config.data.dataset)
    tokenizer = Tokenizer(dataset.manifest.charset)
    source = Source(config, place, dataset, tokenizer)
    task, data = SequenceTask(tokenizer, config.loss, config.decoding), DataInfo.of(dataset.manifest, config.stream.max_tokens)
    stream = source.training()
    validation = source.evaluation(config.data.val_split)  # now: what does not fit the memory is not found out after an epoch
    groups = from_rank_zero(_groups(config, dataset) if place.rank == 0 else None)
    total_steps = stream.total_steps(config.epochs)
    saved = _newest_checkpoint(config, line, run, place, tokenizer)
    network = _build_network(config, line, run, place, task, data, saved)
    micro_batch = MicroBatch(run, config.scaling, -(-config.global_batch_size // place.world_size))
    step_config = StepConfig(config.scaling.precision, micro_batch.size, config.forcing, config.averaging, config.guard)
    step = TrainStep(
        network,
        task,
        config.optim,
        total_steps,
        place.device,
        step_config,
        seed=config.seed,
        rank=place.rank,
        epochs=config.epochs,
        lr=scaled_lr(config.optim, config.global_batch_size),
        wrap=lambda network: wrapped(network, config.scaling.ddp, place.device),
        mark=line.mark,
    )
    patience = EarlyStopping(config.early_stopping, criterion_of(config.early_stopping))
    parts = Parts(source, task, data, stream, validation, groups, total_steps, network, step, micro_batch, patience)
    if saved is not None:
        step.load_state_dict(saved.step)
        patience.load_state_dict(saved.step["patience"])
        parts.position = saved.position
        changed = schedule_change(config, step, saved.step)
        if changed and place.rank == 0:
            line.push("warning", text=changed)
    if config.scaling.compile:
        reason = from_rank_zero(compiled(network, place.device))
        if reason and place.rank == 0:
            line.push("warning", text=reason)
    if config.scaling.find_micro_batch:
        step.micro_batch_size = find_micro_batch(
            step, stream.plan, dataset, config.data.train_split, micro_batch, config.stream.max_tokens
        )
        if place.rank == 0:
            line.push("note", text=f"{step.micro_batch_size} images at once, the most that were found to fit the memory")
    return parts


def _groups(config: TrainConfig, dataset: Dataset) -> tuple[str, ...]:
    split = config.data.val_split
    return groups_of(dataset, split, config.tracking.max_sources) if split else ()


def _newest_checkpoint(
    config: TrainConfig, line: Line, run: Storage, place: Place, tokenizer: Tokenizer
) -> TrainerState | None:
    """What rank 0 found is what all ranks take: another one may be written, or removed, while they look."""
    found = newest_whole(run, lambda text: line.push("warning", text=text)) if place.rank == 0 else None
    name = from_rank_zero(found[0] if found else None)
    if name is None:
        return None
    saved = Tokenizer.from_json(run.child(name, VOCAB).read_bytes())
    saved.require_same(tokenizer, "the checkpoint", f"dataset '{config.data.dataset}'")
    state = found[1] if found else load_trainer_state(run.child(name))
    if place.rank == 0:
        line.push("resumed", checkpoint=name, epoch=state.position.epoch, step=state.step["steps"])
    return state


def _build_network(
    config: TrainConfig,
    line: Line,
    run: Storage,
    place: Place,
    task: SequenceTask,
    data: DataInfo,
    saved: TrainerState | None,
) -> Any:
    """The network on its device, with the weights that the run begins or goes on with."""
    torch.manual_seed(config.seed)  # every rank starts from the same weights
    network: Any = build_recognizer(config, task, data, pretrained=saved is None)
    if saved is not None:
        network.load_state_dict(saved.weights)
    elif config.init.checkpoint:
        report = initialise(network, task.tokenizer, config.init)
        if place.rank == 0:
            for text in report.lines():
                line.push("note", text=text)
            run.child(INITIALISED).write_bytes(json.dumps(report.to_json(), indent=1).encode())
    network = with_synchronized_norms(network.to(place.device), config.scaling, place.device)
    if config.scaling.gradient_checkpointing:
        recompute_activations(network)
    return network
