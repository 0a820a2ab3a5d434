"""Events of other ranks on their way to rank 0 without Ray: through the key-value store of torch.distributed.

The store lives in torchrun's own process, or in rank 0: to set a key in it waits for no other rank and takes part in no
collective. Rank 0 looks now and then, and once more when all ranks are done or when it ends for another reason.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pickle
import time
from typing import Any

import torch.distributed as dist

PAUSE_S = 0.5  # between two looks: each asks the store once
LAST_WAIT_S = 30.0  # for ranks that have not said that they are done, at the end of a run
CRASH_WAIT_S = 2.0  # the same where rank 0 fails: another may have failed first, and tells why


class RankEvents:
    """One rank's end. `store` is shared by all ranks, and used for nothing else here than keys below a prefix of its own."""

    def __init__(self, store: dist.Store, rank: int, world_size: int) -> None:
        self._store = dist.PrefixStore("inkray-events", store)
        self._rank, self._world_size = rank, world_size
        self._sent = 0
        self._taken = [0] * world_size
        self._seen, self._looked = 0, 0.0

    def emit(self, event: Any) -> None:
        """Leave an event for rank 0. Where the store is gone, so is the run: then it is lost."""
        with contextlib.suppress(RuntimeError):  # what torch raises for a store that has been closed is one
            self._store.set(f"{self._rank}/{self._sent}", base64.b64encode(pickle.dumps(event)).decode())
            self._sent += 1
            self._store.add("sent", 1)

    def take(self, at_once: bool = False) -> list[Any]:
        """On rank 0: the events that have come since the last call, in the order of each rank; asks now and then only."""
        if not at_once and time.monotonic() - self._looked < PAUSE_S:
            return []
        self._looked = time.monotonic()
        events = []
        with contextlib.suppress(RuntimeError):
            sent = self._store.add("sent", 0)
            if sent == self._seen:
                return []
            for rank in range(1, self._world_size):
                while self._store.check([f"{rank}/{self._taken[rank]}"]):
                    key = f"{rank}/{self._taken[rank]}"
                    events.append(pickle.loads(base64.b64decode(self._store.get(key))))
                    self._store.delete_key(key)
                    self._taken[rank] += 1
                    self._seen += 1
        return events

    def done(self) -> None:
        """Say that this rank emits nothing more."""
        with contextlib.suppress(RuntimeError):
            self._store.set(f"done/{self._rank}", "")

    def rest(self, wait_s: float) -> list[Any]:
        """On rank 0: all events that are still to come, of ranks that are done within `wait_s`."""
        keys, deadline = [f"done/{rank}" for rank in range(1, self._world_size)], time.monotonic() + wait_s
        with contextlib.suppress(RuntimeError):
            while not self._store.check(keys) and time.monotonic() < deadline:  # a rank that was killed is never done
                time.sleep(0.02)
        return self.take(at_once=True)


def join_rank_events(rank: int, world_size: int) -> RankEvents | None:
    """This process's end, None where it is alone. It has a connection of its own to the store that torchrun offers."""
    if world_size == 1:
        return None
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, wait_for_workers=False)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun may start all ranks again, beside the same store
    return RankEvents(dist.PrefixStore(f"attempt-{attempt}", store), rank, world_size)
