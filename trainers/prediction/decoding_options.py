"""The `decoding.key=value` arguments of the commands that read images with a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from cluster.errors import UserError
from models import Decoding
from trainers.checkpoint.format import build_recognizer, find_checkpoint, read_description
from trainers.config.load import merge_overrides
from trainers.tasks.sequence import SequenceTask

MAX_BATCH_SIZE = 65_536


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Positional `key=value` arguments, after all others."""
    parser.add_argument(
        "decoding",
        nargs="*",
        default=[],
        metavar="decoding.key=value",
        help="another way to decode, as in decoding.method=beam",
    )


def decoding_of(checkpoint: str, overrides: Sequence[str]) -> Decoding:
    """How the checkpoint, or the best of the run, at a URI is configured to decode, with `overrides`.

    Raises:
        UserError: no checkpoint there, a key outside `decoding`, a bad value, or a head that the checkpoint does not have.
    """
    for override in overrides:
        if not override.startswith("decoding."):
            raise UserError(f"'{override}': only decoding.* can be changed here, as in decoding.method=beam.")
    config, tokenizer, data = read_description(find_checkpoint(checkpoint))
    if not overrides:
        return config.decoding
    config = merge_overrides(config, overrides, "the command line")
    with torch.device("meta"):  # a way of decoding that the network has no head for is known before a worker starts
        build_recognizer(config, SequenceTask(tokenizer), data)
    return config.decoding


def batch_size_of(value: int) -> int:
    """The `--batch-size` of a command.

    Raises:
        UserError: it is less than 1, or more than any memory holds.
    """
    if not 1 <= value <= MAX_BATCH_SIZE:
        raise UserError(f"--batch-size is {value}: it is the number of images read at once, from 1 to {MAX_BATCH_SIZE:,}.")
    return value
