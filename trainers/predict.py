"""`python -m trainers.predict CHECKPOINT IMAGES OUT`: read images in an actor pool, one row per input, exactly once.

IMAGES is a folder, a dataset, an image, or a list of images (a path a line, or the first column of a table). Files are images
by what is in them: whatever lies in a folder is a row, a row with an error, or counted and named as no image (with all names in
OUT's `left_out.json`). Each page of a TIFF is a row, the second with the id `scan.tif#page=2`; of an animation the first frame
is read, which the column warning says. A byte of a name that is not UTF-8 is written `\\xNN` in the id.

OUT becomes a folder of `predictions-00000.parquet` ... with columns id, prediction, error, warning. Each part appears whole or
not at all. The same command started again predicts what is missing, the files that have changed since, and those that had an
error. Its `job.json` says what was predicted (checkpoint, images, decoding; by content); another job is refused there, and so
is a second one at the same time.

`image.invert=auto|never|always` inverts light ink on dark paper (default: auto, or as the dataset was prepared;
never for images of a dataset). `image.scale=none|ink|fit`
makes the writing as large as that of the training data (ink), or images as large as the network takes them (fit).

Exit status: 0 when all inputs have their rows, those with an error included; 2 for a mistake of yours, said in one line; 130
when interrupted (Ctrl-C); anything else is a fault of Inkray.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import NamedTuple

from cluster.errors import run_command
from cluster.progress import progress
from cluster.session import ray_session
from data_pipeline.preparation.ink import inverted_line
from data_pipeline.storage.base import Storage, open_storage
from data_pipeline.storage.claim import claim
from models import Decoding
from trainers.checkpoint.format import find_checkpoint
from trainers.prediction.decoding_options import add_decoding_options, batch_size_of, decoding_of
from trainers.prediction.image_options import PREFIX, image_policy_of
from trainers.prediction.inputs import Inputs, open_inputs
from trainers.prediction.job import JOB, Job
from trainers.prediction.output import require_writable
from trainers.prediction.parts import Parts, part_name
from trainers.prediction.pool import predict_with_pool

ROWS_PER_PART = 1024
LEFT_OUT = "left_out.json"


class Predicted(NamedTuple):
    """What a job's parts hold."""

    rows: int
    errors: int
    warnings: int


def predict(
    checkpoint: str,
    inputs: Inputs,
    out: Storage,
    batch_size: int,
    decoding: Decoding | None = None,
    rows_per_part: int = ROWS_PER_PART,
    image: Sequence[str] = (),
) -> Predicted:
    """Predict all `inputs` into parts below `out`, but for those rows that are there, without an error and of the same content.

    The checkpoint decodes as it is configured unless `decoding` says otherwise. `image` are `image.key=value` overrides of how
    images are prepared; how many were inverted is printed.

    Raises:
        UserError: `out` holds predictions of other images, of another checkpoint, or decoded in another way; or another job
            writes into it.
    """
    found = find_checkpoint(checkpoint)
    decoding = decoding or decoding_of(found.uri, [])
    policy = image_policy_of(found.uri, image, inputs.prepared)
    with claim(out, "prediction") as own:
        if own.taken_over:
            print(own.taken_over, flush=True)
        job = Job.of(found, policy, decoding, inputs.identity, rows_per_part)
        job.enter(out)
        _write_left_out(out, inputs)
        ids = inputs.ids
        parts = Parts(out, job.digest, ids, inputs.stamps, rows_per_part)
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
                digest, images = job.content["checkpoint"]["digest"], inputs.read(wanted)
                pool = predict_with_pool(images, found.uri, batch_size, decoding, image=policy, digest=digest)
                for row in pool.iter_rows():
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


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="folder or URI of a checkpoint, or of a run (its best)")
    parser.add_argument("images", help="folder, dataset, image or list of images; any URI")
    parser.add_argument("out", help="folder or URI for the predictions")
    parser.add_argument("--split", default="", help="of a dataset (default test)")
    parser.add_argument("--batch-size", type=int, default=64)
    add_decoding_options(parser)
    args = parser.parse_intermixed_args()
    batch_size = batch_size_of(args.batch_size)
    image = [value for value in args.decoding if value.startswith(PREFIX)]
    image_policy_of(args.checkpoint, image, prepared=False)  # what is wrong with them is known before a session starts
    decoding = decoding_of(args.checkpoint, [value for value in args.decoding if value not in image])
    inputs = open_inputs(args.images, args.split)
    out = open_storage(args.out)
    require_writable(out.child(JOB))
    for note in inputs.notes:
        print(note, flush=True)
    with ray_session(min_cpus=2):
        done = predict(args.checkpoint, inputs, out, batch_size, decoding, image=image)
    print(f"{args.out}: {done.rows:,} predictions, {done.errors:,} of them images that could not be read (column error)")
    if done.warnings:
        print(f"{done.warnings:,} were read in part (column warning)")
    return 0


__all__ = ["JOB", "LEFT_OUT", "ROWS_PER_PART", "Predicted", "part_name", "predict"]


if __name__ == "__main__":
    run_command(main, "Interrupted. Start the same command again to make what is missing.")
