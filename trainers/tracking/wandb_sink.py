"""Weights & Biases. This file is not called wandb.py, which is the library's name."""

from __future__ import annotations

import glob
import math
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cluster.redaction import redacted
from data_pipeline.storage.base import Storage
from trainers.tracking.mirror import Mirror
from trainers.tracking.sink import Sink

CONNECT_TIMEOUT_S = 30  # of a run that is online


class Wandb(Sink):
    """Metrics, images, the configuration and the dataset, in `wandb/` of the run's folder.

    Offline unless logged in (`wandb login`, or WANDB_API_KEY), or as WANDB_MODE says: then nothing waits for a network, and
    at the end `notify` is called with the command that uploads the run. The run's id is its name, so a resumed run
    continues where it was. A run on other storage has its files copied at the end.
    """

    def __init__(
        self,
        run: Storage,
        project: str,
        config: Mapping[str, Any],
        dataset: Mapping[str, Any],
        notify: Callable[[str], None] = print,
    ) -> None:
        import wandb

        os.environ.setdefault("WANDB_SILENT", "true")
        self._image, self._notify, self._name, self._mirror = wandb.Image, notify, run.name, Mirror(run)
        mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.login(prompt=False, verify=False) else "offline")
        self._offline = mode == "offline"
        self._run = wandb.init(
            project=project,
            name=run.name,
            id=run.name,
            resume="allow",
            dir=str(self._mirror.path),
            mode=mode,
            config=redacted({**config, "dataset_info": dict(dataset)}),
            settings=wandb.Settings(
                silent=True,
                quiet=True,
                console="off",
                save_code=False,
                disable_code=True,
                disable_git=True,
                init_timeout=CONNECT_TIMEOUT_S,
                x_disable_stats=True,  # of this process, which does not train; the rows hold those of a worker
            ),
        )
        # Against our own step, not wandb's, which only rises: a restart repeats steps.
        self._run.define_metric("*", step_metric="step")

    def metrics(self, row: dict[str, float]) -> None:
        """Log a row."""
        self._run.log({key: value for key, value in row.items() if math.isfinite(value)})

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Log images."""
        self._run.log({"step": step} | {name: self._image(image) for name, image in images.items()})

    def close(self) -> None:
        """Finish the run."""
        import wandb

        self._run.finish()
        wandb.teardown()  # its service writes the end of the file after `finish` has returned: it is waited for
        if self._offline and self._mirror.remote is not None:  # what is here ends with the process
            self._notify(
                f"wandb was offline. To upload the run, copy '{self._mirror.remote.uri}/wandb' to a disk, and beside it: "
                f"wandb sync wandb/offline-run-*-{self._name}"
            )
        elif self._offline:
            # All of its sessions: the upload passes over those that it has had.
            folders = sorted(Path(self._run.settings.sync_dir).parent.glob(f"offline-run-*-{glob.escape(self._name)}"))
            self._notify(f"wandb was offline. To upload the run: {shlex.join(['wandb', 'sync', *map(str, folders)])}")
        self._mirror.publish()
