"""`python -m benchmarks.train_overhead`: the same model and data through a plain torch DDP script and through Inkray.

The plain script has its batches ready in memory; Inkray reads, decodes and ships them while it trains. Both take the same
steps on the same batches with the same number of threads and workers, in turns; the figure of each is the median over all
its rounds. With `--checkpoints`, Inkray without checkpoints amid an epoch is compared with one every 50 steps instead.
"""

from __future__ import annotations

import argparse
import io
import json
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from benchmarks.machine import machine
from cluster.cores import cores_each
from cluster.errors import run_command
from cluster.scratch import scratch_folder
from cluster.session import ray_session
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.stream import Batch, StreamPosition, TrainStream
from data_pipeline.synthesis.formulas.build import synthesize_formulas
from data_pipeline.synthesis.formulas.grammar import FormulaConfig
from trainers.config.load import load_config
from trainers.config.train import TrainConfig
from trainers.optim import Schedule
from trainers.run.directory import new_run
from trainers.run.launch_ray import launch_ray
from trainers.run.preflight import preflight
from trainers.tasks.sequence import SequenceTask
from trainers.tracking import Console

INTERVAL = 10  # steps between two readings of the clock
CHECKPOINT_EVERY = 50  # steps


def plain_script(rank: int, workers: int, port: int, config: TrainConfig, results: Any) -> None:
    """One rank of a training script with nothing but torch; rank 0 puts images/s of each interval and the last loss."""
    torch.set_num_threads(config.compute.threads_per_worker or cores_each(workers))
    if workers > 1:
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=workers)
    dataset = open_dataset(config.data.dataset)
    task = SequenceTask.from_dataset(dataset.manifest, config)
    tokenizer = task.tokenizer
    batches = memory_batches(config, rank, workers)
    torch.manual_seed(config.seed)
    model: nn.Module = task.build_model()
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if workers > 1:
        model = DistributedDataParallel(model)
    optim = config.optim
    optimizer = torch.optim.AdamW(model.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay)
    schedule = Schedule(optimizer, optim.schedule, len(batches), epochs=1)
    model.train()
    speeds: list[float] = []
    images, loss_sum, tokens, started = 0, 0.0, 0, time.perf_counter()
    for step, batch in enumerate(batches, start=1):
        targets = torch.from_numpy(batch.targets["tokens"])
        logits = model(torch.from_numpy(batch.images), targets[:, :-1], torch.from_numpy(batch.sizes)).logits
        loss = F.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=tokenizer.pad_id)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), optim.max_grad_norm)
        schedule.set(step - 1)
        optimizer.step()
        images += batch.global_size
        count = int((targets[:, 1:] != tokenizer.pad_id).sum())
        loss_sum, tokens = loss_sum + float(loss.detach()) * count, tokens + count
        if step % INTERVAL == 0:
            speeds.append(images / (time.perf_counter() - started))
            last_loss = loss_sum / tokens
            images, loss_sum, tokens, started = 0, 0.0, 0, time.perf_counter()
    if rank == 0:
        results.put((speeds, last_loss))
    if workers > 1:
        dist.destroy_process_group()


def plain(config: TrainConfig, workers: int) -> tuple[list[float], float]:
    """The plain script on `workers` processes: images/s of each interval, and the last interval's loss per token."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    results = context.Queue()
    ranks = [context.Process(target=plain_script, args=(rank, workers, port, config, results)) for rank in range(workers)]
    for process in ranks:
        process.start()
    found: tuple[list[float], float] = results.get()
    for process in ranks:
        process.join()
    return found


def inkray(config: TrainConfig) -> tuple[list[float], float, float]:
    """Train through Ray. Returns images/s and the last loss as `plain`, and the share of waiting."""
    result = launch_ray(preflight(config), new_run(config), Console(io.StringIO()))
    rows = [row for row in result.history if "train/loss" in row]
    wait = statistics.median(row["data/wait_share"] for row in rows[1:])
    return [row["data/images_per_s"] for row in rows], rows[-1]["train/loss"], wait


def memory_batches(config: TrainConfig, rank: int = 0, workers: int = 1) -> list[Batch]:
    """The batches of a rank of the run's epoch, all of them in memory."""
    dataset = open_dataset(config.data.dataset)
    task = SequenceTask.from_dataset(dataset.manifest, config)
    stream = TrainStream(
        dataset, config.data.train_split, task.target_encoder(), config.stream,
        seed=config.seed, global_batch_size=config.global_batch_size, rank=rank, world_size=workers,
    )  # fmt: skip
    return list(stream.batches(StreamPosition(), 1))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_overhead", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="of each worker, 0: all cores are shared by the workers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=3200, help="in the one epoch of a round (default %(default)s)")
    parser.add_argument("--checkpoints", action="store_true", help="compare checkpoints every 50 steps with none")
    parser.add_argument("--json", type=Path, help="write the metrics to this file, too")
    parser.add_argument("overrides", nargs="*", default=[], metavar="key=value", help="of the training configuration")
    args = parser.parse_args()
    with scratch_folder("bench") as scratch, ray_session(min_cpus=args.workers + 1):
        counts = {"train": args.images, "val": 16, "test": 16}
        synthesize_formulas(f"{scratch}/data", counts, 0, ImagePolicy(), FormulaConfig(), overwrite=False)
        own = [f"data.dataset={scratch}/data", f"runs_dir={scratch}/runs", "data.val_split=''", "epochs=1"]
        own += [f"scaling.num_train_workers={args.workers}", f"tracking.log_interval={INTERVAL}", "tracking.wandb=false"]
        own += [f"compute.threads_per_worker={args.threads}"]
        config = load_config("configs/train/formulas.yaml", [*own, *args.overrides])
        saving = load_config(
            "configs/train/formulas.yaml", [*own, *args.overrides, f"checkpoint.every_steps={CHECKPOINT_EVERY}"]
        )
        names = ("without", f"every {CHECKPOINT_EVERY} steps") if args.checkpoints else ("plain torch, in memory", "Inkray")
        speeds: dict[str, list[float]] = {name: [] for name in names}
        waits = []
        for number in range(args.rounds):
            first = inkray(config)[:2] if args.checkpoints else plain(config, args.workers)
            second, loss, wait = inkray(saving if args.checkpoints else config)
            waits.append(wait)
            for name, values in zip(names, (first[0], second), strict=True):
                speeds[name] += values[1:]  # the first interval warms up
            print(f"round {number + 1}: last loss {first[1]:.3f} {names[0]}, {loss:.3f} {names[1]}", flush=True)
    a, b = (statistics.median(values) for values in speeds.values())
    threads = args.threads or cores_each(args.workers)
    workers = f"{args.workers} worker{'s' * (args.workers > 1)}, {threads} thread{'s' * (threads > 1)}"
    print(f"\n{workers + ', checkpoints' * args.checkpoints:34}images/s (median of {len(speeds[names[0]])} intervals)")
    for name, value in zip(names, (a, b), strict=True):
        print(f"{name:34}{value:8.1f}")
    print(f"overhead {100 * (a / b - 1):.1f} %; waiting for data {100 * statistics.median(waits):.1f} % of the time")
    print(machine())
    if args.json:
        record = {
            names[0]: a,
            names[1]: b,
            "overhead": a / b - 1,
            "workers": args.workers,
            "threads": threads,
            "machine": machine(),
        }
        args.json.write_text(json.dumps(record | {"wait_share": statistics.median(waits)}, indent=1))
    return 0


if __name__ == "__main__":
    run_command(main)
