"""Small real sequence tasks and their networks, the same weights each time."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from models import ModelConfig, Recognizer
from tests.support.batches import TOKENIZER
from tests.support.overrides import KINDS, SMALL
from trainers.config.load import load_config
from trainers.tasks.base import Progress
from trainers.tasks.device_batch import DeviceBatch
from trainers.tasks.sequence import SequenceTask

CPU = torch.device("cpu")
MAX_LENGTH = 12


def tiny_network() -> ModelConfig:
    """The default recognizer, some ten thousand weights."""
    config = ModelConfig()
    config.backbone.small_cnn.width = 4
    config.encoder.embed_dim = config.decoder.embed_dim = 16
    config.encoder.mlp_dim = config.decoder.mlp_dim = 32
    return config


def tiny_task() -> SequenceTask:
    """A task of TOKENIZER whose network is tiny."""
    return SequenceTask(TOKENIZER, MAX_LENGTH, network=tiny_network())


def network_of(task: SequenceTask) -> Recognizer:
    """The network of a task, the same weights each time."""
    torch.manual_seed(0)
    return task.build_model()


def tiny_model() -> Recognizer:
    """The network of `tiny_task`."""
    return network_of(tiny_task())


def kind_of(kind: str) -> tuple[Recognizer, SequenceTask]:
    """The network and the task of one of KINDS."""
    config = load_config(None, [*SMALL, *KINDS[kind]])
    task = SequenceTask(TOKENIZER, MAX_LENGTH, network=config.model, loss=config.loss, decoding=config.decoding)
    return network_of(task), task


def without_dropout(network: Recognizer) -> Recognizer:
    """`network`, no longer random."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


def rank_independent(network: Recognizer) -> Recognizer:
    """`network` without what differs between ranks by its nature: batch statistics and dropout."""
    for module in without_dropout(network).modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = module.eval().forward  # type: ignore[method-assign]
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign,misc]
    return network


@dataclasses.dataclass(frozen=True)
class PoisonedTask(SequenceTask):
    """A task whose loss is NaN where a batch holds the token `d`."""

    def loss_sum(self, model: nn.Module, batch: DeviceBatch, progress: Progress | None = None) -> Tensor:
        loss = super().loss_sum(model, batch, progress)
        return loss * float("nan") if (batch.targets["tokens"] == self.tokenizer.encode("d")[1]).any() else loss


def poisoned_task() -> PoisonedTask:
    """The poisoned task of the tiny network."""
    return PoisonedTask(TOKENIZER, MAX_LENGTH, network=tiny_network())
