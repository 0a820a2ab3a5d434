"""`python -m trainers.evaluate CHECKPOINT DATASET`: evaluate a checkpoint, or the best of a run, on a split."""

from __future__ import annotations

import argparse

from cluster.errors import run_command
from cluster.session import ray_session
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.storage.base import open_storage
from trainers.checkpoint.load import open_checkpoint
from trainers.cli import add_option_arguments, batch_size_of
from trainers.engine.rejected import rejected_lines
from trainers.prediction.evaluation import BATCH_SIZE, evaluate_checkpoint, require_covers, to_json
from trainers.prediction.output import require_writable
from trainers.prediction.pool import predict_split_on_ray
from trainers.report.metrics_table import metrics_table, per_class_text, split_metrics


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m trainers.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="folder or URI of a checkpoint, or of a run")
    parser.add_argument("dataset", help="folder or URI of a dataset")
    parser.add_argument("--split", default="test", help="default %(default)s")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="images read at once (default %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the metrics to this file or URI, too")
    parser.add_argument(
        "--allow-unknown-tokens", action="store_true", help="count tokens that the checkpoint was never taught as errors"
    )
    parser.add_argument("--per-class", action="store_true", help="print the metrics of each class, too (of classifiers)")
    add_option_arguments(parser)
    args = parser.parse_intermixed_args()
    batch_size = batch_size_of(args.batch_size)
    dataset = open_dataset(args.dataset)
    dataset.manifest.filled_split(args.split)
    checkpoint = open_checkpoint(args.checkpoint).with_options(args.options)
    file = open_storage(args.json) if args.json else None
    if file:
        require_writable(file)
    for note in require_covers(checkpoint, dataset, args.allow_unknown_tokens):
        print(note, flush=True)
    with ray_session(min_cpus=2):
        result = evaluate_checkpoint(
            checkpoint, dataset, args.split, predict_split_on_ray, batch_size, args.allow_unknown_tokens
        )
    metrics = split_metrics(args.split, result.metrics)
    rejected = result.metrics.total.rejected
    for line in rejected_lines(args.split, result.errors()):
        print(line)
    print(f"{checkpoint.uri} on {args.dataset}: {len(result.rows)} rows, {rejected} of them rejected")
    print(metrics_table(metrics, checkpoint.task.headlines))
    if args.per_class:
        print(per_class_text(checkpoint.task.class_table(result.metrics.total)))
    if file:
        record = {"checkpoint": checkpoint.uri, "dataset": args.dataset, "digest": dataset.manifest.digest}
        record |= {"decoding": checkpoint.options, "metrics": metrics}
        file.write_bytes(to_json(record))
    return 0


if __name__ == "__main__":
    run_command(main)
