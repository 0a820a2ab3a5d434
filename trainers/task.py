"""What is learned: the loss and the metrics of a kind of output belong here, not to the network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from data_pipeline.tokenizer import Tokenizer
from models import Decoding, Generation, OutputSpec, Recognizer
from trainers.losses import LossConfig, sequence_loss
from trainers.metrics import GroupedSums

if TYPE_CHECKING:
    from data_pipeline.stream.batch import Batch
    from trainers.step import DeviceBatch


class SequenceTask:
    """Image to token sequence: a loss over the tokens after `<bos>`, `<eos>` included, `<pad>` not counted."""

    def __init__(self, tokenizer: Tokenizer, loss: LossConfig | None = None, decoding: Decoding | None = None) -> None:
        self.tokenizer = tokenizer
        self.loss = loss or LossConfig()
        self.decoding = decoding or Decoding()

    def output_spec(self, max_length: int) -> OutputSpec:
        """What the network has to know of the vocabulary; `max_length` counts tokens, `<eos>` included."""
        t = self.tokenizer
        opens, closes = t.groups()
        return OutputSpec(len(t), t.bos_id, t.eos_id, t.pad_id, max_length, open_ids=opens, close_ids=closes)

    def _labels(self, batch: DeviceBatch) -> Tensor:
        """tgt_out int64 (B, T - 1); rows of weight 0 are all `<pad>`."""
        labels = batch.targets[:, 1:]
        return labels.masked_fill(batch.weights[:, None] == 0, self.tokenizer.pad_id)

    def token_count(self, batch: DeviceBatch) -> Tensor:
        """How many tokens the loss of this batch is over: float scalar."""
        return (self._labels(batch) != self.tokenizer.pad_id).sum().float()

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, smoothed: bool = True) -> Tensor:
        """The loss summed over the tokens of the batch, in float32."""
        tgt_in = batch.targets[:, :-1]
        output = model(wide_enough(model, batch.images), tgt_in, batch.widths)
        loss = self.loss if smoothed else replace(self.loss, label_smoothing=0.0, repulsion_weight=0.0)
        return sequence_loss(output, tgt_in, self._labels(batch), self.output_spec(tgt_in.shape[1]), loss)

    @torch.inference_mode()
    def judge(self, model: Recognizer, batch: Batch, tensors: DeviceBatch, sums: GroupedSums) -> None:
        """Decode a batch greedily, as often as a run validates, and count its figures into `sums`.

        `model` is in evaluation mode.
        """
        sums.total.loss += float(self.loss_sum(model, tensors, smoothed=False))
        sums.total.loss_tokens += int(self.token_count(tensors))
        predictions = self.predict(model, tensors.images, tensors.widths, Decoding())
        for sample_id, prediction, truth, source in zip(batch.ids, predictions, batch.texts, batch.sources, strict=True):
            if sample_id in batch.errors:
                sums.total.rejected += 1
            else:
                sums.add(prediction, truth, source)

    @torch.inference_mode()
    def predict(self, model: Recognizer, images: Tensor, widths: Tensor, decoding: Decoding | None = None) -> list[str]:
        """Texts of images uint8 (B, C, H, W), decoded as configured unless `decoding` says otherwise."""
        generation = self.generate(model, images, widths, decoding)
        return [self.tokenizer.decode(ids) for ids in generation.token_ids.tolist()]

    def generate(self, model: Recognizer, images: Tensor, widths: Tensor, decoding: Decoding | None = None) -> Generation:
        """What is decoded in images uint8 (B, C, H, W)."""
        return model.generate(wide_enough(model, images), decoding or self.decoding, widths)


def wide_enough(model: nn.Module, images: Tensor) -> Tensor:
    """Images (B, C, H, W), padded on the right to the least width that `model` takes: their last column, again and again.

    A batch, the last one of an epoch say, may hold narrow images alone.
    """
    network: Any = model.module if isinstance(model, DistributedDataParallel) else model
    missing = network.backbone.min_size[1] - images.shape[3]
    return torch.cat([images, images[..., -1:].expand(-1, -1, -1, missing)], 3) if missing > 0 else images
