"""Tasks with one class for each head: targets, loss and probabilities by the softmax of its logits.

Legend: B batch, K classes of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from data_pipeline.dataset.label_targets import ClassTargets
from data_pipeline.dataset.manifest import Split
from models import ClassifierOutput
from trainers.tasks.base import NotableRow, Row
from trainers.tasks.classifiers.base import ClassifierTask
from trainers.tasks.inspection.mistakes import Mistake, most_certain

JOINT = "joint"
ATTENTION = "joint_attention"  # the weights of the heads in a learned joint class


class SoftmaxTask(ClassifierTask):
    """Image to one class for each head, and maybe one of their combinations."""

    def target_encoder(self) -> ClassTargets:
        """Targets int64 (B,) by head: the index of its class."""
        return ClassTargets(dict(self.classes))

    def largest_targets(self, batch_size: int, split: Split) -> dict[str, np.ndarray]:
        """No image has larger targets than another."""
        return {head: np.zeros(batch_size, np.int64) for head in self.classes}

    def probabilities(self, output: ClassifierOutput) -> dict[str, Tensor]:
        """The softmax of the logits of each head, and of the joint."""
        logits = dict(output.logits)
        if output.joint is not None:
            logits[JOINT] = output.joint
        found = {head: part.float().softmax(-1) for head, part in logits.items()}
        return found if output.attention is None else {**found, ATTENTION: output.attention.float()}

    def sharpened(self, probs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Probabilities with their logarithms divided by the temperature of their head."""
        found = {}
        for head, part in probs.items():
            temperature = 1.0 if head == ATTENTION else self.labeling.temperatures.get(head, self.labeling.temperature)
            sharp = (part.double().clamp(min=1e-12).log() / temperature).softmax(-1).float()
            found[head] = part if temperature == 1 else sharp
        return found

    def mistake(self, prediction: Row, target: Row) -> Mistake | None:
        """The answer in a prediction that is wrong and most certain, if any is wrong."""
        raise NotImplementedError

    def notable_rows(self, rows: Sequence[tuple[Row, Row]], count: int) -> list[NotableRow]:
        """The rows with the most certain wrong classes."""
        return most_certain((self.mistake(prediction, target) for prediction, target in rows), count)


def chosen(names: tuple[str, ...], probs: Tensor) -> list[tuple[str, list[float]]]:
    """The most probable class of each row of probabilities (B, K), and all of them."""
    values = probs.cpu().numpy()
    return [(names[int(row.argmax())], row.tolist()) for row in values]


def one_hot(names: tuple[str, ...], name: str) -> list[float]:
    """Probability 1 of one class."""
    return [float(other == name) for other in names]
