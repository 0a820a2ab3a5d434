"""Image to labels: several classes at once, one class, or one class for each of several heads."""

from trainers.tasks.classifiers.multiclass import MulticlassTask
from trainers.tasks.classifiers.multilabel import MultilabelTask
from trainers.tasks.classifiers.multitask import MultitaskTask

__all__ = ["MulticlassTask", "MultilabelTask", "MultitaskTask"]
