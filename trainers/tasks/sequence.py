"""What is learned: the loss and the metrics of a kind of output belong here, not to the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from data_pipeline.dataset.tokenizer import Tokenizer
from models import Decoding, Generation, OutputSpec, OwnTokens, Recognizer
from trainers.config.criterion import Direction, Directions
from trainers.tasks.losses import LossConfig, Targets, counted_positions, sequence_loss, without_training_terms
from trainers.tasks.metrics.sequence import DIRECTIONS, GroupedSums, reported_metrics

if TYPE_CHECKING:
    from data_pipeline.stream.batch import Batch
    from trainers.tasks.device_batch import DeviceBatch


class SequenceTask:
    """Image to token sequence: a loss over the tokens after `<bos>`, `<eos>` included, and what follows it if so configured."""

    metric_directions: ClassVar[Directions] = DIRECTIONS  # by the last part of a metric's name

    def __init__(self, tokenizer: Tokenizer, loss: LossConfig | None = None, decoding: Decoding | None = None) -> None:
        self.tokenizer = tokenizer
        self.loss = loss or LossConfig()
        self.decoding = decoding or Decoding()

    @staticmethod
    def reported(prefix: str, groups: Sequence[str]) -> dict[str, Direction]:
        """The metrics that an evaluation reports of a split and its `groups`, as far as weights can be compared by them."""
        return reported_metrics(prefix, groups)

    def output_spec(self, max_length: int) -> OutputSpec:
        """What the network has to know of the vocabulary; `max_length` counts tokens, `<eos>` included."""
        t = self.tokenizer
        opens, closes = t.groups()
        return OutputSpec(len(t), t.bos_id, t.eos_id, t.pad_id, max_length, open_ids=opens, close_ids=closes)

    def counted(self, batch: DeviceBatch) -> Tensor:
        """The positions that the loss of this batch is over: bool (B, T - 1), none of them in rows of weight 0."""
        return counted_positions(batch.targets["tokens"][:, 1:], batch.weights, self.tokenizer.pad_id, self.loss.pad)

    def token_count(self, batch: DeviceBatch) -> Tensor:
        """How many positions the loss of this batch is over: float scalar."""
        return self.counted(batch).sum().float()

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, own: OwnTokens | None = None) -> Tensor:
        """The loss summed over the counted positions of the batch, in float32, of a model that is fed `own` tokens."""
        tokens = batch.targets["tokens"]
        targets = Targets(tokens[:, :-1], tokens[:, 1:], self.counted(batch))
        output = model(batch.images, targets.tgt_in, batch.sizes, own)
        return sequence_loss(output, targets, self.output_spec(targets.tgt_in.shape[1]), self.loss)

    def plain(self) -> SequenceTask:
        """The same task with the loss that validation reports."""
        return SequenceTask(self.tokenizer, without_training_terms(self.loss), self.decoding)

    @torch.inference_mode()
    def judge(
        self, model: Recognizer, batch: Batch, tensors: DeviceBatch, sums: GroupedSums, decoding: Decoding | None = None
    ) -> None:
        """Decode a batch, greedily unless `decoding` says otherwise, and count its figures into `sums`.

        `model` is in evaluation mode.
        """
        plain = self.plain()
        sums.total.loss += float(plain.loss_sum(model, tensors))
        sums.total.loss_tokens += int(plain.token_count(tensors))
        predictions = self.predict(model, tensors.images, tensors.sizes, decoding or Decoding())
        rows = zip(batch.ids, predictions, batch.columns["text"], batch.sources, strict=True)
        for sample_id, prediction, truth, source in rows:
            if sample_id in batch.errors:
                sums.reject(source)
            else:
                sums.add(prediction, truth, source)

    @torch.inference_mode()
    def predict(self, model: Recognizer, images: Tensor, sizes: Tensor, decoding: Decoding | None = None) -> list[str]:
        """Texts of images uint8 (B, C, H, W) of true `sizes` (B, 2), decoded as configured unless `decoding` says otherwise."""
        generation = self.generate(model, images, sizes, decoding)
        return [self.tokenizer.decode(ids) for ids in generation.token_ids.tolist()]

    def generate(self, model: Recognizer, images: Tensor, sizes: Tensor, decoding: Decoding | None = None) -> Generation:
        """What is decoded in images uint8 (B, C, H, W) of true `sizes` (B, 2)."""
        return model.generate(images, decoding or self.decoding, sizes)
