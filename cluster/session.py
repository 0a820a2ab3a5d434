"""The Ray session of a command: a private one on this machine, or the cluster that RAY_ADDRESS names."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from cluster.address import no_cluster, require_cluster
from cluster.environment import DEFAULTS, set_environment_defaults
from cluster.errors import UserError
from cluster.ray_internals import is_submitted_job, loopback
from cluster.signals import let_sigterm_interrupt

logger = logging.getLogger(__name__)

OBJECT_STORE_BYTES = 2 * 2**30  # of a private session; a cluster's nodes bring their own
LOCAL = "local"
ROOT = Path(__file__).resolve().parents[1]
# Of the code's folder, what no worker imports. "/": there and not below, for `configs/data` is another thing than `data`.
# ".?*": `.git`, `.venv` and caches; ".*" would match the folder itself.
NOT_SHIPPED = [".?*", "/runs", "/data", "/wandb", "/tests", "/benchmarks", "/docs", "__pycache__", "*.egg-info"]
# Where a store is: the nodes cannot know. Who may use it they know themselves, keys are never sent.
FORWARDED = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION")


def configured_address() -> str:
    """The cluster to join (RAY_ADDRESS), or "local". Never one that merely happens to run on this machine."""
    return os.environ.get("RAY_ADDRESS") or LOCAL


def require_session() -> None:
    """Check that `ray_session` has a cluster to join, if it is to join one: before anything is made for what runs in it.

    Raises:
        UserError: no cluster answers at RAY_ADDRESS.
    """
    if configured_address() != LOCAL and not ray.is_initialized():
        require_cluster(configured_address())


@contextlib.contextmanager
def ray_session(min_cpus: int = 1) -> Iterator[None]:
    """Connect to Ray inside a `with`; a session that is open already is used and left open.

    A private session offers at least `min_cpus` CPUs: they are slots for scheduling, a small machine shares its cores. It
    listens on loopback, and to those who hold its token: who may speak with Ray may run code as this user. A cluster that
    is joined from outside a submitted job gets this code, and the address of the S3 store, for its workers.

    Raises:
        UserError: Ray does not start here, or RAY_ADDRESS names a cluster that does not answer.
    """
    if ray.is_initialized():
        yield
        return
    set_environment_defaults()
    address = configured_address()
    if address == LOCAL:
        _make_token()
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray's core logs to the terminal
        # Reading tasks of the next epoch or evaluation find their processes: starting new ones took up to 10 s each time.
        os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
        try:
            with _silent_stderr(), loopback():
                ray.init(
                    address=LOCAL,
                    num_cpus=max(os.cpu_count() or 1, min_cpus),
                    object_store_memory=OBJECT_STORE_BYTES,
                    _node_ip_address="127.0.0.1",
                    include_dashboard=True,  # without it Ray Train warns every second
                    dashboard_host="127.0.0.1",
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except SystemExit:  # how Ray answers SIGTERM meanwhile
            raise KeyboardInterrupt from None
        except Exception as error:  # Ray's own kind when its processes do not answer in time
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(
                f"Ray could not start on this machine ({reason}). Too busy or short of memory, it may do so at another "
                f"try; Ray's logs are below {os.environ.get('RAY_TMPDIR', '/tmp')}/ray/session_latest/logs."
            ) from None
    else:
        # The nodes have an environment of their own; a submitted job's is kept where it says more.
        os.environ.setdefault("RAY_OVERRIDE_JOB_RUNTIME_ENV", "1")
        require_cluster(address)
        try:
            ray.init(address=address, runtime_env=_cluster_environment(), log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, TimeoutError, ValueError, RuntimeError) as error:
            raise no_cluster(address, str(error)) from None
    try:
        let_sigterm_interrupt()  # Ray has a handler of its own while it runs
        quiet_ray()
        yield
    finally:
        ray.shutdown()
        let_sigterm_interrupt()


def _make_token() -> None:
    """Have the private session ask for a token that only this process and its children know, in their environment.

    Without one Ray would write one to ~/.ray/auth_token, for all sessions and for ever. The mode is left to Ray, whose
    default it is for a session that it starts: set from here, this process would keep the mode of Ray's import.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _cluster_environment() -> dict[str, Any]:
    """The runtime environment of workers in a joined cluster: this code and its settings, unless a submitted job has them."""
    names = list(DEFAULTS)
    environment: dict[str, Any] = {}
    if not is_submitted_job():
        names += [name for name in FORWARDED if os.environ.get(name)]
        environment = {"working_dir": str(ROOT), "excludes": NOT_SHIPPED}
    return environment | {"env_vars": {name: os.environ[name] for name in names}}


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
