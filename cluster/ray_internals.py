"""Every private API of Ray that Inkray uses; read in Ray 2.60, to be read again when that version changes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ray._private import ray_constants, services
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR

if TYPE_CHECKING:
    from ray.data._internal.execution.execution_callback import ExecutionCallback


def draining_nodes() -> set[str]:
    """Ids of the nodes that the cluster is about to lose; empty where Ray cannot say. Ray Train asks in the same way."""
    import ray

    with contextlib.suppress(Exception):
        return set(ray._private.state.state.get_draining_nodes())
    return set()


def address_on_this_machine() -> str:
    """`host:port` of the cluster that runs on this machine.

    Raises:
        ConnectionError: there is none.
    """
    return str(services.canonicalize_bootstrap_address("auto"))


def is_submitted_job() -> bool:
    """Whether this process was started by `ray job submit`, which has brought its code and settings to the cluster."""
    return RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ


@contextlib.contextmanager
def loopback() -> Iterator[None]:
    """Let Ray take 127.0.0.1 as the address of this node, to which all its servers then bind.

    On Linux it would replace that by the address of a network card, and bind to all. The variable that says so is read
    but once, when Ray is imported, hence the constant; the variable itself is for the processes that Ray starts now.
    """
    kept, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    variable, os.environ[name] = os.environ.get(name), "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = kept  # a cluster that is joined later is not on loopback
        del os.environ[name]
        if variable is not None:
            os.environ[name] = variable


def execution_callback() -> type[ExecutionCallback]:
    """Base class of callbacks of Ray Data's scheduling loop: `on_execution_step(executor)` is called after each turn."""
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    return ExecutionCallback
