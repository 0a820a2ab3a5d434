"""What every process of a command finds in its environment, unless the user has said otherwise."""

from __future__ import annotations

import os

# Quiet where there is nothing to tell, quick to notice where there is.
DEFAULTS = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # Inkray shows its own
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "1",  # how soon a lost worker is noticed
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # the driver looks for machines that go; one process less to start each time
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # OpenMP's threads wait for each other spinning: two of them beside another busy process took 2.7 s a step, not 0.08 s.
    # A short spin is as fast on a quiet machine.
    "GOMP_SPINCOUNT": "10000",
    # oneDNN, which computes on CPUs, makes machine code for every shape it meets and keeps it for 1,024 of them. Formulas of
    # every width and length are more than that: with room for all, a network in bfloat16 trains a fifth faster.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "50000",
    # Clients of S3 send checksums as a trailer, which gateways other than Amazon's may refuse (Ceph answers 411). The
    # client reads these two when it is made, in every process that unpickles one.
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
}


def set_environment_defaults() -> None:
    """Set what is not set; processes that are started afterwards inherit it."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
