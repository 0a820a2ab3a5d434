"""The folder of a report: the page, its images and the model card."""

from pathlib import Path

import numpy as np

from cluster.redaction import redact
from data_pipeline.preparation.images import encode_png
from trainers.report.attention_strip import draw_attention_strip
from trainers.report.drawings import draw
from trainers.report.learning_curves import draw_learning_curves
from trainers.report.model_card import model_card
from trainers.report.page import PageImages, page
from trainers.report.plot_style import DPI, HALF_WIDTH
from trainers.report.record import RunReport
from trainers.report.sample_grid import draw_sample_grid
from trainers.tasks.presentation import AttentionExample, Image, Section

INDEX, MODEL_CARD = "index.html", "model_card.md"


def write_report(folder: Path, report: RunReport) -> Path:
    """Write `index.html`, its images and `model_card.md` into `folder` (made if need be); returns the page's path.

    Files of an earlier report are replaced. Raises OSError when the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn: dict[str, Image] = {}
    if report.history:
        drawn["learning_curves.png"] = draw_learning_curves(report.history, report.headlines)
    if report.examples:
        drawn["samples.png"] = draw_sample_grid(report.examples)
    if report.attention:
        drawn["attention.png"] = draw_attention_strip(report.attention)
    # Named by number: an id or a title may hold anything.
    examples = {index: f"examples/{index:04d}.png" for index, item in enumerate(report.examples) if item.image.size}
    drawn |= {name: report.examples[index].image for index, name in examples.items()}
    sections: dict[int, list[str]] = {}
    wide: set[str] = set()
    for index, section in enumerate(report.sections):
        shown = _images_of(section)
        sections[index] = [f"section-{index + 1}{f'-{part + 1}' if part else ''}.png" for part in range(len(shown))]
        wide |= {name for name, image in zip(sections[index], shown, strict=True) if image.shape[1] > HALF_WIDTH * DPI + 1}
        drawn |= zip(sections[index], shown, strict=True)
    for name, image in drawn.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_png(image))
    (folder / MODEL_CARD).write_text(redact(model_card(report)), encoding="utf-8")
    images = PageImages(frozenset(drawn), examples, sections, wide)
    (folder / INDEX).write_text(redact(page(report, images)), encoding="utf-8")
    return folder / INDEX


def _images_of(section: Section) -> list[Image]:
    """The images of a section: one, one for each drawing, or none."""
    content = section.content
    if isinstance(content, AttentionExample):
        return [draw_attention_strip(content)]
    if isinstance(content, tuple):
        return [draw(drawing) for drawing in content]
    return [content] if isinstance(content, np.ndarray) and content.size else []
