"""Kinds of output: one file each, and the table of all."""

from trainers.tasks.base import Task
from trainers.tasks.classifiers import MulticlassTask, MultilabelTask, MultitaskTask
from trainers.tasks.sequence import SequenceTask

TASKS: dict[str, type[Task]] = {
    "sequence": SequenceTask,
    "multilabel": MultilabelTask,
    "multiclass": MulticlassTask,
    "multitask": MultitaskTask,
}

__all__ = ["TASKS", "Task"]
