"""What is learned: the loss and the metrics of a kind of output belong here, not to the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_pipeline.tokenizer import Tokenizer
from models import Decoding, OutputSpec, Recognizer
from trainers.metrics import GroupedSums

if TYPE_CHECKING:
    from data_pipeline.stream.batch import Batch
    from trainers.step import DeviceBatch


class SequenceTask:
    """Image to token sequence: cross-entropy over the tokens after `<bos>`, `<eos>` included, `<pad>` not counted."""

    def __init__(self, tokenizer: Tokenizer, label_smoothing: float = 0.0) -> None:
        self.tokenizer = tokenizer
        self.label_smoothing = label_smoothing

    def output_spec(self, max_length: int) -> OutputSpec:
        """What the network has to know of the vocabulary; `max_length` counts tokens, `<eos>` included."""
        t = self.tokenizer
        return OutputSpec(len(t), bos_id=t.bos_id, eos_id=t.eos_id, pad_id=t.pad_id, max_length=max_length)

    def _labels(self, batch: DeviceBatch) -> Tensor:
        """tgt_out int64 (B, T - 1); rows of weight 0 are all `<pad>`."""
        labels = batch.targets[:, 1:]
        return labels.masked_fill(batch.weights[:, None] == 0, self.tokenizer.pad_id)

    def token_count(self, batch: DeviceBatch) -> Tensor:
        """How many tokens the loss of this batch is over: float scalar."""
        return (self._labels(batch) != self.tokenizer.pad_id).sum().float()

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, smoothed: bool = True) -> Tensor:
        """Cross-entropy summed over the tokens of the batch, in float32."""
        logits = model(batch.images, batch.targets[:, :-1], batch.widths)
        return F.cross_entropy(
            logits.float().flatten(0, 1),
            self._labels(batch).flatten(),
            ignore_index=self.tokenizer.pad_id,
            label_smoothing=self.label_smoothing if smoothed else 0.0,
            reduction="sum",
        )

    @torch.inference_mode()
    def judge(self, model: Recognizer, batch: Batch, tensors: DeviceBatch, sums: GroupedSums) -> None:
        """Decode a batch greedily and count its figures into `sums`. `model` is in evaluation mode."""
        sums.total.loss += float(self.loss_sum(model, tensors, smoothed=False))
        sums.total.loss_tokens += int(self.token_count(tensors))
        predictions = self.predict(model, tensors.images, tensors.widths)
        for sample_id, prediction, truth, source in zip(batch.ids, predictions, batch.texts, batch.sources, strict=True):
            if sample_id in batch.errors:
                sums.total.rejected += 1
            else:
                sums.add(prediction, truth, source)

    @torch.inference_mode()
    def predict(self, model: Recognizer, images: Tensor, widths: Tensor) -> list[str]:
        """Texts of images uint8 (B, C, H, W)."""
        generation = model.generate(images, Decoding(), widths)
        return [self.tokenizer.decode(ids) for ids in generation.token_ids.tolist()]
