"""`python -m benchmarks.label_errors SCRATCH`: wrong labels, planted in boards of letters, are found and corrected.

Everything goes through the commands that a user types: boards are synthesized in folds, labels are made wrong by
`data_pipeline.correct`, a run without each fold predicts it, `trainers.label_errors` doubts the labels and accepts its surest
suggestions, `data_pipeline.correct` applies them, and the same runs are trained again on what came out. All are evaluated on
the same boards, whose labels are right. A step that is done is not done again, a training that was stopped is resumed.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import shlex
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine
from benchmarks.steps import Steps, command
from cluster.arguments import finite_number, whole_number
from cluster.errors import run_command
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.shards import read_split
from trainers.prediction.label_doctor.doubts import METHODS, Doubt, find_doubts
from trainers.prediction.label_doctor.label_columns import label_columns
from trainers.prediction.out_of_fold import read_out_of_fold

METRICS = ("accuracy", "map")
# Only a network that is nearly always right can doubt labels: a few letters, apart and without noise, are learned in minutes.
BOARDS = "--easy --no-overlap --letters 3 6 --size 96"
Labels = dict[str, set[str]]  # by id


def labels_of(dataset: str) -> Labels:
    """The labels of all rows in folds."""
    opened = open_dataset(dataset)
    found: Labels = {}
    for fold in range(opened.manifest.folds):
        for row in read_split(opened, f"fold-{fold}", ["id", "labels"]).to_pylist():
            found[row["id"]] = set(row["labels"])
    return found


def plant(clean: str, noisy: str, share: float, sheet: Path) -> int:
    """Make a share of the labels (pairs of board and letter) of the folds wrong; returns how many."""
    classes = open_dataset(clean).manifest.target["classes"]
    labels = labels_of(clean)
    names = sorted(labels)
    rng = np.random.default_rng(0)
    wrong = rng.choice(len(names) * len(classes), round(share * len(names) * len(classes)), replace=False)
    changed = {name: set(labels[name]) for name in names}
    for pair in wrong.tolist():
        changed[names[pair // len(classes)]] ^= {classes[pair % len(classes)]}
    with sheet.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "given", "suggested", "new"])
        for name in names:
            if changed[name] != labels[name]:
                given, new = (json.dumps(sorted(part, key=classes.index)) for part in (labels[name], changed[name]))
                writer.writerow([name, given, "", new])
    command("data_pipeline.correct", clean, str(sheet), noisy, "--overwrite")
    return len(wrong)


def found_shares(doubts: list[Doubt], ids: list[str], clean: Labels, noisy: Labels, most: int) -> dict[str, float]:
    """Precision and recall of all doubts, and of the surest `most`."""
    planted = {(name, letter) for name in clean for letter in clean[name] ^ noisy[name]}
    right = [(ids[doubt.row], doubt.given or doubt.suggested) in planted for doubt in doubts]
    return {
        "flagged": len(right),
        "precision": sum(right) / max(len(right), 1),
        "recall": sum(right) / max(len(planted), 1),
        "listed": min(most, len(right)),
        "precision_at_share": sum(right[:most]) / max(min(most, len(right)), 1),
        "recall_at_share": sum(right[:most]) / max(len(planted), 1),
    }


def score(out_of_fold: str, clean: Labels, noisy: Labels, share: float) -> dict[str, dict[str, float]]:
    """What each method finds of the planted errors, in the same predictions."""
    predictions = read_out_of_fold(out_of_fold)
    columns = label_columns(predictions)
    ids = [row["id"] for row in predictions.rows]
    most = math.ceil(share * sum(column.labels for column in columns))
    return {name: found_shares(find_doubts(columns, method), ids, clean, noisy, most) for name, method in METHODS.items()}


class Benchmark:
    """The steps of one scratch folder, in order."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.scratch: Path = args.scratch.resolve()
        self.asked = {name: getattr(args, name) for name in ("images", "folds", "share", "boards", "overrides")}
        self.steps = Steps(self.scratch, self.asked)

    def place(self, name: str) -> str:
        """A dataset, file or folder of the scratch folder."""
        return str(self.scratch / name)

    def make_data(self) -> int:
        """The boards `clean`, and `noisy` with wrong labels; returns how many are wrong."""
        args, clean = self.args, self.place("clean")
        words = [*shlex.split(args.boards), "--folds", str(args.folds), "--count", str(args.images)]
        words += ["--test-count", str(max(50, args.images // 4)), "--overwrite"]
        self.steps.once("synthesize", lambda: command("data_pipeline.synthesize", "letters", clean, *words))
        wrong: int = self.steps.once(
            "plant", lambda: plant(clean, self.place("noisy"), args.share, self.scratch / "planted.csv")
        )
        return wrong

    def train_all(self, name: str) -> tuple[list[str], dict[str, list[float]]]:
        """A run for each fold of the boards `name`, and their metrics on test boards whose labels are right."""
        runs, metrics = [], []
        for fold in range(self.args.folds):
            config = ["configs/train/letters.yaml", f"data.dataset={self.place(name)}", f"data.fold={fold}"]
            config += ["tracking.wandb=false", "stream.augmentation=none", *self.args.overrides]
            place, file = self.scratch / "runs" / f"{name}-{fold}", self.place(f"test-{name}-{fold}.json")
            run = self.steps.trained(f"train-{name}-{fold}", place, config).run
            evaluate = partial(command, "trainers.evaluate", run, self.place("clean"), "--json", file)
            self.steps.once(f"test-{name}-{fold}", evaluate)
            runs.append(run)
            metrics.append(json.loads(Path(file).read_text())["metrics"]["test"])
        return runs, {key: [values[key] for values in metrics] for key in METRICS}

    def correct(self, runs: list[str]) -> None:
        """The boards `corrected`: `noisy` with the surest suggestions accepted, as many as labels are wrong."""
        oof, review = self.place("oof.parquet"), self.place("review")
        self.steps.once("out_of_fold", lambda: command("trainers.out_of_fold", *runs, oof, "--overwrite"))
        again = ["--overwrite"] if Path(review).exists() else []
        words = [oof, review, "--share", str(self.args.share), "--accept", *again]
        self.steps.once("label_errors", lambda: command("trainers.label_errors", *words))
        places = [self.place("noisy"), f"{review}/corrections.csv", self.place("corrected")]
        self.steps.once("correct", lambda: command("data_pipeline.correct", *places, "--overwrite"))

    def run(self) -> dict[str, Any]:
        """All steps; returns the metrics."""
        wrong = self.make_data()
        runs, uncorrected = self.train_all("noisy")
        self.correct(runs)
        _, corrected = self.train_all("corrected")
        truth, noisy = labels_of(self.place("clean")), labels_of(self.place("noisy"))
        left = sum(len(truth[name] ^ labels) for name, labels in labels_of(self.place("corrected")).items())
        return {
            **self.asked,
            "labels": len(truth) * len(open_dataset(self.place("clean")).manifest.target["classes"]),
            "planted": wrong,
            "left": left,
            "methods": score(self.place("oof.parquet"), truth, noisy, self.args.share),
            "test": {"uncorrected": uncorrected, "corrected": corrected},
            "machine": machine(),
        }


def tables(record: dict[str, Any]) -> str:
    """What came out, as text."""
    at, share = f"at {100 * record['share']:g} %", record["planted"] / record["labels"]
    lines = [
        f"{record['labels']:,} labels of {record['images']:,} boards, {record['planted']:,} made wrong ({100 * share:.2f} %)",
        f"{'method':12}{'flagged':>9}{'precision':>11}{'recall':>8}{'precision ' + at:>18}{'recall ' + at:>15}",
    ]
    for name, row in record["methods"].items():
        shares = f"{row['precision']:11.3f}{row['recall']:8.3f}{row['precision_at_share']:18.3f}{row['recall_at_share']:15.3f}"
        lines.append(f"{name:12}{row['flagged']:9,}{shares}")
    lines.append(f"wrong labels: {record['planted']:,} before, {record['left']:,} after accepting what was doubted {at}")
    heads = "".join(f"{f'test {key}':>16}" for key in METRICS)
    lines.append(f"\n{'trained on':14}{heads}   mean of {record['folds']} runs; each")
    for name, values in record["test"].items():
        each = "  ".join("/".join(f"{values[key][fold]:.4f}" for key in METRICS) for fold in range(record["folds"]))
        lines.append(f"{name:14}{''.join(f'{statistics.mean(values[key]):16.4f}' for key in METRICS)}   {each}")
    return "\n".join([*lines, record["machine"]])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.label_errors", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scratch", type=Path, help="folder for data and runs; named again, it is continued")
    parser.add_argument("--images", type=whole_number(30), default=6000, help="in all folds (default %(default)s)")
    parser.add_argument("--folds", type=whole_number(2, 20), default=3, help="default %(default)s")
    parser.add_argument("--share", type=finite_number(0.001, 0.5), default=0.02, help="of wrong labels (default %(default)s)")
    parser.add_argument("--boards", default=BOARDS, help="of synthesize letters (default %(default)s)")
    parser.add_argument("--json", type=Path, help="write the metrics to this file, too")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="key=value", help="of letters.yaml without its quarter turns"
    )
    args = parser.parse_intermixed_args()
    record = Benchmark(args).run()
    print(f"\n{tables(record)}")
    if args.json:
        args.json.write_text(json.dumps(record, indent=1))
    return 0


if __name__ == "__main__":
    run_command(main)
