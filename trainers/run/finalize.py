"""The end of a run: its best checkpoint evaluated on the test split, and a report folder that shows it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import Any

import numpy as np

from cluster.redaction import redact
from cluster.scratch import scratch_folder
from data_pipeline.dataset.manifest import Dataset, open_dataset
from data_pipeline.storage.base import Storage
from models import Decoding
from trainers.checkpoint.format import CARD, LoadedCheckpoint, find_checkpoint, load_checkpoint
from trainers.config.environment_values import stored_value
from trainers.config.train import TrainConfig, to_yaml
from trainers.prediction.evaluation import Judged, commonest_answer, judge_checkpoint, read_rows
from trainers.prediction.predictor import Predictor
from trainers.report.metrics_table import split_metrics
from trainers.report.model_card import model_card
from trainers.report.record import RunReport
from trainers.report.write import write_report
from trainers.run.log import RunResult
from trainers.tasks.metrics.sequence import DETAILS, HEADLINES
from trainers.tasks.presentation import AttentionExample, Example
from trainers.tasks.sample_reading import attention_example, longest_correct

REPORT = "report"


def finish_run(config: TrainConfig, run: Storage, result: RunResult) -> dict[str, dict[str, float]]:
    """Judge the best checkpoint of `run` on the test split and write `report/`. Returns the figures by name."""
    dataset = open_dataset(config.data.dataset)
    loaded = load_checkpoint(run.uri)
    split = config.data.test_split or config.data.val_split or config.data.train_split
    judged = judge_checkpoint(loaded, dataset, split, decoding=config.decoding)
    figures = split_metrics(split, judged.sums)
    answer, baseline = commonest_answer(dataset, config.data.train_split, split)
    figures[f"{split}, always answering '{answer}'"] = baseline.total.averages()
    if config.report.enabled:
        _write(config, run, result, dataset, loaded, judged, split, figures)
    return figures


def _write(
    config: TrainConfig,
    run: Storage,
    result: RunResult,
    dataset: Dataset,
    loaded: LoadedCheckpoint,
    judged: Judged,
    split: str,
    figures: dict[str, dict[str, float]],
) -> None:
    examples, attention = _examples(config.report.examples, dataset, loaded, judged, split)
    manifest = dataset.manifest
    report = RunReport(
        title=run.name,
        config_yaml=to_yaml(config),
        history=result.history,
        headlines=HEADLINES,
        details=DETAILS,
        split=split,
        metrics=figures,
        examples=examples,
        attention=attention,
        dataset={
            "name": manifest.name,
            "uri": stored_value(config, "data.dataset"),
            "digest": manifest.digest,
            "license": manifest.licence,
            "tokens": len(manifest.charset),
            "images": f"{manifest.image.width}x{manifest.image.height} {manifest.image.colour}",
            **{f"rows of {name}": part.rows for name, part in manifest.splits.items()},
            "rejected": manifest.rejected,
        },
        checkpoint=loaded.uri,
        sources={name: part.averages() for name, part in sorted(judged.sums.groups.items())},
        environment=environment(result),
    )
    with scratch_folder("report") as scratch:
        write_report(scratch, report)
        run.child(REPORT).copy_from(scratch)
    find_checkpoint(run.uri).child(CARD).write_bytes(redact(model_card(report)).encode())


def environment(result: RunResult) -> dict[str, Any]:
    """What a run was computed with, and for how long: `device` and `duration` stand below the title of the report's page."""
    versions = {name: version(name) for name in ("torch", "ray", "pyarrow", "timm")}
    return {
        "device": result.device,
        "duration": f"{result.seconds / 60:.1f} minutes",
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        **versions,
    }


def _examples(
    count: int, dataset: Dataset, loaded: LoadedCheckpoint, judged: Judged, split: str
) -> tuple[list[Example], AttentionExample | None]:
    """`count` rows of the split spread evenly over it, and the attention over the longest of them that was read right."""
    step = max(1, len(judged.rows) // max(count, 1))
    # An odd stride: sources that alternate would else show one half only.
    chosen = {row["id"]: row for row in judged.rows[:: step | 1][:count] if not row["error"]}
    predictor = Predictor(loaded.uri)
    images = {}
    for row in read_rows(dataset, dataset.manifest.split(split), ["id", "image"]).iter_rows():
        if row["id"] in chosen:
            images[row["id"]] = predictor.prepare(row["image"]).pixels
    examples = [
        Example(name, images[name], row["text"], row["prediction"], row["source"])
        for name, row in chosen.items()
        if name in images
    ]
    if not examples:
        return examples, None
    return examples, attention_of(predictor, examples[longest_correct(examples)].image)


def attention_of(predictor: Predictor, image: np.ndarray) -> AttentionExample:
    """Decode one prepared image and keep where each token looked."""
    pixels, sizes = predictor.to_tensors([image])
    model, task = predictor.loaded.model, predictor.loaded.task
    generation = task.generate(model, pixels, sizes, Decoding(return_attention=True))
    return attention_example(generation, 0, image, model.backbone.cells(sizes)[0].tolist(), task.tokenizer)
