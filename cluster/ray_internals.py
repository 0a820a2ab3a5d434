"""Every private API of Ray that Inkray uses, in one place; read in Ray 2.60, to be read again when that changes."""

from __future__ import annotations

import contextlib


def draining_nodes() -> set[str]:
    """Ids of the nodes that the cluster is about to lose; empty where Ray cannot say. Ray Train asks the same way."""
    import ray

    with contextlib.suppress(Exception):
        return set(ray._private.state.state.get_draining_nodes())
    return set()
