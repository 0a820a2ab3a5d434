"""`python -m benchmarks.letters SCRATCH`: letters in noise from nothing, with the commands that a user has, and what comes out.

Boards are synthesized, a network is trained for each seed, and 2,000 boards that it never saw are predicted: with one view and
with four turned ones, each into a CSV file of probabilities. The weighted mean of all seeds' files is the ensemble. Accuracy is
over all pairs of board and letter at a threshold of .5; intervals are bootstrapped over boards (95 %), those of differences in
pairs. What is there already is not made again, so the command continues where it stopped. `--easy`: boards without noise and
rotation; their letters stand upright, so images are turned neither in training nor for prediction.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.steps import Steps
from cluster.arguments import whole_number
from cluster.errors import run_command
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.synthesis.letters.glyphs import LETTERS

VIEWS = {"one view": [], "four views": ["labeling.tta=[identity,rotate_90,rotate_180,rotate_270]"]}
WEIGHTS = (1.5, *[1.0] * 15)  # of the members: the first counts half as much again, as in the competition
DRAWS = 2000  # of the bootstrap


def truths(dataset: str) -> tuple[list[str], np.ndarray]:
    """The ids of the test split, and which letters are there: bool (N, 26)."""
    rows = read_split(open_dataset(dataset), "test", ["id", "labels"]).to_pylist()
    return [row["id"] for row in rows], np.array([[letter in row["labels"] for letter in LETTERS] for row in rows])


def probabilities(file: Path, ids: list[str]) -> np.ndarray:
    """The probabilities in a CSV file, in the order of `ids`: float (N, 26)."""
    with file.open() as lines:
        rows = {row["index"]: [float(row[letter]) for letter in LETTERS] for row in csv.DictReader(lines)}
    return np.array([rows[name] for name in ids])


def interval(values: np.ndarray) -> tuple[float, float]:
    """The mean of values per board, and half of its bootstrapped 95 % interval."""
    picks = np.random.default_rng(0).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[picks].mean(1), [2.5, 97.5])
    return float(values.mean()), float(high - low) / 2


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.letters", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scratch", type=Path, help="folder for data, runs and predictions")
    parser.add_argument("overrides", nargs="*", help="of configs/train/letters.yaml")
    parser.add_argument("--easy", action="store_true", help="boards without noise and rotation")
    parser.add_argument("--seeds", type=whole_number(1, 16), default=1, help="networks that are trained (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the metrics to this file, too")
    args = parser.parse_intermixed_args()
    scratch: Path = args.scratch.resolve()
    steps = Steps(scratch, {"easy": args.easy, "overrides": args.overrides})
    data = str(scratch / "letters")
    kind = ["--easy"] if args.easy else []
    views = {"one view": VIEWS["one view"]} if args.easy else VIEWS
    overrides = [*(["stream.augmentation=none"] if args.easy else []), *args.overrides]
    setup = steps.seconds("data", "data_pipeline.synthesize", "letters", data, "--size", "128", "--overwrite", *kind)
    ids, truth = truths(data)
    absent = 1 - truth.mean()
    print(f"{machine()}\nalways absent: {absent:.4f}", flush=True)
    members: dict[str, list[np.ndarray]] = {name: [] for name in views}
    record: dict[str, Any] = {"machine": machine(), "always_absent": absent, "data_s": setup, "seeds": []}
    for seed in range(args.seeds):
        config = ["configs/train/letters.yaml", f"data.dataset={data}", f"seed={seed}", "tracking.wandb=false", *overrides]
        folder, spent = steps.trained(f"train-{seed}", scratch / f"runs-{seed}", config)
        for name, options in views.items():
            key = f"{name.split()[0]}-{seed}"
            table = f"{scratch / key}.csv"
            words = [folder, data, str(scratch / key), "--csv", table, "--csv-values", "probabilities", *options]
            steps.seconds(f"predict-{key}", "trainers.predict", *words)
            members[name].append(probabilities(Path(table), ids))
        found = {name: ((parts[-1] > 0.5) == truth).mean(1) for name, parts in members.items()}
        accuracies = {name: interval(values) for name, values in found.items()}
        if not args.easy:
            accuracies["gain of views"] = interval(found["four views"] - found["one view"])
        record["seeds"].append({"seed": seed, "train_s": spent, **accuracies})
        shown = ", ".join(f"{name} {_text(accuracy)}" for name, accuracy in accuracies.items())
        print(f"seed {seed}: {setup / 60:.1f} + {spent / 60:.1f} minutes; accuracy {shown}", flush=True)
    if args.seeds > 1:
        view, parts = list(members.items())[-1]
        single = np.array([((part > 0.5) == truth).mean(1) for part in parts])
        ensemble = np.average(parts, axis=0, weights=WEIGHTS[: args.seeds])
        right = ((ensemble > 0.5) == truth).mean(1)
        best = int(single.mean(1).argmax())
        record["ensemble"] = {"accuracy": interval(right), "gain over the best": interval(right - single[best])}
        gain = interval(right - single[best])
        print(f"ensemble of {args.seeds}, {view} each: {_text(interval(right))}, {_text(gain)} over the best")
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))
    return 0


def _text(found: tuple[float, float]) -> str:
    return f"{found[0]:.4f} ± {found[1]:.4f}"


if __name__ == "__main__":
    run_command(main)
