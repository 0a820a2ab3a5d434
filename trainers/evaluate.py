"""`python -m trainers.evaluate CHECKPOINT DATASET`: a checkpoint (or the best of a run) judged on a split, every row once."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from cluster.errors import run_command
from cluster.redaction import redacted
from cluster.session import ray_session
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.storage.base import open_storage
from trainers.checkpoint.format import load_checkpoint
from trainers.prediction.decoding_options import add_decoding_options, batch_size_of, decoding_of
from trainers.prediction.evaluation import judge_checkpoint
from trainers.prediction.output import require_writable
from trainers.report.metrics_table import metrics_table, split_metrics
from trainers.tasks.metrics.sequence import HEADLINES


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m trainers.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="folder or URI of a checkpoint, or of a run")
    parser.add_argument("dataset", help="folder or URI of a dataset")
    parser.add_argument("--split", default="test", help="default %(default)s")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--json", metavar="FILE", help="write the figures to this file or URI, too")
    parser.add_argument(
        "--allow-unknown-tokens", action="store_true", help="count tokens that the checkpoint was never taught as errors"
    )
    add_decoding_options(parser)
    args = parser.parse_intermixed_args()
    batch_size = batch_size_of(args.batch_size)
    dataset = open_dataset(args.dataset)
    dataset.manifest.filled_split(args.split)
    decoding = decoding_of(args.checkpoint, args.decoding)
    loaded = load_checkpoint(args.checkpoint)
    file = open_storage(args.json) if args.json else None
    if file:
        require_writable(file)
    with ray_session(min_cpus=2):
        judged = judge_checkpoint(loaded, dataset, args.split, batch_size, args.allow_unknown_tokens, decoding)
    figures = split_metrics(args.split, judged.sums)
    print(f"{loaded.uri} on {args.dataset}: {len(judged.rows)} rows, {judged.sums.total.rejected} of them rejected")
    print(metrics_table(figures, HEADLINES))
    if file:
        record = {"checkpoint": loaded.uri, "dataset": args.dataset, "digest": dataset.manifest.digest}
        record |= {"decoding": asdict(decoding), "figures": figures}
        file.write_bytes(json.dumps(redacted(record), indent=1).encode())
    return 0


if __name__ == "__main__":
    run_command(main)
