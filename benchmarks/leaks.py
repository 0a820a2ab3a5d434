"""`python -m benchmarks.leaks [--json FILE]`: how well near-duplicates are found, and what folds and the leak check take.

Formulas, boards of letters and faces are drawn, all different. Copies of a part of them are to be found: as JPEG of quality 90,
half and twice as large, lighter and darker by 10 gray levels. The originals are to be found nowhere.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import machine
from cluster.arguments import whole_number
from cluster.errors import run_command
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import Manifest, Split, open_dataset
from data_pipeline.dataset.perceptual_hash import duplicates, hash_of, near_pairs, same_image, thumbnail
from data_pipeline.dataset.shards import Row, write_shard
from data_pipeline.exploration.leak_check import find_leaks
from data_pipeline.preparation.images import encode_png, fit
from data_pipeline.preparation.splitting import split_folds
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.faces.build import FacesConfig, make_face
from data_pipeline.synthesis.formulas.grammar import FormulaConfig
from data_pipeline.synthesis.formulas.sample import make_sample
from data_pipeline.synthesis.letters.build import make_board
from data_pipeline.synthesis.letters.config import BoardConfig
from data_pipeline.synthesis.letters.hands import stroked_glyphs

EVERY = 4  # one of so many images is copied
ROWS, LABELS = 50_000, 26  # of the folds
Draw = Callable[[int], np.ndarray]


def drawers() -> dict[str, Draw]:
    """How image number n of each kind is drawn."""
    glyphs = stroked_glyphs(0, range(40))
    return {
        "formulas": lambda n: fit(make_sample(0, n, FormulaConfig()).image, ImagePolicy(64, 512)),
        "letters": lambda n: make_board(0, n, BoardConfig(), glyphs)[0],
        "letters without noise": lambda n: make_board(0, n, BoardConfig(noise=0), glyphs)[0],
        "faces": lambda n: make_face(0, n, FacesConfig())[0],
    }


def copies(image: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Copies of an image as they occur in collections."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])
    yield "JPEG 90", np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED))
    for name, scale, method in (("half", 0.5, cv2.INTER_AREA), ("double", 2.0, cv2.INTER_CUBIC)):
        yield name, np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=method))
    for change in (-10, 10):
        yield f"{change:+}", np.clip(image.astype(int) + change, 0, 255).astype(np.uint8)


def accuracy(draw: Draw, count: int) -> dict[str, Any]:
    """The share of copies that is found, by kind, and the pairs of different images that are taken for the same."""
    images = [draw(number) for number in range(count)]
    small = np.array([thumbnail(image) for image in images])
    hashes = np.array([hash_of(image) for image in small])
    found: dict[str, list[bool]] = {}
    for number in range(0, count, EVERY):
        for name, copy in copies(images[number]):
            two = np.stack([small[number], thumbnail(copy)])
            near = len(near_pairs(np.array([hash_of(image) for image in two]))) > 0
            found.setdefault(name, []).append(near and bool(same_image(two[:1], two[1:])[0]))
    recall = {name: float(np.mean(values)) for name, values in found.items()}
    return {"images": count, "recall": recall, "near": len(near_pairs(hashes)), "false_pairs": len(duplicates(hashes, small))}


def speed(draw: Draw, count: int) -> float:
    """Images/s of the leak check of a dataset on disk, decoding included."""
    rows = []
    for number in range(count):
        pixels = draw(number)
        height, width = pixels.shape[:2]
        rows.append(Row(f"{number}", encode_png(pixels), width, height, {"labels": []}))
    with tempfile.TemporaryDirectory() as folder:
        storage, columns = open_storage(folder), {"labels": "list<string>"}
        splits = {}
        for name, half in (("train", rows[::2]), ("val", rows[1::2])):
            splits[name] = Split([write_shard(storage, f"{name}/part-00000.parquet", half, columns)])
        image = ImagePolicy(1024, 1024, fixed_height=False)
        manifest = Manifest("boards", "multilabel", {"classes": ["a"]}, columns, image, splits, 0, {})
        storage.child("dataset.json").write_bytes(manifest.to_json())
        started = time.perf_counter()
        find_leaks(open_dataset(folder))
        return count / (time.perf_counter() - started)


def folds() -> dict[str, float]:
    """Seconds and the largest deviation of a label's share, in points, of 5 folds of boards, by rows and in groups of 10."""
    rng = np.random.default_rng(0)
    has = np.zeros((ROWS, LABELS), bool)
    for row in has:
        row[rng.permutation(LABELS)[: rng.integers(10, 15)]] = True
    labels = [[f"{index}" for index in np.flatnonzero(row)] for row in has]
    metrics = {}
    for name, groups in (("rows", None), ("groups", [f"{group}" for group in rng.integers(0, ROWS // 10, ROWS)])):
        started = time.perf_counter()
        parts = np.array(split_folds(labels, 5, groups, True, 0))
        metrics[f"{name}_s"] = time.perf_counter() - started
        shares = [np.abs(has[parts == part].mean(0) - has.mean(0)).max() for part in np.unique(parts)]
        metrics[f"{name}_points"] = 100 * float(max(shares))
    return metrics


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.leaks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=whole_number(8), default=2_000, help="images of each kind (default %(default)s)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    print(machine())
    metrics: dict[str, Any] = {"machine": machine()}
    for name, draw in drawers().items():
        metrics[name] = result = accuracy(draw, args.count)
        recall = ", ".join(f"{kind} {100 * share:.1f} %" for kind, share in result["recall"].items())
        print(f"{name}: found {recall}; of {args.count:,} different images {result['false_pairs']} pairs taken for the same")
    metrics["images_per_s"] = speed(drawers()["letters"], args.count)
    hashes = np.random.default_rng(0).integers(1, 2**63, ROWS, dtype=np.uint64)
    started = time.perf_counter()
    near_pairs(hashes)
    metrics["search_s"] = time.perf_counter() - started
    metrics["folds"] = found = folds()
    print(
        f"leak check: {metrics['images_per_s']:,.0f} images/s (letters, PNG); search among 50,000: {metrics['search_s']:.2f} s"
    )
    print(f"5 folds of {ROWS:,} x {LABELS}: " + ", ".join(f"{key} {value:.3g}" for key, value in found.items()))
    if args.json:
        args.json.write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    run_command(main)
