"""Training step of bare torch: forward, cross-entropy, backward, clipped gradients, AdamW. Nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from models import ModelOutput, reverse_targets
from trainers.config.train import TrainConfig
from trainers.distributed.precision import resolve_precision
from trainers.tasks.device_batch import DeviceBatch


class BareLoop:
    """Steps of `network` on batches that lie on its device; `task` knows what pads the targets."""

    def __init__(self, network: nn.Module, task: Any, config: TrainConfig, device: torch.device) -> None:
        self.network, self.device = network.train(), device
        self._task, self._dtype = task, resolve_precision(config.compute.precision, device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._dtype == torch.float16)
        optim, fused = config.optim, device.type == "cuda"
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, weight_decay=optim.weight_decay, fused=fused)
        self._max_grad_norm = optim.max_grad_norm

    def step(self, batch: DeviceBatch) -> None:
        """One step."""
        tokens = batch.targets["tokens"]
        inputs, labels, pad = tokens[:, :-1], tokens[:, 1:], self._task.tokenizer.pad_id
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            output: ModelOutput = self.network(batch.images, inputs, batch.sizes)
        assert output.logits is not None
        loss = F.cross_entropy(output.logits.float().flatten(0, 1), labels.flatten(), ignore_index=pad)
        if output.reverse_logits is not None:
            _, reverse = reverse_targets(inputs, self._task.output_spec(inputs.shape[1]))
            backward = F.cross_entropy(output.reverse_logits.float().flatten(0, 1), reverse.flatten(), ignore_index=pad)
            loss = (loss + backward) / 2
        self.optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.network.parameters(), self._max_grad_norm)
        self._scaler.step(self.optimizer)
        self._scaler.update()
