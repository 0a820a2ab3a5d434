"""`python -m trainers.train [CONFIG] [key=value ...]`: train a recognizer, evaluate it, report.

    python -m trainers.train configs/train/formulas.yaml optim.lr=3e-4
    python -m trainers.train --resume runs/formulas-20261120-181500-1a2b

The way down: `run.run_training` starts the workers and listens, `worker.Worker` is what each of them does, `step.TrainStep` is
one optimizer step, `data_pipeline.stream` brings the batches, `models` holds the networks. `trainers.solo` does without Ray.
"""

from __future__ import annotations

from cluster.errors import INTERRUPTED, run_command
from cluster.session import ray_session, require_session
from cluster.signals import say_when_interrupted
from data_pipeline.storage.claim import claim
from trainers.cli import training_arguments
from trainers.config.train import load_config
from trainers.report.metrics_table import metrics_table
from trainers.run.launch_ray import run_training
from trainers.run.preflight import check_run, new_run
from trainers.run.resume import change_config, open_run
from trainers.tasks.metrics.sequence import HEADLINES


def main() -> int:
    """The command line."""
    args = training_arguments("trainers.train", __doc__)
    if args.resume is not None:
        run, config = open_run(args.resume)
        config = change_config(config, args.overrides)
    else:
        config = load_config(args.config, args.overrides)
        check_run(config)
        require_session()
        run = new_run(config)
    say_when_interrupted(f"Interrupted. Resume with: python -m trainers.train --resume {run.uri}")
    print(f"Run {run.uri}", flush=True)
    with claim(run, "training run") as own, ray_session():
        result = run_training(config, run, own=own)
        if result.stopped:
            print(f"Stopped. Go on with: python -m trainers.train --resume {run.uri}")
            return INTERRUPTED
        from trainers.run.finalize import REPORT, finish_run  # matplotlib: not before it is needed

        figures = finish_run(config, run, result)
    print(metrics_table(figures, HEADLINES))
    if config.report.enabled:
        print(f"Report {run.uri}/{REPORT}/index.html")
    print(f"Trained in {result.seconds / 60:.1f} minutes. Predict: python -m trainers.predict {run.uri} IMAGES OUT")
    return 0


if __name__ == "__main__":
    run_command(main)
