"""Image to token sequence.

Legend: B batch, C channels, H W height and width, T target positions.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

import models
from cluster.errors import UserError
from data_pipeline.dataset.manifest import Dataset, DatasetError, Manifest, Split
from data_pipeline.dataset.targets import TargetEncoder
from data_pipeline.dataset.token_targets import MAX_TOKENS, TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from models import Decoding, Generation, ModelConfig, ModelConfigError, OutputSpec, Recognizer
from trainers.config.criterion import Directions
from trainers.config.loss import LossConfig, without_training_terms
from trainers.config.scheduled_sampling import ScheduledSamplingConfig
from trainers.tasks.base import Attention, Progress, Row, Task
from trainers.tasks.ctc_room import texts_without_room
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.losses import Targets, counted_positions, sequence_loss
from trainers.tasks.metrics.sequence import DETAILS, DIRECTIONS, HEADLINES, SequenceMetrics
from trainers.tasks.presentation import MetricColumn, Section
from trainers.tasks.scheduled_sampling import sampled_tokens

if TYPE_CHECKING:
    from trainers.config.train import TrainConfig


@dataclass(frozen=True)
class SequenceTask(Task):
    """Image to token sequence: a loss over the tokens after `<bos>`, `<eos>` included, and what follows it if so configured.

    `max_length` is the most tokens of a prediction, `<eos>` included; texts of more than `max_tokens` are not trained on.
    """

    name: ClassVar[str] = "sequence"
    file: ClassVar[str] = "vocab.json"
    options: ClassVar[str] = "decoding"
    columns: ClassVar[tuple[str, ...]] = ("text",)
    prediction_schema: ClassVar[pa.Schema] = pa.schema([("prediction", pa.string())])
    directions: ClassVar[Directions] = DIRECTIONS
    main_metric: ClassVar[str] = "score"
    headlines: ClassVar[tuple[MetricColumn, ...]] = HEADLINES
    details: ClassVar[tuple[MetricColumn, ...]] = DETAILS

    tokenizer: Tokenizer
    max_length: int = MAX_TOKENS
    max_tokens: int = MAX_TOKENS
    network: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    sampling: ScheduledSamplingConfig = field(default_factory=ScheduledSamplingConfig)
    decoding: Decoding = field(default_factory=Decoding)

    @classmethod
    def from_dataset(cls, manifest: Manifest, config: TrainConfig) -> Self:
        """The vocabulary of a dataset; predictions may be as long as its longest text, and half as long again."""
        stated = [split.target_stats.get("max_tokens") for split in manifest.splits.values()]
        lengths = [length for length in stated if isinstance(length, int) and length >= 0]
        if not lengths or len(lengths) < len(stated):
            raise DatasetError(
                f"Dataset '{manifest.name}' is damaged: target_stats of each split has a number max_tokens. Prepare it again."
            )
        longest = min(config.stream.max_tokens, max(lengths))
        return cls._of(Tokenizer(manifest.charset), longest + longest // 2 + 1, config)

    @classmethod
    def from_checkpoint(cls, content: bytes, limits: Row, config: TrainConfig) -> Self:
        """The vocabulary of a checkpoint, from its `vocab.json`."""
        length = limits["max_length"]
        if not isinstance(length, int) or length < 1:
            raise ValueError(f"max_length is {length!r}")
        return cls._of(Tokenizer.from_json(content), length, config)

    @classmethod
    def _of(cls, tokenizer: Tokenizer, max_length: int, config: TrainConfig) -> Self:
        return cls(
            tokenizer,
            max_length,
            config.stream.max_tokens,
            config.model,
            config.loss,
            config.scheduled_sampling,
            config.decoding,
        )

    def to_bytes(self) -> bytes:
        """The content of `vocab.json`."""
        return self.tokenizer.to_json()

    @property
    def limits(self) -> dict[str, Any]:
        """The most tokens of a prediction."""
        return {"max_length": self.max_length}

    @property
    def output_names(self) -> list[str]:
        """The tokens in the order of their ids, special ones first."""
        return self.tokenizer.all_tokens

    def describe(self) -> str:
        """`92 tokens`."""
        return f"{len(self.tokenizer)} tokens"

    def require_same(self, other: Self, mine: str, theirs: str) -> None:
        """Check that `other` has the same vocabulary.

        Raises:
            VocabularyMismatch: with the difference.
        """
        self.tokenizer.require_same(other.tokenizer, mine, theirs)

    def require_covers(self, other: Self, mine: str, theirs: str) -> list[str]:
        """Check that this vocabulary has all tokens of `other`.

        Raises:
            VocabularyMismatch: with the tokens that are missing here.
        """
        self.tokenizer.require_covers(other.tokenizer, mine, theirs)
        return []

    def target_encoder(self) -> TargetEncoder:
        """Texts to token ids: target `tokens` int64 (B, T + 1), `<bos>` ... `<eos>` `<pad>` ..."""
        return TokenTargets(self.tokenizer, self.max_tokens)

    def output_spec(self, max_length: int | None = None) -> OutputSpec:
        """What the network has to know of the vocabulary; `max_length` counts tokens, `<eos>` included."""
        t = self.tokenizer
        opens, closes = t.groups()
        return OutputSpec(len(t), t.bos_id, t.eos_id, t.pad_id, max_length or self.max_length, open_ids=opens, close_ids=closes)

    def build_model(self, pretrained: bool = False) -> Recognizer:
        """The recognizer, able to decode as configured."""
        try:
            model = models.build_model(self.network if pretrained else without_pretrained(self.network), self.output_spec())
            models.check_decoding(model, self.decoding)
        except ModelConfigError as error:
            raise UserError(f"{error}.") from None
        return model

    @property
    def pretrained(self) -> bool:
        """Whether the configuration takes a backbone's weights from a hub."""
        return self.network != without_pretrained(self.network)

    def output_axes(self) -> dict[str, int]:
        """The axis along which each tensor grows with the vocabulary, found by building the network twice, without memory."""
        config, spec = without_pretrained(self.network), self.output_spec()
        with torch.device("meta"):
            small = models.build_model(config, spec).state_dict()
            large = models.build_model(config, replace(spec, num_classes=spec.num_classes + 1)).state_dict()
        axes = {}
        for name, tensor in small.items():
            grown = [axis for axis, size in enumerate(tensor.shape) if size != large[name].shape[axis]]
            if grown:
                (axes[name],) = grown  # a tensor over pairs of tokens would need a rule of its own
        return axes

    def check_dataset(self, dataset: Dataset, split: str, model: nn.Module) -> list[str]:
        """Whether the network takes the dataset's images, and how many texts its CTC head cannot learn."""
        policy = dataset.manifest.image
        with torch.device("meta"):
            images = torch.zeros((1, policy.channels, policy.height, policy.width), dtype=torch.uint8)
            try:
                model.eval()(images, torch.zeros((1, 2), dtype=torch.long))
            except ModelConfigError as error:
                raise UserError(f"{error}.") from None
        if self.network.ctc.head == "none":
            return []
        crowded = texts_without_room(model, dataset, split)
        if not crowded:
            return []
        return [
            f"{crowded:,} of {dataset.manifest.split(split).rows:,} training texts have more tokens than their images have "
            "columns of features: the CTC head cannot learn them. Prepare wider images, or choose a backbone of smaller stride."
        ]

    def largest_targets(self, batch_size: int, split: Split) -> dict[str, np.ndarray]:
        """Texts as long as the longest of the split."""
        length = min(split.target_stats["max_tokens"], self.max_tokens) + 2
        return {"tokens": np.full((batch_size, length), self.tokenizer.bos_id, np.int64)}

    @property
    def untrained_loss(self) -> float:
        """A uniform guess's: ln V a token."""
        return math.log(max(len(self.tokenizer), 2))

    def counted(self, batch: DeviceBatch) -> Tensor:
        """The positions that the loss of this batch is over: bool (B, T), none of them in rows of weight 0."""
        return counted_positions(batch.targets["tokens"][:, 1:], batch.weights, self.tokenizer.pad_id, self.loss.ignore_padding)

    def target_count(self, batch: DeviceBatch) -> Tensor:
        """How many positions the loss of this batch is over: float scalar."""
        return self.counted(batch).sum().float()

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, progress: Progress | None = None) -> Tensor:
        """The loss summed over the counted positions of the batch; in training with scheduled sampling, if so configured."""
        tokens = batch.targets["tokens"]
        sampled = None
        if progress is not None:
            sampled = sampled_tokens(self.sampling, progress.step, progress.total_steps, tokens, progress.seed)
        targets = Targets(tokens[:, :-1], tokens[:, 1:], self.counted(batch))
        output = model(batch.images, targets.tgt_in, batch.sizes, sampled)
        return sequence_loss(output, targets, self.output_spec(targets.tgt_in.shape[1]), self.loss)

    def for_validation(self) -> Self:
        """Plain cross-entropy, greedy decoding."""
        return replace(self, loss=without_training_terms(self.loss), decoding=Decoding())

    def new_metrics(self) -> SequenceMetrics:
        """Expression rate, word and character error rates, and the competition's score."""
        return SequenceMetrics()

    @torch.inference_mode()
    def predict(self, model: Recognizer, images: Tensor, sizes: Tensor) -> list[Row]:
        """Texts of images uint8 (B, C, H, W) of true `sizes` (B, 2), decoded as configured."""
        generation = model.generate(images, self.decoding, sizes)
        return [{"prediction": self.tokenizer.decode(ids)} for ids in generation.token_ids.tolist()]

    @torch.inference_mode()
    def predict_with_attention(self, model: Recognizer, images: Tensor, sizes: Tensor) -> list[tuple[Row, Attention | None]]:
        """Texts, decoded greedily, with where the decoder looked for each token; what has no text has no map."""
        generation = model.generate(images, Decoding(return_attention=True), sizes)
        assert generation.attention is not None
        backbone: Any = model.backbone
        cells = backbone.feature_sizes(sizes).tolist()
        ids = generation.token_ids.tolist()
        return [
            ({"prediction": self.tokenizer.decode(row)}, self._attention(row, generation, index, *cells[index]))
            for index, row in enumerate(ids)
        ]

    def _attention(self, ids: list[int], generation: Generation, index: int, height: int, width: int) -> Attention:
        steps = [step for step in range(int(generation.lengths[index])) if self.tokenizer.tokens([ids[step]])]
        assert generation.attention is not None
        # The batch was padded on the right and below: the map is of the image alone.
        maps = generation.attention[index][steps, :height, :width].float().cpu().numpy()
        return Attention([self.tokenizer.tokens([ids[step]])[0] for step in steps], maps)

    def perfect_prediction(self, target: Row) -> Row:
        """The text."""
        return {"prediction": target["text"]}

    def text_of(self, prediction: Row) -> str:
        """The text."""
        return str(prediction["prediction"])

    def report_sections(self, rows: Sequence[tuple[Row, Row]]) -> list[Section]:
        """None: examples and attention say what there is to say of a text."""
        return []


def without_pretrained(config: ModelConfig) -> ModelConfig:
    """The same network, that fetches no weights."""
    config = copy.deepcopy(config)
    config.backbone.timm.pretrained = config.backbone.swin.pretrained = False
    return config
