"""What all tasks with labels share: declared classes, the network, views of an image, saliency.

Legend: B batch, C channels, H W height and width, K classes of a head.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

import models
from cluster.errors import UserError
from cluster.redaction import printable
from data_pipeline.dataset.label_columns import check_target
from data_pipeline.dataset.manifest import Dataset, DatasetError, Manifest, Split
from models import Classifier, ClassifierConfig, ClassifierOutput, HeadSpec, LabelSpec, ModelConfigError
from trainers.config.label_loss import LabelLossConfig, without_label_training_terms
from trainers.config.labeling import LabelingConfig
from trainers.config.mixup import MixupConfig
from trainers.tasks.base import Attention, Progress, Row, Task
from trainers.tasks.classifiers.checks import dataset_notes, difference, mapping
from trainers.tasks.classifiers.saliency import grad_cam
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.losses.mixing import mix
from trainers.tasks.test_time_augmentation import require_views, view

if TYPE_CHECKING:
    from trainers.config.train import TrainConfig


@dataclass(frozen=True)
class ClassifierTask(Task):
    """Image to labels. `target` is the manifest's: the declared classes, which the checkpoint's `classes.json` holds as well.

    `class_rows` are the rows of each class among the `train_rows` of the training split, as the manifest counts them; a
    checkpoint knows none.
    """

    file: ClassVar[str] = "classes.json"
    options: ClassVar[str] = "labeling"
    model_section: ClassVar[str] = "classifier"
    attention_note: ClassVar[str] = "What speaks for the most probable class (Grad-CAM, Selvaraju et al. 2017)."

    target: Mapping[str, Any]
    network: ClassifierConfig = field(default_factory=ClassifierConfig)
    loss: LabelLossConfig = field(default_factory=LabelLossConfig)
    mixup: MixupConfig = field(default_factory=MixupConfig)
    labeling: LabelingConfig = field(default_factory=LabelingConfig)
    class_rows: Mapping[str, Any] = field(default_factory=dict)
    train_rows: int = 0
    background: int = 255  # the gray level around images, which smaller views get

    @classmethod
    def from_dataset(cls, manifest: Manifest, config: TrainConfig) -> Self:
        """The classes that a dataset declares, in its order.

        Raises:
            DatasetError: they are damaged.
            UserError: the configuration names classes that the dataset does not have.
        """
        try:
            check_target(cls.name, manifest.target)
        except ValueError as error:
            raise DatasetError(f"Dataset '{manifest.name}' is damaged ({error}). Prepare it again.") from None
        name = config.data.train_split
        split = Split([]) if manifest.missing_splits(name) else manifest.split(name)
        task = replace(
            cls._of(manifest.target, config),
            class_rows=split.target_stats.get("class_rows", {}),
            train_rows=split.rows,
            background=manifest.image.background,
        )
        task.check_names()
        return task

    @classmethod
    def from_checkpoint(cls, content: bytes, limits: Row, config: TrainConfig) -> Self:
        """The classes of a checkpoint, from its `classes.json`."""
        target = json.loads(content)
        check_target(cls.name, target)
        task = replace(cls._of(target, config), background=int(limits.get("background", 255)))
        task.check_options()
        return task

    @classmethod
    def _of(cls, target: Mapping[str, Any], config: TrainConfig) -> Self:
        return cls(target, config.classifier, config.label_loss, config.mixup, config.labeling)

    def to_bytes(self) -> bytes:
        """The content of `classes.json`."""
        return json.dumps(self.target, ensure_ascii=False, indent=1).encode()

    @property
    def limits(self) -> dict[str, Any]:
        """The gray level around images."""
        return {"background": self.background}

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The classes of each head of the network, in the order of its outputs."""
        raise NotImplementedError

    @property
    def joint_classes(self) -> tuple[str, ...]:
        """The classes of the joint of all heads; none where there is no joint."""
        return ()

    @property
    def output_names(self) -> list[str]:
        """The classes in declared order; those of several heads with the head's name before them."""
        if len(self.classes) == 1:
            return list(*self.classes.values())
        return [f"{head}={name}" for head, names in self.classes.items() for name in names]

    def check_options(self) -> None:
        """Check that the section `labeling` fits the classes.

        Raises:
            UserError: it does not, by key.
        """

    def check_names(self) -> None:
        """Check that the classes and heads that the configuration names are there.

        Raises:
            UserError: one is not, by key.
        """
        self.check_options()

    def legend(self) -> list[str]:
        """The index of each class, which the checkpoint stores."""
        return [f"Classes of {head} by index: {mapping(names)}" for head, names in self.classes.items()]

    def require_same(self, other: Self, mine: str, theirs: str) -> None:
        """Check that `other` has the same classes in the same order.

        Raises:
            UserError: with the difference.
        """
        if self.target != other.target:
            raise UserError(
                f"{mine} and {theirs} do not have the same classes in the same order: "
                f"{difference(self.classes, other.classes)}. A class is known by its place in the network's outputs."
            )

    def require_covers(self, other: Self, mine: str, theirs: str) -> list[str]:
        """Check that this one has all classes of `other`; returns where their order or number differs.

        Raises:
            UserError: with the classes that are missing here.
        """
        if set(self.classes) != set(other.classes):
            raise UserError(f"{theirs} has the heads {', '.join(other.classes)}, {mine} has {', '.join(self.classes)}.")
        for head, names in other.classes.items():
            missing = [name for name in names if name not in set(self.classes[head])]
            if missing:
                raise UserError(
                    f"{theirs} has classes that {mine} was never taught: {printable(', '.join(missing[:20]))}"
                    f"{', ...' if len(missing) > 20 else ''}. It was taught {printable(', '.join(self.classes[head][:20]))}."
                )
        if self.target == other.target and list(self.classes) == list(other.classes):
            return []
        return [
            f"Note: {theirs} has its classes in another order, or fewer of them, than {mine} "
            f"({difference(self.classes, other.classes)}). "
            f"Labels are compared by name, and predictions are in the order of {mine}."
        ]

    @property
    def spec(self) -> LabelSpec:
        """What the network has to know of the classes."""
        heads = tuple(HeadSpec(head, len(names)) for head, names in self.classes.items())
        return LabelSpec(heads, joint=bool(self.joint_classes))

    def build_model(self, pretrained: bool = False) -> Classifier:
        """The classifier."""
        try:
            return models.build_classifier(self.network if pretrained else without_pretrained(self.network), self.spec)
        except ModelConfigError as error:
            raise UserError(f"{error}.") from None

    @property
    def pretrained(self) -> bool:
        """Whether the configuration takes a backbone's weights from a hub."""
        return self.network.backbone.pretrained

    @cached_property
    def _output_tensors(self) -> dict[str, tuple[int, tuple[str, ...]]]:
        """The axis along which each tensor has rows for outputs, and the heads that these are combinations of.

        Found by building the network once more for each head, with a class more, without memory.
        """
        config, spec = without_pretrained(self.network), self.spec
        found: dict[str, tuple[int, tuple[str, ...]]] = {}
        with torch.device("meta"):
            small = models.build_classifier(config, spec).state_dict()
            for number, head in enumerate(spec.heads):
                heads = list(spec.heads)
                heads[number] = replace(head, num_classes=head.num_classes + 1)
                large = models.build_classifier(config, replace(spec, heads=tuple(heads))).state_dict()
                for name, tensor in small.items():
                    for axis, size in enumerate(tensor.shape):
                        if size != large[name].shape[axis]:
                            found[name] = (axis, (*found.get(name, (axis, ()))[1], head.name))
        return found

    def output_axes(self) -> dict[str, int]:
        """The axis along which each tensor grows with the classes of a head, or of several."""
        return {name: axis for name, (axis, _) in self._output_tensors.items()}

    def tensor_outputs(self, tensor: str) -> list[str]:
        """The classes that the rows of a tensor stand for; of several heads each with the name of its head."""
        if len(self.classes) == 1:
            return self.output_names
        heads = self._output_tensors[tensor][1]
        named = [[f"{head}={name}" for name in self.classes[head]] for head in heads]
        return ["/".join(sorted(combination)) for combination in itertools.product(*named)]

    def shares(self, tensor: str, other: Task) -> bool:
        """What lies between the features and the outputs of several heads is of these heads in this order."""
        if not tensor.startswith("head."):
            return True
        return isinstance(other, ClassifierTask) and list(self.classes) == list(other.classes)

    def check_dataset(self, dataset: Dataset, split: str, model: nn.Module) -> list[str]:
        """Whether the network takes the dataset's images, and which classes have no rows."""
        policy = dataset.manifest.image
        require_views(self.labeling.tta, policy.height, policy.width)
        with torch.device("meta"):
            images = torch.zeros((2, policy.channels, policy.height, policy.width), dtype=torch.uint8)
            try:
                model.eval()(images, torch.zeros((2, 2), dtype=torch.long))
            except ModelConfigError as error:
                raise UserError(f"{error}.") from None
        return dataset_notes(dataset.manifest, split, self.classes)

    def for_validation(self) -> Self:
        """The plain loss, one view of each image, thresholds of .5 and no temperature: what runs compare by."""
        plain = without_label_training_terms(self.loss)
        return replace(self, loss=plain, mixup=MixupConfig(), labeling=LabelingConfig(), class_rows={})

    def for_prediction(self, model: Classifier) -> Classifier:
        """The network with its re-parameterizable blocks fused (RepVGG, Ding et al. 2021)."""
        return model.fuse()

    @property
    def probs_columns(self) -> Mapping[str, str]:
        """The column of a prediction that holds the probabilities of each head, and of the joint."""
        return dict.fromkeys(self.classes, "probs")

    def rows_of(self, probs: Mapping[str, np.ndarray]) -> list[Row]:
        """Rows of `prediction_schema`, of the probabilities (B, K) of each head."""
        raise NotImplementedError

    def probabilities(self, output: ClassifierOutput) -> dict[str, Tensor]:
        """The probabilities float32 (B, K) of each head, and of the joint, that logits stand for."""
        raise NotImplementedError

    def at_temperature(self, probs: np.ndarray, temperature: float) -> np.ndarray:
        """Probabilities (B, K) of a head as a temperature makes them."""
        raise NotImplementedError

    def labeled(self, probs: Mapping[str, np.ndarray]) -> list[Row]:
        """Predictions by the section `labeling`, of probabilities float32 (B, K) of each head that know no temperature."""
        labeling, made = self.labeling, {}
        for head, part in probs.items():
            temperature = labeling.temperatures.get(head, labeling.temperature) if head in self.probs_columns else 1.0
            made[head] = part if temperature == 1 else self.at_temperature(part, temperature)
        return self.rows_of(made)

    def relabeled(self, rows: Sequence[Row]) -> list[Row]:
        """Predictions that were made without temperatures as the section `labeling` makes them."""
        columns = self.probs_columns
        return self.labeled({head: np.array([row[column] for row in rows], np.float32) for head, column in columns.items()})

    def tuned(self, rows: Sequence[Row], per_class: bool = False) -> tuple[LabelingConfig, list[str]]:
        """The section `labeling` tuned on predictions beside their truths, and what it could not tune, in sentences.

        Temperatures have the least cross-entropy (Guo et al. 2017), thresholds the highest F1: one, or one `per_class`.

        Raises:
            UserError: the task has no thresholds.
        """
        raise NotImplementedError

    @torch.inference_mode()
    def predict(self, model: Classifier, images: Tensor, sizes: Tensor) -> list[Row]:
        """Labels of images uint8 (B, C, H, W), their probabilities averaged over the configured views."""
        names = self.labeling.tta or ["identity"]
        total: dict[str, Tensor] = {}
        for name in names:
            seen = self.probabilities(model(view(images, name, self.background), sizes))
            total = {head: total[head] + part if total else part for head, part in seen.items()}
        return self.labeled({head: (part / len(names)).cpu().numpy() for head, part in total.items()})

    def loss_and_predictions(self, model: Any, batch: DeviceBatch) -> tuple[Tensor, list[Row]]:
        """Both of one pass through the network, unless predictions look at other views of the images."""
        if self.labeling.tta:
            return super().loss_and_predictions(model, batch)
        output = model(batch.images, batch.sizes)
        return super().loss_and_predictions(lambda images, sizes: output, batch)

    def predict_with_attention(self, model: Classifier, images: Tensor, sizes: Tensor) -> list[tuple[Row, Attention | None]]:
        """Labels of a single view, with where the network saw the most probable class of each head (Grad-CAM)."""
        with torch.no_grad():
            output = model(images, sizes)
            probs = self.probabilities(output)
        maps = grad_cam(model, images, sizes, {head: probs[head].argmax(1) for head in self.classes})
        rows = self.labeled({head: part.cpu().numpy() for head, part in probs.items()})
        if maps is None:
            return [(row, None) for row in rows]
        found: list[tuple[Row, Attention | None]] = []
        for index, row in enumerate(rows):
            best = {head: names[int(probs[head][index].argmax())] for head, names in self.classes.items()}
            labels = [name if len(best) == 1 else f"{head}: {name}" for head, name in best.items()]
            found.append((row, Attention(labels, maps[index])))
        return found

    def saliency(self, model: Classifier, images: Tensor, sizes: Tensor, output: str) -> np.ndarray | None:
        """Where the network sees what speaks for a class (Grad-CAM), in one image."""
        places = [(head, index) for head, names in self.classes.items() for index in range(len(names))]
        head, index = places[self.output_names.index(output)]
        maps = grad_cam(model, images, sizes, {head: torch.full((len(images),), index, device=images.device)})
        return None if maps is None else maps[0][0]

    def output_of(self, model: Any, batch: DeviceBatch, progress: Progress | None) -> ClassifierOutput:
        """The logits of a batch; in float64 in validation, whose loss must not depend on the number of workers."""
        output: ClassifierOutput = model(batch.images, batch.sizes)
        if progress is not None:
            return output
        joint = None if output.joint is None else output.joint.double()
        return output._replace(logits={head: logits.double() for head, logits in output.logits.items()}, joint=joint)

    def mixed(self, batch: DeviceBatch, shares: Mapping[str, Tensor], progress: Progress) -> DeviceBatch:
        """The batch with images and shares of classes mixed as configured, for a training step."""
        images, targets = mix(batch.images, shares, batch.weights, self.mixup, progress.seed, progress.step)
        return replace(batch, images=images, targets=targets)


def without_pretrained(config: ClassifierConfig) -> ClassifierConfig:
    """The same network, that fetches no weights."""
    config = copy.deepcopy(config)
    config.backbone.pretrained = False
    return config
