"""The configuration of a training run: one dataclass for each section of its YAML, each in a file of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from cluster.numbers import with_number_problems
from data_pipeline.stream.config import StreamConfig
from models import ClassifierConfig, Decoding, ModelConfig, ModelConfigError
from models.decoding.settings import check_settings
from trainers.config.checkpoint import CheckpointConfig
from trainers.config.compute import ComputeConfig
from trainers.config.data import DataConfig
from trainers.config.early_stopping import EarlyStoppingConfig
from trainers.config.failure import FailureConfig
from trainers.config.init import InitConfig
from trainers.config.label_loss import LabelLossConfig
from trainers.config.labeling import LabelingConfig
from trainers.config.loss import LossConfig
from trainers.config.loss_guard import LossGuardConfig
from trainers.config.mixup import MixupConfig
from trainers.config.optim import OptimConfig
from trainers.config.report import ReportConfig
from trainers.config.rules import broken, minimums
from trainers.config.scaling import ScalingConfig
from trainers.config.scheduled_sampling import ScheduledSamplingConfig
from trainers.config.tracking import TrackingConfig
from trainers.config.weight_averaging import WeightAveragingConfig


@dataclass
class TrainConfig:
    """A training run."""

    name: str = "formulas"  # a run is stored under runs_dir/name-<date>
    runs_dir: str = "runs"  # a folder or any URI
    seed: int = 0  # of the weights, the order of the samples, augmentation and dropout
    epochs: int = 10  # passes over the training split
    validate_every: int = 1  # epochs; always after the last
    global_batch_size: int = 64  # images of an optimizer step, over all workers
    data: DataConfig = field(default_factory=DataConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    init: InitConfig = field(default_factory=InitConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)  # the network of tasks with labels
    loss: LossConfig = field(default_factory=LossConfig)
    label_loss: LabelLossConfig = field(default_factory=LabelLossConfig)  # of tasks with labels
    mixup: MixupConfig = field(default_factory=MixupConfig)  # of tasks with labels
    scheduled_sampling: ScheduledSamplingConfig = field(default_factory=ScheduledSamplingConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    weight_averaging: WeightAveragingConfig = field(default_factory=WeightAveragingConfig)
    decoding: Decoding = field(default_factory=Decoding)  # of the test split and of predictions; validation is greedy
    labeling: LabelingConfig = field(default_factory=LabelingConfig)  # of the test split and of predictions, with labels
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    loss_guard: LossGuardConfig = field(default_factory=LossGuardConfig)
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    failure: FailureConfig = field(default_factory=FailureConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    report: ReportConfig = field(default_factory=ReportConfig)

    @property
    def batch_size_per_worker(self) -> int:
        """Each worker's part of the global batch."""
        return max(1, self.global_batch_size // self.scaling.num_train_workers)

    def validate(self) -> list[str]:
        """What is wrong with the values, by key: of all sections, and of what only makes sense together."""
        sections = [getattr(self, item.name) for item in fields(self)]
        found = broken(
            *minimums("", self, epochs=1, validate_every=1, global_batch_size=1, seed=0),
            (bool(self.name) and "/" not in self.name, f"name='{self.name}': a name without '/'"),
        )
        found += [message for section in sections if hasattr(section, "validate") for message in section.validate()]
        return with_number_problems(
            self,
            found + _decoding_problems(self.decoding) + self.mixup.problems_with(self.label_loss) + self._across_sections(),
        )

    def _across_sections(self) -> list[str]:
        workers, elastic = self.scaling.num_train_workers, self.scaling.min_train_workers > 0
        compute, in_halves = self.compute, self.failure.on_out_of_memory == "halve"
        return broken(
            (
                elastic or self.global_batch_size % max(workers, 1) == 0,
                f"global_batch_size={self.global_batch_size} is not a multiple of scaling.num_train_workers={workers}",
            ),
            (
                not self.early_stopping.patience or bool(self.data.val_split),
                "early_stopping.patience is above 0, but data.val_split is empty: there is nothing to be patient about",
            ),
            (
                not compute.ddp.static_graph or not (compute.micro_batch_size > 0 or compute.find_micro_batch or in_halves),
                "compute.ddp.static_graph=true: not together with micro-batches (compute.micro_batch_size, "
                "compute.find_micro_batch or failure.on_out_of_memory=halve), of which the first do not exchange gradients",
            ),
        )


def _decoding_problems(decoding: Decoding) -> list[str]:
    try:
        check_settings(decoding)
    except ModelConfigError as error:
        return [str(error)]
    return []
