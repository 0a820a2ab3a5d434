"""Costs of a recognizer on this machine: memory of a training step and decoding time."""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from models.decoding import Decoding
from models.presets import NamedConfig
from models.recognizer import Recognizer, build_model
from models.summary.peak_memory import peak_memory
from models.types import ModelOutput

REPEATS = 3


@dataclass(frozen=True)
class Measurement:
    """Costs of a recognizer with random weights on `device`.

    `train_bytes`: peak memory of a step of AdamW on `train_batch` images with `tokens` tokens each: weights, gradients,
    moments and activations in float32. `seconds`: greedy decoding time by batch size, `tokens` tokens an image.
    """

    device: str
    threads: int
    tokens: int
    train_batch: int
    train_bytes: int
    seconds: dict[int, float]


def measure(named: NamedConfig, tokens: int, train_batch: int = 4, batches: tuple[int, ...] = (1, 24)) -> Measurement:
    """Builds the recognizer and measures it, which takes seconds to minutes.

    Raises:
        ModelConfigError: the configuration cannot be built, or cannot process its reference sizes.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(0)
    model = build_model(named.config, named.reference.output_spec()).to(device)
    seconds = {batch: _decoding_seconds(model.eval(), named, batch, tokens) for batch in batches}
    return Measurement(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        threads=torch.get_num_threads(),
        tokens=tokens,
        train_batch=train_batch,
        train_bytes=_train_bytes(model.train(), named, train_batch, tokens),
        seconds=seconds,
    )


def random_images(model: Recognizer, named: NamedConfig, batch: int) -> torch.Tensor:
    """Noise images uint8 (B, C, H, W) of the reference size of a configuration."""
    shape = (batch, model.in_channels, named.reference.height, named.reference.width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, device=next(model.parameters()).device)


def random_targets(model: Recognizer, batch: int, tokens: int) -> torch.Tensor:
    """BOS and random tokens that are not special, int64 (B, T)."""
    spec = model.output_spec
    ids = torch.randint(3, spec.num_classes, (batch, tokens), device=next(model.parameters()).device)
    ids[:, 0] = spec.bos_id
    return ids


def suppress_eos(model: Recognizer) -> Recognizer:
    """Makes the heads never emit EOS, so that all texts have the maximum length; returns the model."""
    heads = [getattr(part, "head", None) for part in (model.decoder, model.ctc)]
    with torch.no_grad():
        for head in heads:
            if isinstance(head, nn.Linear):
                head.bias[model.output_spec.eos_id] = -1e4
    return model


def _decoding_seconds(model: Recognizer, named: NamedConfig, batch: int, tokens: int) -> float:
    images = random_images(model, named, batch)
    decoding = Decoding(max_length=tokens)
    without_eos = suppress_eos(copy.deepcopy(model))
    return median_seconds(lambda: without_eos.generate(images, decoding), images.device, REPEATS)


def median_seconds(run: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median wall time of `run` after one warm-up run."""
    times = []
    for _ in range(repeats + 1):
        _synchronize(device)
        start = time.perf_counter()
        run()
        _synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _train_bytes(model: Recognizer, named: NamedConfig, batch: int, tokens: int) -> int:
    """Bytes of the weights and of what a training step allocates beside them."""
    weights = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    images, ids = random_images(model, named, batch), random_targets(model, batch, tokens)
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        total_loss(model(images, ids), ids).backward()
        optimizer.step()
        optimizer.zero_grad()

    def two_steps() -> None:
        step()
        step()  # the moments exist, as in all later steps

    return weights + peak_memory(two_steps)


def total_loss(output: ModelOutput, ids: torch.Tensor) -> torch.Tensor:
    """Arbitrary loss of every head, with gradients of all parameters."""
    heads = [head for head in (output.logits, output.reverse_logits) if head is not None]
    losses = [F.cross_entropy(logits.float().flatten(0, 1), ids.flatten()) for logits in heads]
    if output.ctc_logits is not None:
        losses.append(output.ctc_logits.float().log_softmax(-1)[..., 0].mean().neg())
    if output.repulsion is not None:
        losses.append(output.repulsion)
    if output.counts is not None:
        losses.append(output.counts.mean())
    if output.levels is not None:
        losses.append(output.levels.float().log_softmax(-1)[..., 0].mean().neg())
    return torch.stack(losses).sum()
