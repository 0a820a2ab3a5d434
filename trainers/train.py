"""`python -m trainers.train [CONFIG] [key=value ...]`: train a recognizer, evaluate it, report.

    python -m trainers.train configs/train/formulas.yaml optim.lr=3e-4
    python -m trainers.train --resume runs/formulas-20261120-181500-1a2b

The way down: `run.run_training` starts the workers and listens, `worker.Worker` is what each of them does, `step.TrainStep` is
one optimizer step, `data_pipeline.stream` brings the batches, `models` holds the networks. `trainers.solo` does without Ray.
"""

from __future__ import annotations

import argparse

from cluster.errors import INTERRUPTED, UserError, run_command
from cluster.session import ray_session
from trainers.check_run import check_run, new_run
from trainers.config import load_config
from trainers.figures_table import figures_table
from trainers.resume import change_config, open_run
from trainers.run import run_training


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.train", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="?", help="a YAML file of configs/train/; without one the defaults hold")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted keys of the configuration")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder, from its last checkpoint")
    args = parser.parse_intermixed_args()
    overrides = list(args.overrides)
    if args.config and "=" in args.config:
        overrides.insert(0, args.config)
        args.config = None
    if args.resume:
        if args.config:
            raise UserError("--resume takes its configuration from the run. Leave CONFIG out; key=value may change a value.")
        run, config = open_run(args.resume)
        config = change_config(run, config, overrides)
    else:
        config = load_config(args.config, overrides)
        check_run(config)
        run = new_run(config)
    print(f"Run {run.uri}", flush=True)
    with ray_session():
        result = run_training(config, run)
        if result.stopped:
            print(f"Stopped. Go on with: python -m trainers.train --resume {run.uri}")
            return INTERRUPTED
        from trainers.finish import REPORT, finish_run  # matplotlib: not before it is needed

        figures = finish_run(config, run, result)
    print(figures_table(figures))
    if config.report.enabled:
        print(f"Report {run.uri}/{REPORT}/index.html")
    print(f"Trained in {result.seconds / 60:.1f} minutes. Predict: python -m trainers.predict {run.uri} IMAGES OUT")
    return 0


if __name__ == "__main__":
    run_command(main)
