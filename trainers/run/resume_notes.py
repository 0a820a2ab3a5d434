"""What a resumed run does otherwise than before, or does not do at all: said before it starts, and as its schedule moves."""

from __future__ import annotations

from typing import Any

from data_pipeline.storage.base import Storage
from trainers.checkpoint.format import criterion_of, whole_checkpoints, whole_marks
from trainers.config.criterion import Criterion
from trainers.config.load import ConfigError
from trainers.config.train import TrainConfig
from trainers.engine.early_stopping import EarlyStopping
from trainers.engine.step import TrainStep
from trainers.optim.schedule import rate

LEAST_JUMP = 0.01  # a rate that changes by a smaller share is not worth a word


def resume_notes(run: Storage, before: TrainConfig, after: TrainConfig) -> list[str]:
    """What is to be said of a run that is resumed as `after`, having been trained as `before`; of a new one, nothing.

    Patience that has run out stays so: a run that ended early is trained further with `early_stopping.patience=0`, a larger
    patience, or another metric, of which nothing has been counted yet.

    Raises:
        ConfigError: more epochs are asked for, but patience has run out.
    """
    marks = whole_marks(run)
    if not marks:
        return []
    mark = list(marks.values())[-1]
    epochs_done = int(mark["metrics"].get("epoch", 0))
    stopping = after.early_stopping
    patience = EarlyStopping(stopping, criterion_of(stopping))
    notes = []
    if not patience.load_state_dict(mark.get("patience", {})) and stopping.patience:
        notes.append(
            f"early_stopping counts {stopping.metric} from here on: what was counted before was by another metric, mode or "
            "min_delta, or it is not known by which."
        )
    if criterion_of(before.checkpoint) != criterion_of(after.checkpoint):
        best = _best(run, criterion_of(after.checkpoint))
        notes.append(
            f"checkpoint.metric={after.checkpoint.metric}: the best of the checkpoints that are kept is chosen by it: {best}."
        )
    if patience.due:
        since = f"{patience.epochs_since} validation{'s' * (patience.epochs_since > 1)}"
        reason = (
            f"'{run.uri}' ended early after {epochs_done} epochs: {since} in a row had no better {stopping.metric}, "
            f"and early_stopping.patience={stopping.patience} has run out"
        )
        way_out = f"Set early_stopping.patience=0, or above {patience.epochs_since}, to train on."
        if after.epochs > before.epochs:
            raise ConfigError(f"epochs={after.epochs} would train nothing. {reason}. {way_out}")
        notes.append(f"nothing is trained. {reason}. {way_out}")
    elif epochs_done >= after.epochs:
        notes.append(f"nothing is trained: all {after.epochs} epochs are done. Set epochs above {epochs_done} to train on.")
    return notes


def _best(run: Storage, criterion: Criterion) -> str:
    goodness = whole_checkpoints(run, criterion)
    best = max(goodness, key=lambda name: goodness[name])
    return best if goodness[best] > float("-inf") else "none has it yet"


def schedule_change(config: TrainConfig, step: TrainStep, saved: dict[str, Any]) -> str:
    """What becomes of the learning rate of a run that is resumed with another number of steps than was planned; else empty.

    The schedule is a function of the step's share of the whole run. After a finished one_cycle, more epochs begin far up on
    its slope again.
    """
    planned = saved.get("planned", {"steps": step.total_steps, "epochs": config.epochs})
    schedule, peak = config.optim.schedule, step.schedule.peak
    was = peak * rate(schedule, step.steps, planned["steps"], planned["epochs"])
    now = peak * rate(schedule, step.steps, step.total_steps, config.epochs)
    if abs(now - was) <= LEAST_JUMP * max(was, now):
        return ""
    return (
        f"the run has {step.total_steps} steps now, not {planned['steps']} as planned before: at step {step.steps} the "
        f"learning rate goes from {was:.2e} to {now:.2e}, since optim.schedule ({schedule.name}) is stretched over all steps. "
        "Whatever else follows from the whole (scheduled_sampling.schedule, weight_averaging.start) moves with it. To train "
        "further from its weights along a schedule of its own, start a new run with init.checkpoint."
    )
