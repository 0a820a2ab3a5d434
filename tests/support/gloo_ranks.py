"""Two ranks that train together: processes of this machine, connected by gloo, that serve all tests of a session."""

from __future__ import annotations

import contextlib
import multiprocessing
import socket
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

TIMEOUT_S = 180


@contextlib.contextmanager
def gloo_rank(rank: int, port: int) -> Iterator[None]:
    """Inside, this process is a rank of two. It leaves when both are done."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def _serve(rank: int, port: int, functions: Any, results: Any) -> None:
    """Call one function after the other; what it returns on both ranks goes into `results`, a string is an error."""
    from trainers.distributed.collectives import all_gather_objects

    with gloo_rank(rank, port):
        while (function := functions.get()) is not None:
            try:
                found = all_gather_objects(function(rank))
            except Exception:
                results.put(f"rank {rank}: {traceback.format_exc()}")
                return
            if rank == 0:
                results.put(found)


class TwoRanks:
    """Two processes that call functions of modules, started by the first call: to import torch takes seconds."""

    def __init__(self) -> None:
        self._processes: list[Any] = []

    def __call__(self, function: Callable[[int], Any]) -> tuple[Any, Any]:
        """What `function(rank)` returns on each of the two; the values pickle."""
        if not self._processes:
            self._start()
        for functions in self._functions:
            functions.put(function)
        found = None
        try:
            found = self._results.get(timeout=TIMEOUT_S)
        finally:
            if not isinstance(found, list):  # an error, or no answer: the other rank may wait for ever
                self.stop(at_once=True)
        assert isinstance(found, list), found
        first, second = found
        return first, second

    def _start(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        context = multiprocessing.get_context("spawn")
        self._results: Any = context.Queue()
        self._functions: list[Any] = [context.Queue() for _ in range(2)]
        self._processes = [
            context.Process(target=_serve, args=(rank, port, self._functions[rank], self._results), daemon=True)
            for rank in range(2)
        ]
        for process in self._processes:
            process.start()

    def stop(self, at_once: bool = False) -> None:
        """End both processes; the next call starts new ones."""
        for functions in self._functions if self._processes and not at_once else []:
            functions.put(None)
        for process in self._processes:
            process.join(0 if at_once else 30)
            process.kill()
        self._processes = []


@pytest.fixture(scope="session")
def two_ranks() -> Iterator[TwoRanks]:
    """Two connected ranks; call it with a function of a module."""
    ranks = TwoRanks()
    yield ranks
    ranks.stop()
