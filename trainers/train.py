"""`python -m trainers.train [CONFIG] [key=value ...]`: train, evaluate the best checkpoint, report.

    python -m trainers.train configs/train/formulas.yaml optim.lr=3e-4
    python -m trainers.train --resume runs/formulas-20261120-181500-1a2b
    python -m trainers.train --local configs/train/crohme.yaml data.dataset=data/crohme        # without Ray, in this process
    torchrun --nproc_per_node=4 -m trainers.train configs/train/crohme.yaml                    # without Ray, a process a GPU

The way down: `run.begin` checks and claims the run, `run.launch_ray` or `run.launch_local` starts its workers, each of which is
an `engine.train_loop`; `engine.step` is one optimizer step, `data_pipeline.stream` brings the batches, a task of `tasks` knows
targets, loss and metrics, `models` holds the networks, `run.finalize` evaluates and reports. A run begun in one way can be
resumed in the other.
"""

from __future__ import annotations

from cluster.errors import INTERRUPTED, run_command
from trainers.cli import training_arguments
from trainers.run.begin import Launcher, begin_run, is_torchrun


def main(program: str = "trainers.train", local: bool = False) -> int:
    """Run the command line."""
    args = training_arguments(program, __doc__)
    launcher = _launcher(local or args.local or is_torchrun())
    with begin_run(args, launcher) as begun:
        result = launcher.launch(begun)
        if result is None:  # of another rank
            return 0
        if result.stopped:
            print(f"Stopped. Resume with: {launcher.command} --resume {begun.run.uri}")
            return INTERRUPTED
        from trainers.run.finalize import finalize  # matplotlib: not before it is needed

        print(finalize(begun.spec, begun.run, result, launcher.predict_split))
    print(f"Trained in {result.seconds / 60:.1f} minutes. Predict: python -m trainers.predict {begun.run.uri} IMAGES OUT")
    return 0


def _launcher(local: bool) -> Launcher:
    if local:  # without Ray, which need not be installed
        from trainers.run.launch_local import LocalLauncher

        return LocalLauncher()
    from trainers.run.launch_ray import RayLauncher

    return RayLauncher()


if __name__ == "__main__":
    run_command(main)
