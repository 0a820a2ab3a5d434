"""Setup of a worker: network, step and early stopping, as the run begins or as its last checkpoint left them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from cluster.cores import cores_each
from cluster.heap import keep_freed_memory
from data_pipeline.storage.base import Storage
from data_pipeline.stream import StreamPosition, TrainStream
from trainers.checkpoint.trainer_state import TrainerState, latest_complete, load_trainer_state
from trainers.checkpoint.warm_start import REPORT, warm_start
from trainers.config.environment_values import stored_value
from trainers.config.train import TrainConfig
from trainers.distributed.collectives import broadcast_from_rank0
from trainers.distributed.context import WorkerContext
from trainers.distributed.ddp import with_synchronized_norms, wrap_ddp
from trainers.distributed.micro_batch import MicroBatch
from trainers.distributed.precision import enable_gradient_checkpointing, set_float32_products, try_compile
from trainers.engine.early_stopping import EarlyStopping
from trainers.engine.events import Note, Resumed, Warned
from trainers.engine.find_micro_batch import find_micro_batch
from trainers.engine.reporter import Reporter
from trainers.engine.run_spec import RunSpec
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import scaled_lr
from trainers.optim.schedule import lr_ratio
from trainers.tasks.criterion import criterion_of

MIN_LR_CHANGE = 0.01  # share; a learning rate that changes by less is not worth a warning


@dataclass
class TrainState:
    """What training changes: the network and its step, early stopping, the position in the data, the last metrics.

    `metrics` are those of the validation at the end of the last epoch, if there was one.
    """

    network: nn.Module  # not wrapped for DDP
    step: TrainStep
    early_stopping: EarlyStopping
    total_steps: int
    position: StreamPosition = field(default_factory=StreamPosition)
    metrics: dict[str, float] = field(default_factory=dict)

    def state_dict(self, epochs: int) -> dict[str, Any]:
        """All that a checkpoint needs to resume from, besides the position and the weights that it exports."""
        planned = {"steps": self.total_steps, "epochs": epochs}
        return self.step.state_dict() | {"patience": self.early_stopping.state_dict(), "planned": planned}


def setup(
    spec: RunSpec, stream: TrainStream, micro_batch: MicroBatch, reporter: Reporter, run: Storage, context: WorkerContext
) -> TrainState:
    """The state that a run begins with, or that it resumes from; all ranks call it together.

    Raises:
        UserError: a mistake in configuration, data or checkpoints.
    """
    config = spec.config
    if context.device.type == "cpu":
        keep_freed_memory()
        torch.set_num_threads(config.compute.threads_per_worker or cores_each(context.local_world_size))
    else:
        set_float32_products(config.compute.precision)
    saved = _latest_checkpoint(reporter, run, context)
    network = _build_network(spec, reporter, run, context, saved)
    total_steps = stream.total_steps(config.epochs)
    step = TrainStep(
        network,
        spec.task,
        config.optim,
        total_steps,
        context.device,
        StepConfig(config.compute.precision, micro_batch.size, config.weight_averaging, config.loss_guard),
        seed=config.seed,
        rank=context.rank,
        epochs=config.epochs,
        lr=scaled_lr(config.optim, config.global_batch_size),
        wrap=lambda network: wrap_ddp(network, config.compute.ddp, context.device),
        enter_phase=reporter.enter_phase,
    )
    stopping = EarlyStopping(config.early_stopping, criterion_of(config.early_stopping, spec.task))
    state = TrainState(network, step, stopping, total_steps)
    if saved is not None:
        _restore(state, saved, config, reporter, context)
    _use_device_well(spec, state, stream, micro_batch, reporter, context)
    return state


def _latest_checkpoint(reporter: Reporter, run: Storage, context: WorkerContext) -> TrainerState | None:
    """The checkpoint that rank 0 finds, on all ranks: another one may be written, or removed, while they look."""
    found = latest_complete(run, lambda text: reporter.emit(Warned(text))) if context.rank == 0 else None
    name = broadcast_from_rank0(found[0] if found else None)
    if name is None:
        return None
    state = found[1] if found else load_trainer_state(run.child(name))
    if context.rank == 0:
        reporter.emit(Resumed(name, state.position.epoch, state.step["steps"]))
    return state


def _build_network(
    spec: RunSpec, reporter: Reporter, run: Storage, context: WorkerContext, saved: TrainerState | None
) -> nn.Module:
    """The network on its device, with the weights that the run begins with or resumes from."""
    config = spec.config
    torch.manual_seed(config.seed)  # every rank starts from the same weights
    network = spec.task.build_model(pretrained=saved is None)
    if saved is not None:
        network.load_state_dict(saved.weights)
    elif spec.warm_start is not None:
        report = warm_start(network, spec.task, config.init, spec.warm_start)
        report.checkpoint = _stored_uri(config, report.checkpoint)
        if context.rank == 0:
            for text in report.lines():
                reporter.emit(Note(text))
            run.child(REPORT).write_bytes(json.dumps(report.to_json(), indent=1).encode())
    network = with_synchronized_norms(network.to(context.device), config.compute, context.device)
    if config.compute.gradient_checkpointing:
        enable_gradient_checkpointing(network)
    return network


def _stored_uri(config: TrainConfig, uri: str) -> str:
    """Where `init.checkpoint` was found, as a run may store it: a place that the environment names as its expression."""
    configured, stored = config.init.checkpoint, str(stored_value(config, "init.checkpoint"))
    return uri if stored == configured else stored + uri.removeprefix(configured.rstrip("/"))


def _restore(state: TrainState, saved: TrainerState, config: TrainConfig, reporter: Reporter, context: WorkerContext) -> None:
    state.step.load_state_dict(saved.step)
    state.early_stopping.load_state_dict(saved.step["patience"])
    state.position = saved.position
    change = lr_change(config, state.step, saved.step)
    if change and context.rank == 0:
        reporter.emit(Warned(change))


def _use_device_well(
    spec: RunSpec,
    state: TrainState,
    stream: TrainStream,
    micro_batch: MicroBatch,
    reporter: Reporter,
    context: WorkerContext,
) -> None:
    """Compile the network and find the micro-batch, where the configuration asks for it."""
    config = spec.config
    if config.compute.compile:
        reason = broadcast_from_rank0(try_compile(state.network, context.device))
        if reason and context.rank == 0:
            reporter.emit(Warned(reason))
    if config.compute.find_micro_batch:
        step = state.step
        step.micro_batch_size = find_micro_batch(step, stream.plan, spec.dataset, config.data.train_split, micro_batch)
        if context.rank == 0:
            reporter.emit(Note(f"micro-batches of {step.micro_batch_size} images, the largest found to fit the memory"))


def lr_change(config: TrainConfig, step: TrainStep, saved: dict[str, Any]) -> str:
    """The warning for a run that is resumed with another number of steps than planned, so that its learning rate jumps.

    The schedule is a function of the step's share of the whole run: after a finished one_cycle, more epochs begin far up on its
    slope again. Empty where the rate stays.
    """
    planned = saved.get("planned", {"steps": step.total_steps, "epochs": config.epochs})
    schedule, peak = config.optim.schedule, step.schedule.peak
    was = peak * lr_ratio(schedule, step.steps, planned["steps"], planned["epochs"], step.overflows)
    now = peak * lr_ratio(schedule, step.steps, step.total_steps, config.epochs, step.overflows)
    if abs(now - was) <= MIN_LR_CHANGE * max(was, now):
        return ""
    return (
        f"the run has {step.total_steps} steps now, not {planned['steps']} as planned before: at step {step.steps} the "
        f"learning rate goes from {was:.2e} to {now:.2e}, since optim.schedule ({schedule.name}) is stretched over all steps. "
        "All else that follows from the whole (scheduled_sampling.schedule, weight_averaging.start) moves with it. To train "
        "further from its weights along a schedule of its own, start a new run with init.checkpoint."
    )
