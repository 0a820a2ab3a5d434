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
never for images of a dataset, and for networks of images of one size). `image.scale=none|ink|fit`
makes the writing as large as that of the training data (ink), or images as large as the network takes them (fit).

Exit status: 0 when all inputs have their rows, those with an error included; 2 for a mistake of yours, said in one line; 130
when interrupted (Ctrl-C or SIGTERM); anything else is a fault of Inkray.
"""

from __future__ import annotations

import argparse

from cluster.errors import run_command
from cluster.session import ray_session
from data_pipeline.storage.base import open_storage
from trainers.checkpoint.load import open_checkpoint
from trainers.cli import add_option_arguments, batch_size_of
from trainers.prediction.csv_table import require_table, write_csv
from trainers.prediction.evaluation import BATCH_SIZE
from trainers.prediction.image_options import PREFIX, image_policy_of
from trainers.prediction.inputs import open_inputs
from trainers.prediction.job import JOB
from trainers.prediction.new_file import new_file
from trainers.prediction.output import require_writable
from trainers.prediction.run_job import predict


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m trainers.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="folder or URI of a checkpoint, or of a run (its best)")
    parser.add_argument("images", help="folder, dataset, image or list of images; any URI")
    parser.add_argument("out", help="folder or URI for the predictions")
    parser.add_argument("--split", default="", help="of a dataset (default test)")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, help="images read at once (default %(default)s)")
    parser.add_argument("--csv", metavar="FILE", help="write all predictions into this CSV file, too: index, then the labels")
    parser.add_argument(
        "--csv-values", choices=["labels", "probabilities"], default="labels", help="what the CSV holds (default %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a CSV file that is there")
    add_option_arguments(
        parser, "image.key=value, decoding.key=value, labeling.key=value", "another way to prepare images, or to predict"
    )
    args = parser.parse_intermixed_args()
    batch_size = batch_size_of(args.batch_size)
    image = [value for value in args.options if value.startswith(PREFIX)]
    checkpoint = open_checkpoint(args.checkpoint).with_options([value for value in args.options if value not in image])
    image_policy_of(checkpoint, image, prepared=False)  # what is wrong with them is known before a session starts
    inputs = open_inputs(args.images, args.split)
    out = open_storage(args.out)
    require_writable(out.child(JOB))
    probabilities = args.csv_values == "probabilities"
    require_table(checkpoint.task, probabilities)
    table = new_file(args.csv, args.overwrite) if args.csv else None
    for note in inputs.notes:
        print(note, flush=True)
    with ray_session(min_cpus=2):
        done = predict(checkpoint, inputs, out, batch_size, image=image)
    print(f"{args.out}: {done.rows:,} predictions, {done.errors:,} of them images that could not be read (column error)")
    if done.warnings:
        print(f"{done.warnings:,} were read in part (column warning)")
    if table:
        print(f"{args.csv}: {write_csv(out, checkpoint.task, table, probabilities)}")
    return 0


if __name__ == "__main__":
    run_command(main, "Interrupted. Start the same command again to make what is missing.")
