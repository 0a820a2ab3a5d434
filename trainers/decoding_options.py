"""The `decoding.key=value` arguments of the commands that read images with a checkpoint."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from cluster.errors import UserError
from data_pipeline.tokenizer import Tokenizer
from models import Decoding
from trainers.checkpoint import CONFIG, DATA, VOCAB, DataInfo, build_recognizer, find_checkpoint, read_config
from trainers.config import merge_overrides
from trainers.task import SequenceTask


def add_decoding_options(parser: argparse.ArgumentParser) -> None:
    """Positional `key=value` arguments, after all others."""
    parser.add_argument(
        "decoding", nargs="*", metavar="decoding.key=value", help="another way to decode, as in decoding.method=beam"
    )


def decoding_of(checkpoint: str, overrides: Sequence[str]) -> Decoding:
    """How the checkpoint, or the best of the run, at a URI is configured to decode, with `overrides`.

    Raises:
        UserError: no checkpoint there, a key outside `decoding`, or a bad value.
    """
    for override in overrides:
        if not override.startswith("decoding."):
            raise UserError(f"'{override}': only decoding.* can be changed here, as in decoding.method=beam.")
    storage = find_checkpoint(checkpoint)
    with tempfile.TemporaryDirectory(prefix="inkray-") as scratch:
        file = Path(scratch) / CONFIG
        file.write_bytes(storage.child(CONFIG).read_bytes())
        config = merge_overrides(read_config(file), overrides, "the command line")
    tokenizer = Tokenizer.from_json(storage.child(VOCAB).read_bytes())
    with torch.device("meta"):  # a way of decoding that the network has no head for is known before a worker starts
        build_recognizer(config, SequenceTask(tokenizer), DataInfo.from_json(storage.child(DATA).read_bytes()))
    return config.decoding
