"""The end of a run: its best checkpoint evaluated on the test split, and a report folder that shows it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from cluster.redaction import redact
from cluster.scratch import scratch_folder
from data_pipeline.storage.base import Storage
from trainers.checkpoint.format import CARD
from trainers.checkpoint.load import Checkpoint, open_checkpoint
from trainers.config.environment_values import stored_value
from trainers.config.load import to_yaml
from trainers.engine.rejected import RejectedImages, rejected_lines, require_few
from trainers.engine.run_spec import RunSpec
from trainers.prediction.evaluation import (
    BATCH_SIZE,
    EvaluationResult,
    PredictSplit,
    constant_baseline,
    evaluate_checkpoint,
    to_json,
)
from trainers.prediction.image_options import image_policy_of
from trainers.prediction.predictor import Predictor
from trainers.report.metrics_table import metrics_table, split_metrics
from trainers.report.record import RunReport
from trainers.run.log import RunResult
from trainers.run.notable import encoded_images, notable_images
from trainers.tasks.presentation import AttentionExample, Example, longest_correct

REPORT, EVALUATION = "report", "evaluation.json"  # of the run's folder


def finalize(spec: RunSpec, run: Storage, result: RunResult, predict_split: PredictSplit) -> str:
    """Evaluate the best checkpoint of `run` on the test split, and write its report; returns what there is to print.

    Raises:
        UserError: more images of the split cannot be used than `stream.max_rejected` allows; the run lists them.
    """
    data = spec.config.data
    checkpoint = open_checkpoint(run.uri).with_options_of(spec.config)  # a resume may have changed them
    split = data.test_split or data.val_split or data.train_split
    evaluation = evaluate_checkpoint(checkpoint, spec.dataset, split, predict_split, BATCH_SIZE)
    left_out = _left_out(spec, run, split, evaluation)
    metrics = split_metrics(split, evaluation.metrics)
    answer, baseline = constant_baseline(checkpoint.task, spec.dataset, data.train_split, split)
    metrics[f"{split}, always answering '{answer}'"] = baseline.whole()
    record = {"checkpoint": checkpoint.uri, "metrics": metrics}
    run.child(EVALUATION).write_bytes(to_json(record))
    lines = [*left_out, metrics_table(metrics, checkpoint.task.headlines)]
    if spec.config.report.enabled:
        _write_report(spec, run, result, checkpoint, evaluation, split, metrics)
        lines.append(f"Report {run.uri}/{REPORT}/index.html")
    return "\n".join(lines)


def _left_out(spec: RunSpec, run: Storage, split: str, evaluation: EvaluationResult) -> list[str]:
    """Add the images of the split that cannot be used to the run's list, and name some of them."""
    errors = evaluation.errors()
    if not errors:
        return []
    rejected = RejectedImages(run, stored_value(spec.config, "data.dataset"))
    rejected.add(split, errors)
    rejected.save()
    require_few(len(errors), len(evaluation.rows), spec.config.stream.max_rejected, split)
    return rejected_lines(split, errors)


def _write_report(
    spec: RunSpec,
    run: Storage,
    result: RunResult,
    checkpoint: Checkpoint,
    evaluation: EvaluationResult,
    split: str,
    metrics: dict[str, dict[str, float]],
) -> None:
    # matplotlib and jinja2: a run without a report needs neither.
    from trainers.report.model_card import model_card
    from trainers.report.write import write_report

    predictor = Predictor(checkpoint, image=image_policy_of(checkpoint, [], prepared=True))
    examples, attention = _examples(spec, predictor, evaluation, split)
    manifest, task = spec.dataset.manifest, checkpoint.task
    report = RunReport(
        title=run.name,
        config_yaml=to_yaml(spec.config),
        history=result.history,
        metrics=metrics,
        headlines=task.headlines,
        details=task.details,
        split=split,
        examples=examples,
        attention=attention,
        attention_note=task.attention_note,
        sections=[
            *task.report_sections([(row, row) for row in evaluation.rows if not row["error"]]),
            *notable_images(predictor, spec.dataset, split, evaluation.rows),
        ],
        dataset={
            "name": manifest.name,
            "uri": stored_value(spec.config, "data.dataset"),
            "digest": manifest.digest,
            "license": manifest.license,
            "task": manifest.task,
            "outputs": task.describe(),
            "images": f"{manifest.image.width}x{manifest.image.height} {manifest.image.color}",
            **{f"rows of {name}": part.rows for name, part in manifest.splits.items()},
            "rejected": manifest.rejected,
        },
        checkpoint=checkpoint.uri,
        sources=evaluation.metrics.parts(),
        environment=environment(result),
    )
    with scratch_folder("report") as scratch:
        write_report(scratch, report)
        run.child(REPORT).copy_from(scratch)
    checkpoint.storage.child(CARD).write_bytes(redact(model_card(report)).encode())


def environment(result: RunResult) -> dict[str, Any]:
    """What a run was computed with, and for how long: `device` and `duration` stand below the title of the report's page."""
    versions = {}
    for name in ("torch", "ray", "pyarrow", "timm"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # training without Ray needs no Ray
            continue
    return {
        "device": result.device,
        "duration": f"{result.seconds / 60:.1f} minutes",
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        **versions,
    }


def _examples(
    spec: RunSpec, predictor: Predictor, evaluation: EvaluationResult, split: str
) -> tuple[list[Example], AttentionExample | None]:
    """Rows of the split spread evenly over it, and the attention over the longest of them that is correct."""
    count, rows, task = spec.config.report.examples, evaluation.rows, predictor.task
    step = max(1, len(rows) // max(count, 1))
    # An odd stride: sources that alternate would else show one half only.
    chosen = {row["id"]: row for row in rows[:: step | 1][:count] if not row["error"]}
    encoded = encoded_images(spec.dataset, split, set(chosen))
    images = {name: predictor.prepare(data).pixels for name, data in encoded.items()}
    examples = [
        Example(name, images[name], task.text_of(task.perfect_prediction(row)), task.text_of(row), row["source"])
        for name, row in chosen.items()
    ]
    if not examples:
        return examples, None
    return examples, attention_of(predictor, examples[longest_correct(examples)].image)


def attention_of(predictor: Predictor, image: np.ndarray) -> AttentionExample | None:
    """Predict one prepared image with where the network looked, if it tells."""
    ((_, attention),) = predictor.task.predict_with_attention(predictor.model, *predictor.to_tensors([image]))
    return None if attention is None else AttentionExample(image, attention.labels, attention.maps)
