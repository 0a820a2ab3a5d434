"""Two ranks that train together: processes of this machine, connected by gloo."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from trainers.distributed.collectives import all_gather_objects

TIMEOUT_S = 180


@contextlib.contextmanager
def gloo_rank(rank: int, port: int) -> Iterator[None]:
    """Inside, this process is a rank of two. It leaves when both are done."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _run(function: Callable[[int], Any], rank: int, port: int, results: Any) -> None:
    try:
        with gloo_rank(rank, port):
            found = all_gather_objects(function(rank))
            if rank == 0:
                results.put(found)
    except Exception as error:
        results.put(f"rank {rank}: {type(error).__name__}: {error}")
        raise


def on_two_ranks(function: Callable[[int], Any]) -> tuple[Any, Any]:
    """What `function(rank)` returns on each of two ranks; a function of a module, its values pickle."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = mp.get_context("spawn")
    results = context.Queue()
    ranks = [context.Process(target=_run, args=(function, rank, port, results)) for rank in range(2)]
    for process in ranks:
        process.start()
    try:
        found = results.get(timeout=TIMEOUT_S)
    finally:
        for process in ranks:
            process.join(30)
            process.kill()
    assert not isinstance(found, str), found
    first, second = found
    return first, second
