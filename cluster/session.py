"""The Ray session of a command: a private one on this machine, or the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

import ray

from cluster.environment import DEFAULTS, set_environment_defaults
from cluster.errors import UserError

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 2 * 2**30  # of a private session; a cluster's nodes bring their own
LOCAL = "local"


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
    set_environment_defaults()
    address = configured_address()
    if address == LOCAL:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # it listens on loopback only
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray's core talks of its own affairs on the terminal
        # Reading tasks of the next epoch or evaluation find their processes: to start them anew took up to 10 s each time.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
        with _silent_stderr():
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
        # The nodes have an environment of their own; a submitted job's is kept where it says more.
        os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
        environment = {"env_vars": {name: os.environ[name] for name in DEFAULTS}}
        try:
            ray.init(address=address, runtime_env=environment, log_to_driver=False, logging_level=logging.ERROR)
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


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Drop what the core writes to the terminal while it starts: the log level that it was given. Failures are raised."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def quiet_ray() -> None:
    """Keep Ray's own progress lines out of the log; its errors stay."""
    for name in ("ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # What fails in Ray Data is raised as well; its log repeats it with a traceback and an invitation to report a bug of Ray.
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    context = ray.data.DataContext.get_current()
    context.raise_original_map_exception = True  # else a user's mistake comes back as text inside an error of Ray's
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.verbose_progress = False
