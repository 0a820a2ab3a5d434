"""The report folder: pictures, page and model card."""

from pathlib import Path

import cv2
import numpy as np

from cluster.redaction import redact
from trainers.report.attention_strip import draw_attention_sheet
from trainers.report.learning_curves import draw_learning_curves
from trainers.report.model_card import model_card
from trainers.report.page import page
from trainers.report.record import Example, Image, RunReport
from trainers.report.sample_grid import draw_sample_sheet

EXAMPLES = "examples"


def write_report(folder: Path, report: RunReport) -> Path:
    """Write `index.html`, its pictures and `model_card.md` into `folder` (made if need be); returns the page's path.

    A report that was there is overwritten. Raises OSError when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    curves = draw_learning_curves(report.history, folder / "learning_curves.png").name if report.history else None
    sheet = draw_sample_sheet(report.examples, folder / "samples.png").name if report.examples else None
    attention = draw_attention_sheet(report.attention, folder / "attention.png").name if report.attention else None
    images = [_write_image(folder, index, example) for index, example in enumerate(report.examples)]
    (folder / "model_card.md").write_text(redact(model_card(report)), encoding="utf-8")
    index = folder / "index.html"
    index.write_text(redact(page(report, curves, sheet, attention, images)), encoding="utf-8")
    return index


def _write_image(folder: Path, index: int, example: Example) -> str | None:
    """The path of an example's PNG relative to the page. Named by its place: an id may hold anything."""
    if not example.image.size:
        return None
    name = f"{EXAMPLES}/{index:04d}.png"
    (folder / EXAMPLES).mkdir(exist_ok=True)
    (folder / name).write_bytes(encoded_png(example.image))
    return name


def encoded_png(image: Image) -> bytes:
    """A PNG of (H, W) or (H, W, 3) RGB, uint8."""
    flipped = image[..., ::-1] if image.ndim == 3 else image
    done, buffer = cv2.imencode(".png", np.ascontiguousarray(flipped))
    if not done:
        raise ValueError(f"no PNG can be made of an image of shape {image.shape} and type {image.dtype}")
    return buffer.tobytes()
