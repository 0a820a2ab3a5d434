"""Which samples of a collection are in which split, and the chunks of work that make them."""

from __future__ import annotations

from dataclasses import dataclass

from data_pipeline.preparation.build import Chunk

SAMPLES_PER_SHARD = 512
_FIRST_INDEX = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}
MAX_COUNT = 999_990_000  # samples of a split: a little later the numbers of the next one begin


@dataclass(frozen=True)
class Part:
    """The samples of a split: `count` of them, from number `first` of the collection on."""

    first: int
    count: int


def parts_of(counts: dict[str, int]) -> dict[str, Part]:
    """The parts of the splits train, val and test, given the samples of each."""
    return {split: Part(_FIRST_INDEX[split], count) for split, count in counts.items()}


def fold_parts(count: int, folds: int, test_count: int, together: int = 1) -> dict[str, Part]:
    """The parts of `fold-0` ... `fold-{folds-1}`, among which `count` samples are divided, and of `test`.

    Runs of `together` samples, as of one person, are never divided. There must be at least one run for each fold.
    """
    runs = -(-count // together)
    cuts = [min(count, runs * fold // folds * together) for fold in range(folds + 1)]
    parts = {f"fold-{fold}": Part(cuts[fold], cuts[fold + 1] - cuts[fold]) for fold in range(folds)}
    return parts | parts_of({"test": test_count})


def chunks_of(parts: dict[str, Part]) -> list[Chunk]:
    """The chunks that make the parts; `chunk.work` is the number of its first sample within the split."""
    return [
        Chunk(split, number, min(SAMPLES_PER_SHARD, part.count - first), first)
        for split, part in parts.items()
        for number, first in enumerate(range(0, part.count, SAMPLES_PER_SHARD))
    ]
