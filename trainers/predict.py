"""`python -m trainers.predict CHECKPOINT IMAGES OUT`: read images in an actor pool, one row per input, exactly once.

IMAGES is a folder, a dataset, or a file that lists images (a path a line). OUT becomes a folder of
`predictions-00000.parquet` ... with columns id, prediction, error. Each part appears whole or not at all; the same command
started again makes the parts that are missing.

`image.invert=auto|never|always` inverts light ink on dark paper (default: auto, of a dataset never). `image.scale=none|ink|fit`
makes the writing as large as that of the training data (ink), or images as large as the network takes them (fit).
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import UserError, run_command
from cluster.progress import progress
from cluster.redaction import redact, redacted
from cluster.session import ray_session
from data_pipeline.ink import inverted_line
from data_pipeline.storage import Storage, open_storage
from models import Decoding
from trainers.checkpoint import find_checkpoint
from trainers.decoding_options import add_decoding_options, decoding_of
from trainers.image_options import PREFIX, image_policy_of
from trainers.inputs import Inputs, open_inputs
from trainers.pool import predict_with_pool

ROWS_PER_PART = 1024
JOB = "job.json"
SCHEMA = pa.schema([("id", pa.string()), ("prediction", pa.string()), ("error", pa.string())])


def part_name(number: int) -> str:
    """The file of a part."""
    return f"predictions-{number:05d}.parquet"


def predict(
    checkpoint: str,
    inputs: Inputs,
    out: Storage,
    batch_size: int,
    decoding: Decoding | None = None,
    rows_per_part: int = ROWS_PER_PART,
    image: Sequence[str] = (),
) -> int:
    """Predict all `inputs` into parts below `out`, those that are there already excepted. Returns the inputs with an error.

    The checkpoint decodes as it is configured unless `decoding` says otherwise. `image` are `image.key=value` overrides of how
    images are prepared; how many were inverted is printed.

    Raises:
        UserError: `out` holds predictions of other images, of another checkpoint, or decoded in another way.
    """
    uri = find_checkpoint(checkpoint).uri
    decoding = decoding or decoding_of(uri, [])
    policy = image_policy_of(uri, image, inputs.prepared)
    job = {"checkpoint": uri, "images": inputs.digest, "decoding": asdict(decoding), "rows_per_part": rows_per_part}
    job["image"] = {"invert": policy.invert, "scale": policy.scale}
    _claim(out, job)
    there = set(out.names())
    ids = list(inputs.ids)
    parts = {number: ids[first : first + rows_per_part] for number, first in enumerate(range(0, len(ids), rows_per_part))}
    part_of = {name: number for number, members in parts.items() if part_name(number) not in there for name in members}
    waiting: dict[int, list[dict[str, Any]]] = {}
    inverted = read = 0
    with progress(len(ids), "images", "predict", len(ids) - len(part_of)) as bar:
        if part_of:
            for row in predict_with_pool(inputs.read(set(part_of)), uri, batch_size, decoding, image=policy).iter_rows():
                number = part_of.pop(row["id"])
                inverted, read = inverted + row["inverted"], read + (row["error"] == "")
                rows = waiting.setdefault(number, [])
                rows.append(row)
                bar.update()
                if len(rows) == len(parts[number]):
                    _write_part(out.child(part_name(number)), parts[number], waiting.pop(number))
    if inverted:
        print(inverted_line(inverted, read, policy.invert))
    if part_of or waiting:
        raise RuntimeError(f"{len(part_of)} inputs were not predicted")
    return sum(
        row["error"] != ""
        for number in parts
        for row in pq.read_table(io.BytesIO(out.child(part_name(number)).read_bytes()), columns=["error"]).to_pylist()
    )


def _claim(out: Storage, job: dict[str, Any]) -> None:
    file = out.child(JOB)
    if file.exists():
        if json.loads(file.read_bytes()) != redacted(job):
            raise UserError(
                f"'{out.uri}' holds predictions of other images, of another checkpoint or decoded in another way "
                f"(see its {JOB}). Choose another place."
            )
        return
    file.write_bytes(redact(json.dumps(job, indent=1)).encode())


def _write_part(file: Storage, ids: list[str], rows: list[dict[str, Any]]) -> None:
    by_id = {row["id"]: row for row in rows}
    columns = {name: [by_id[key][name] for key in ids] for name in SCHEMA.names}
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=SCHEMA), buffer)
    file.write_bytes(buffer.getvalue())


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="folder or URI of a checkpoint, or of a run (its best)")
    parser.add_argument("images", help="folder, dataset or list of images; any URI")
    parser.add_argument("out", help="folder or URI for the predictions")
    parser.add_argument("--split", default="test", help="of a dataset (default %(default)s)")
    parser.add_argument("--batch-size", type=int, default=64)
    add_decoding_options(parser)
    args = parser.parse_intermixed_args()
    if args.batch_size < 1:
        raise UserError("--batch-size is at least 1.")
    image = [value for value in args.decoding if value.startswith(PREFIX)]
    image_policy_of(args.checkpoint, image, prepared=False)  # what is wrong with them is known before a session starts
    decoding = decoding_of(args.checkpoint, [value for value in args.decoding if value not in image])
    with ray_session(min_cpus=2):
        inputs = open_inputs(args.images, args.split)
        errors = predict(args.checkpoint, inputs, open_storage(args.out), args.batch_size, decoding, image=image)
    print(f"{args.out}: {len(inputs.ids):,} predictions, {errors} of them images that could not be read (column error)")
    return 0


if __name__ == "__main__":
    run_command(main, "Interrupted. Start the same command again to make what is missing.")
