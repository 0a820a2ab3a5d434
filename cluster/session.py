"""The Ray session of a command: a private one on this machine, or the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator

import ray

from cluster.errors import UserError

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 2 * 2**30  # of a private session; a cluster's nodes bring their own
LOCAL = "local"

# What every Ray process of a command inherits: quiet where there is nothing to tell, quick to notice where there is.
_ENVIRONMENT = {
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",  # Inkray shows its own
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a checkpoint counts only once the controller has polled it
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


def configured_address() -> str:
    """The cluster to join (RAY_ADDRESS), or "local". Never one that merely happens to run on this machine."""
    return os.environ.get("RAY_ADDRESS") or LOCAL


@contextlib.contextmanager
def ray_session(min_cpus: int = 1) -> Iterator[None]:
    """Connect to Ray for the time of a `with`; a session that is open already is used and left open.

    A private session offers at least `min_cpus` CPUs: they are slots for scheduling, a small machine shares its cores.

    Raises:
        UserError: RAY_ADDRESS names a cluster that does not answer.
    """
    if ray.is_initialized():
        yield
        return
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    address = configured_address()
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # it listens on loopback only
        ray.init(
            address=LOCAL,
            num_cpus=max(os.cpu_count() or 1, min_cpus),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=True,  # without it Ray Train warns every second
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    else:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
            raise UserError(
                f"No Ray cluster answers at RAY_ADDRESS={address} ({str(error).splitlines()[0]}). "
                "Start one (`ray up ray_cluster.yaml`), correct the address, or unset RAY_ADDRESS to work on this machine."
            ) from None
    try:
        quiet_ray()
        yield
    finally:
        ray.shutdown()


def quiet_ray() -> None:
    """Keep Ray's own progress lines out of the log; its errors stay."""
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.verbose_progress = False
