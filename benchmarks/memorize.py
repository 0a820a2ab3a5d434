"""`python -m benchmarks.memorize CONFIG`: does a recognizer learn at all? It reads 64 formulas until it knows them by heart.

The step is the one of `trainers.train`, in plain torch, without Ray and without augmentation. 100 % exact match under
greedy decoding says that images reach the decoder, that gradients reach the images' end of the network, that what is
trained is what is decoded, and that texts end.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.machine import machine
from cluster.errors import UserError, run_command
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.preparation.images import fit
from data_pipeline.stream.batch import Batch, pad_images
from data_pipeline.stream.plan import StreamPosition
from data_pipeline.synthesis.formulas.grammar import FormulaConfig, charset
from data_pipeline.synthesis.formulas.sample import make_sample
from models import ModelConfig, ModelConfigError, build_model
from models.presets import load_named
from trainers.config.compute import Precision
from trainers.engine.step import StepConfig, TrainStep
from trainers.optim import OptimConfig
from trainers.tasks.device_batch import to_device
from trainers.tasks.sequence import SequenceTask


@dataclass(frozen=True)
class Recital:
    """After an epoch: the mean loss per token over it, the share of texts that are read without a fault, seconds so far."""

    epoch: int
    loss: float
    exact_match: float
    seconds: float


def formulas(count: int, policy: ImagePolicy, pixels_per_token: int = 0, seed: int = 0) -> tuple[list[np.ndarray], list[str]]:
    """Images uint8 (H, W) and texts of `count` different formulas, half of them printed, half handwritten.

    Those narrower than `pixels_per_token` for each token are passed over: a CTC head cannot read more tokens than columns.
    """
    found: dict[str, np.ndarray] = {}
    index = 0
    while len(found) < count:
        sample = make_sample(seed, index, FormulaConfig(), lambda text: text not in found)
        image = fit(sample.image, policy)
        if image.shape[1] >= pixels_per_token * len(sample.text.split()):
            found[sample.text] = image
        index += 1
    return list(found.values()), list(found)


def batch_of(images: list[np.ndarray], texts: list[str], policy: ImagePolicy, tokenizer: Tokenizer) -> Batch:
    """A batch as the stream would make it."""
    encoder = TokenTargets(tokenizer)
    targets = encoder.collate([encoder.encode({"text": text}) for text in texts], len(texts))
    pixels, sizes = pad_images(images, policy)
    names = [str(number) for number in range(len(texts))]
    weights = np.ones(len(texts), np.float32)
    return Batch(pixels, sizes, targets, weights, names, [""] * len(texts), {"text": texts}, StreamPosition(), len(texts))


def memorize(
    config: ModelConfig,
    policy: ImagePolicy,
    count: int = 64,
    epochs: int = 200,
    batch_size: int = 16,
    optim: OptimConfig | None = None,
    precision: Precision = "fp32",
    pixels_per_token: int = 0,
    every: int = 5,
) -> Iterator[Recital]:
    """Train on `count` formulas; a `Recital` every few epochs, the last one when all are known or the epochs are over.

    Raises:
        ModelConfigError: the configuration cannot be built or cannot take such images.
    """
    images, texts = formulas(count, policy, pixels_per_token)
    task = SequenceTask(Tokenizer(charset(FormulaConfig())))
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    longest = max(len(text.split()) for text in texts) + 2
    model = build_model(config, task.output_spec(longest)).to(device)
    optim = optim or OptimConfig(lr=1e-3, weight_decay=0.0)
    steps = epochs * -(-count // batch_size)
    step = TrainStep(model, task, optim, steps, device, StepConfig(precision))
    generator = np.random.default_rng(0)
    started = time.perf_counter()
    for epoch in range(1, epochs + 1):
        loss, tokens = 0.0, 0.0
        order = generator.permutation(count)
        for first in range(0, count, batch_size):
            rows = order[first : first + batch_size]
            batch = batch_of([images[i] for i in rows], [texts[i] for i in rows], policy, task.tokenizer)
            result = step(to_device(batch, device))
            loss, tokens = loss + float(result.loss_sum), tokens + float(result.target_count)
        if epoch % every == 0 or epoch == epochs:
            known = 0
            model.eval()
            for first in range(0, count, batch_size):
                part = slice(first, first + batch_size)
                seen = to_device(batch_of(images[part], texts[part], policy, task.tokenizer), device)
                with step.autocast():
                    read = task.predict(model, seen.images, seen.sizes)
                known += sum(row["prediction"] == text for row, text in zip(read, texts[part], strict=True))
            yield Recital(epoch, loss / tokens, known / count, time.perf_counter() - started)
            if known == count:
                return


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memorize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="a name of configs/model or a YAML file of a model")
    parser.add_argument("--height", type=int, default=64, help="of the images, pixels (default %(default)s)")
    parser.add_argument("--width", type=int, default=256, help="the most, pixels (default %(default)s)")
    parser.add_argument("--formulas", type=int, default=64)
    parser.add_argument(
        "--pixels-per-token", type=int, default=0, help="narrower formulas are passed over: 8 for a CTC head on stride 4"
    )
    parser.add_argument("--epochs", type=int, default=200, help="at most (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16", "auto"], default="fp32")
    parser.add_argument("--json", type=Path, help="write the metrics to this file, too")
    args = parser.parse_args()
    optim = OptimConfig(lr=args.lr, weight_decay=0.0)
    policy = ImagePolicy(args.height, args.width)
    print(machine(), flush=True)
    history = []
    try:
        config = load_named(args.config).config
        for seen in memorize(
            config, policy, args.formulas, args.epochs, args.batch_size, optim, args.precision, args.pixels_per_token
        ):
            history.append(seen)
            print(
                f"epoch {seen.epoch:4}  loss {seen.loss:7.4f}  exact {100 * seen.exact_match:5.1f} %  {seen.seconds:6.0f} s",
                flush=True,
            )
    except ModelConfigError as error:
        raise UserError(str(error)) from None
    if args.json:
        args.json.write_text(json.dumps({"config": args.config, "machine": machine(), "history": [vars(h) for h in history]}))
    return 0 if history[-1].exact_match == 1 else 1


if __name__ == "__main__":
    run_command(main)
