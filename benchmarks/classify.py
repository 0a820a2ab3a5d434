"""`python -m benchmarks.classify`: a classifier by Inkray and by a plain timm loop: same data, network and steps, in turns.

Boards of letters are synthesized; the plain loop gets them as PNG files. Each round trains both with one seed, with all cores.
The images/s of a round are the median of its epochs but the first, the ratio is the median of the rounds' ratios. mAP is that
on 1,000 boards that neither saw, a mean over the rounds with its standard error.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.classify_peer import Boards, Recipe, train_peer
from benchmarks.machine import machine
from cluster.arguments import whole_number
from cluster.errors import run_command
from cluster.heap import keep_freed_memory
from cluster.scratch import scratch_folder
from cluster.session import ray_session
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.synthesis.letters.build import stroked, synthesize_letters
from data_pipeline.synthesis.letters.config import BoardConfig
from data_pipeline.synthesis.letters.glyphs import LETTERS
from data_pipeline.synthesis.parts import parts_of
from trainers.checkpoint.load import open_checkpoint
from trainers.config.load import load_config
from trainers.distributed.context import WorkerContext
from trainers.prediction.evaluation import evaluate_checkpoint
from trainers.prediction.local import predict_split_here
from trainers.run.directory import new_run
from trainers.run.launch_local import launch_local
from trainers.run.preflight import preflight
from trainers.tracking import Console

TEST = 1000


def export(dataset: str, split: str, folder: Path) -> tuple[list[Path], np.ndarray]:
    """The images of a split as files, and their labels float32 (N, 26)."""
    folder.mkdir(parents=True)
    files, labels = [], []
    for row in read_split(open_dataset(dataset), split, ["id", "image", "labels"]).to_pylist():
        files.append(folder / f"{row['id']}.png")
        files[-1].write_bytes(row["image"])
        labels.append([float(letter in row["labels"]) for letter in LETTERS])
    return files, np.array(labels, np.float32)


def train_inkray(recipe: Recipe, dataset: str, runs: str, seed: int, overrides: list[str]) -> tuple[list[float], float]:
    """The same through Inkray: images/s of each epoch, and mean average precision."""
    own = [
        f"data.dataset={dataset}", f"runs_dir={runs}", f"seed={seed}", "name=bench", f"epochs={recipe.epochs}",
        f"global_batch_size={recipe.batch_size}", "data.val_split=''", "stream.augmentation=none",
        "classifier.in_channels=1", f"classifier.backbone.name={recipe.network}", f"optim.lr={recipe.lr}",
        f"optim.weight_decay={recipe.weight_decay}", f"optim.schedule.warmup_ratio={recipe.warmup}",
        "optim.schedule.name=cosine", "tracking.wandb=false", "report.enabled=false", *overrides,
    ]  # fmt: skip
    config = load_config(None, own)
    run = new_run(config)
    result = launch_local(preflight(config), run, WorkerContext(0, 1, torch.device("cpu")), Console(io.StringIO()))
    assert result is not None
    found = evaluate_checkpoint(open_checkpoint(run.uri), open_dataset(dataset), "test", predict_split_here)
    return [row["epoch/images_per_s"] for row in result.history if "epoch/images_per_s" in row], found.metrics.whole()["map"]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.classify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", default="resnet10t", help="of timm (default %(default)s)")
    parser.add_argument("--size", type=whole_number(16, 1024), default=96, help="pixels (default %(default)s)")
    parser.add_argument("--images", type=whole_number(64), default=3200, help="trained on (default %(default)s)")
    parser.add_argument("--epochs", type=whole_number(2), default=5, help="of each training (default %(default)s)")
    parser.add_argument("--rounds", type=whole_number(1), default=3, help="seeds (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the metrics to this file, too")
    parser.add_argument("overrides", nargs="*", help="of Inkray's configuration")
    args = parser.parse_intermixed_args()
    recipe = Recipe(args.network, len(LETTERS), args.size, 32, args.epochs, 2e-3, 0.01, 0.05)
    print(machine(), flush=True)
    with scratch_folder("bench") as scratch:
        dataset = f"{scratch}/letters"
        with ray_session():  # ended before anything is timed
            parts = parts_of({"train": args.images, "test": TEST})
            glyphs = stroked(parts, 400, 0)
            config = BoardConfig(noise=0, rotation=0)  # what a few minutes suffice to learn
            synthesize_letters(dataset, parts, glyphs, 0, config, args.size, False, origin="bench")
        boards = {
            split: Boards(*export(dataset, split, Path(scratch) / split), recipe, training=split == "train")
            for split in ("train", "test")
        }
        keep_freed_memory()  # both sides train in this process
        rates: dict[str, list[list[float]]] = {"timm": [], "inkray": []}
        maps: dict[str, list[float]] = {"timm": [], "inkray": []}
        for seed in range(args.rounds):
            for name in ("timm", "inkray") if seed % 2 == 0 else ("inkray", "timm"):
                if name == "timm":
                    speed, score = train_peer(recipe, boards["train"], boards["test"], seed)
                else:
                    speed, score = train_inkray(recipe, dataset, f"{scratch}/runs", seed, args.overrides)
                rates[name].append(speed)
                maps[name].append(score)
                print(f"seed {seed}, {name:6}: {statistics.median(speed[1:]):6.1f} images/s, mAP {score:.4f}", flush=True)
    record = summary(rates, maps)
    print(_table(record))
    if args.json:
        args.json.write_text(json.dumps({"machine": machine(), "recipe": vars(recipe), **record}, indent=1))
    return 0


def summary(rates: dict[str, list[list[float]]], maps: dict[str, list[float]]) -> dict[str, Any]:
    """Medians of images/s, ratios of the rounds, and mAP with its standard error."""
    medians = {name: [statistics.median(speed[1:]) for speed in rounds] for name, rounds in rates.items()}
    ratios = [mine / theirs for mine, theirs in zip(medians["inkray"], medians["timm"], strict=True)]
    error = {
        name: statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        for name, values in maps.items()
    }
    return {
        "images_per_s": {name: statistics.median(values) for name, values in medians.items()},
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "map": {name: [statistics.mean(values), error.get(name, math.nan)] for name, values in maps.items()},
    }


def _table(record: dict[str, Any]) -> str:
    lines = [f"{'':8}{'images/s':>10}{'mAP':>18}"]
    for name in ("timm", "inkray"):
        mean, error = record["map"][name]
        lines.append(f"{name:8}{record['images_per_s'][name]:10.1f}{mean:10.4f} ± {error:.4f}")
    lines.append(f"inkray / timm: {record['ratio']:.3f} (rounds {', '.join(f'{ratio:.3f}' for ratio in record['ratios'])})")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
