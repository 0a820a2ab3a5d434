"""The section `scaling`: how many workers train, and what each of them gets."""

from __future__ import annotations

from dataclasses import dataclass

from trainers.config.rules import broken, minimums


@dataclass
class ScalingConfig:
    """How many workers train, and what each of them gets."""

    num_train_workers: int = 2  # processes that train, each on its part of the global batch
    min_train_workers: int = 0  # above 0: elastic, with any number from this to num_train_workers that there is room for
    resize_interval_s: float = 60.0  # elastic: how often it is checked whether there is room for more workers
    use_gpu: bool | None = None  # null: if the cluster has enough GPUs
    cpus_per_worker: float | None = None  # null: one, or less on a small machine
    wait_for_nodes_s: float = 0.0  # how long an autoscaling cluster may take to bring the machines

    def validate(self) -> list[str]:
        """What is wrong with the values, by key."""
        workers, fewest, cpus = self.num_train_workers, self.min_train_workers, self.cpus_per_worker
        return broken(
            *minimums("scaling", self, num_train_workers=1, wait_for_nodes_s=0),
            (0 <= fewest <= workers, f"scaling.min_train_workers={fewest}: from 0 to scaling.num_train_workers={workers}"),
            (cpus is None or cpus > 0, f"scaling.cpus_per_worker={cpus}: above 0, or null"),
            (self.resize_interval_s > 0, f"scaling.resize_interval_s={self.resize_interval_s:g}: above 0"),
        )
