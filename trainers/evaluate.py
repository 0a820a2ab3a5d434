"""`python -m trainers.evaluate CHECKPOINT DATASET`: a checkpoint (or the best of a run) judged on a split, every row once."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from cluster.errors import UserError, run_command
from cluster.redaction import redacted
from cluster.session import ray_session
from data_pipeline.manifest import open_dataset
from trainers.checkpoint import load_checkpoint
from trainers.decoding_options import add_decoding_options, decoding_of
from trainers.figures_table import figures_table, split_figures
from trainers.judge import judge_checkpoint


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m trainers.evaluate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", help="folder or URI of a checkpoint, or of a run")
    parser.add_argument("dataset", help="folder or URI of a dataset")
    parser.add_argument("--split", default="test", help="default %(default)s")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument(
        "--allow-unknown-tokens", action="store_true", help="count tokens that the checkpoint was never taught as errors"
    )
    add_decoding_options(parser)
    args = parser.parse_intermixed_args()
    if args.batch_size < 1:
        raise UserError("--batch-size is at least 1.")
    dataset = open_dataset(args.dataset)
    dataset.manifest.split(args.split)
    decoding = decoding_of(args.checkpoint, args.decoding)
    loaded = load_checkpoint(args.checkpoint)
    with ray_session(min_cpus=2):
        judged = judge_checkpoint(loaded, dataset, args.split, args.batch_size, args.allow_unknown_tokens, decoding)
    figures = split_figures(args.split, judged.sums)
    print(f"{loaded.uri} on {args.dataset}: {len(judged.rows)} rows, {judged.sums.total.rejected} of them rejected")
    print(figures_table(figures))
    if args.json:
        record = {"checkpoint": loaded.uri, "dataset": args.dataset, "digest": dataset.manifest.digest}
        record |= {"decoding": asdict(decoding), "figures": figures}
        args.json.write_text(json.dumps(redacted(record), indent=1))
    return 0


if __name__ == "__main__":
    run_command(main)
