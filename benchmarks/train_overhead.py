"""`python -m benchmarks.train_overhead`: the same model and data through a plain torch loop and through Inkray, one worker.

The plain loop has its batches ready in memory; Inkray reads, decodes and ships them while it trains. Both take the same
steps on the same batches with the same number of threads, in turns; the figure of each is the median over all its rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.machine import machine
from cluster.errors import run_command
from cluster.session import ray_session
from data_pipeline.formulas.grammar import FormulaConfig
from data_pipeline.images import ImagePolicy
from data_pipeline.manifest import open_dataset
from data_pipeline.stream import Batch, Position, TrainStream
from data_pipeline.synthesize import synthesize_formulas
from data_pipeline.tokenizer import Tokenizer
from trainers.check_run import new_run
from trainers.checkpoint import DataInfo, build_recognizer
from trainers.config import TrainConfig, load_config
from trainers.optim import Schedule
from trainers.run import run_training
from trainers.task import SequenceTask
from trainers.tracking import Console

INTERVAL = 10  # steps between two readings of the clock


def plain_loop(config: TrainConfig, batches: list[Batch]) -> tuple[list[float], float]:
    """Train on `batches` with nothing but torch. Returns images/s of each interval, and the last interval's loss per token."""
    dataset = open_dataset(config.data.dataset)
    tokenizer = Tokenizer(dataset.manifest.charset)
    torch.manual_seed(config.seed)
    model: nn.Module = build_recognizer(config, SequenceTask(tokenizer), DataInfo.of(dataset.manifest))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optim = config.optim
    optimizer = torch.optim.AdamW(model.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)
    schedule = Schedule(optimizer, optim.schedule, len(batches), epochs=1)
    model.train()
    speeds: list[float] = []
    images, loss_sum, tokens, started = 0, 0.0, 0, time.perf_counter()
    for step, batch in enumerate(batches, start=1):
        targets = torch.from_numpy(batch.targets)
        logits = model(torch.from_numpy(batch.images), targets[:, :-1], torch.from_numpy(batch.widths)).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=tokenizer.pad_id)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), optim.max_grad_norm)
        schedule.set(step - 1)
        optimizer.step()
        images += len(batch)
        count = int((targets[:, 1:] != tokenizer.pad_id).sum())
        loss_sum, tokens = loss_sum + float(loss.detach()) * count, tokens + count
        if step % INTERVAL == 0:
            speeds.append(images / (time.perf_counter() - started))
            last_loss = loss_sum / tokens
            images, loss_sum, tokens, started = 0, 0.0, 0, time.perf_counter()
    return speeds, last_loss


def inkray(config: TrainConfig) -> tuple[list[float], float, float]:
    """Train through Ray with one worker. Returns images/s and the last loss as `plain_loop`, and the share of waiting."""
    result = run_training(config, new_run(config), Console(io.StringIO()))
    rows = [row for row in result.history if "train/loss" in row]
    wait = statistics.median(row["data/wait_share"] for row in rows[1:])
    return [row["data/images_per_s"] for row in rows], rows[-1]["train/loss"], wait


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_overhead", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=3200, help="in the one epoch of a round (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="of the training configuration")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="inkray-bench-") as scratch, ray_session(min_cpus=2):
        counts = {"train": args.images, "val": 16, "test": 16}
        synthesize_formulas(f"{scratch}/data", counts, 0, ImagePolicy(), FormulaConfig(), overwrite=False)
        own = [f"data.dataset={scratch}/data", f"runs_dir={scratch}/runs", "data.val_split=''", "epochs=1"]
        own += ["scaling.num_train_workers=1", f"tracking.log_interval={INTERVAL}", "tracking.wandb=false"]
        config = load_config("configs/train/formulas.yaml", [*own, *args.overrides])
        torch.set_num_threads(os.cpu_count() or 1)
        batches = memory_batches(config)
        plain, through, waits = [], [], []
        for number in range(args.rounds):
            speeds, plain_loss = plain_loop(config, batches)
            plain += speeds[1:]  # the first interval warms up
            speeds, loss, wait = inkray(config)
            through += speeds[1:]
            waits.append(wait)
            print(f"round {number + 1}: last loss {plain_loss:.3f} plain, {loss:.3f} Inkray", flush=True)
    a, b, wait = statistics.median(plain), statistics.median(through), statistics.median(waits)
    print(f"\n{'':28}images/s (median of {len(plain)} intervals)\n{'plain torch loop, in memory':28}{a:8.1f}")
    print(f"{'Inkray, one worker':28}{b:8.1f}")
    print(f"overhead {100 * (a / b - 1):.1f} %, of which waiting for data {100 * wait:.1f} %")
    print(machine())
    if args.json:
        record = {"plain": a, "inkray": b, "overhead": a / b - 1, "wait_share": wait, "machine": machine()}
        args.json.write_text(json.dumps(record, indent=1))
    return 0


def memory_batches(config: TrainConfig) -> list[Batch]:
    """The batches of the run's epoch, all of them in memory."""
    dataset = open_dataset(config.data.dataset)
    stream = TrainStream(
        dataset, config.data.train_split, Tokenizer(dataset.manifest.charset), config.stream,
        seed=config.seed, global_batch_size=config.global_batch_size,
    )  # fmt: skip
    return list(stream.batches(Position(), 1))


if __name__ == "__main__":
    run_command(main)
