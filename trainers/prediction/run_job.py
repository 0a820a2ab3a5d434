"""A prediction job: every input becomes its rows in atomic parts, exactly once; what is there already stays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from cluster.progress import progress
from data_pipeline.preparation.ink import inverted_line
from data_pipeline.storage.base import Storage
from data_pipeline.storage.claim import claim
from trainers.checkpoint.load import Checkpoint
from trainers.prediction.image_options import image_policy_of
from trainers.prediction.inputs import Inputs
from trainers.prediction.job import Job
from trainers.prediction.parts import Parts
from trainers.prediction.pool import predict_with_pool

ROWS_PER_PART = 1024
LEFT_OUT = "left_out.json"


class Predicted(NamedTuple):
    """Counts of the rows of a job."""

    rows: int
    errors: int
    warnings: int


def predict(
    checkpoint: Checkpoint,
    inputs: Inputs,
    out: Storage,
    batch_size: int,
    rows_per_part: int = ROWS_PER_PART,
    image: Sequence[str] = (),
) -> Predicted:
    """Predict all `inputs` into parts below `out`, but for those rows that are there, without an error and of the same content.

    `image` are `image.key=value` overrides of how images are prepared; how many were inverted is printed.

    Raises:
        UserError: `out` holds predictions of other images, of another checkpoint, or decoded in another way; or another job
            writes into it.
    """
    policy = image_policy_of(checkpoint, image, inputs.prepared)
    with claim(out, "prediction") as own:
        if own.taken_over:
            print(own.taken_over, flush=True)
        job = Job.of(checkpoint, policy, inputs.identity, rows_per_part)
        job.enter(out)
        _write_left_out(out, inputs)
        ids = inputs.ids
        parts = Parts(out, job.digest, checkpoint.task.prediction_schema, ids, inputs.stamps, rows_per_part)
        wanted = parts.look()
        if parts.changed or parts.retried:
            print(f"Again: {parts.changed:,} inputs that have changed, {parts.retried:,} that had an error", flush=True)
        inverted = read = 0
        with progress(len(ids), "images", "predict", len(ids) - len(wanted)) as bar:
            for name in wanted & inputs.problems.keys():
                parts.add({"id": name, "error": inputs.problems[name]})
                bar.update()
            wanted -= inputs.problems.keys()
            if wanted:
                for row in predict_with_pool(inputs.read(wanted), checkpoint, batch_size, image=policy).iter_rows():
                    own.check()
                    inverted, read = inverted + row["inverted"], read + (row["error"] == "")
                    bar.update(parts.add(row))
        if inverted:
            print(inverted_line(inverted, read, policy.invert))
        parts.require_complete()
    return Predicted(parts.rows, parts.errors, parts.warnings)


def _write_left_out(out: Storage, inputs: Inputs) -> None:
    file = out.child(LEFT_OUT)
    if inputs.left_out:
        file.write_bytes(json.dumps([one._asdict() for one in inputs.left_out], indent=0).encode())
    else:
        file.delete()
