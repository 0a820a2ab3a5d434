"""Writing a review: its pictures, its corrections, its page last."""

from __future__ import annotations

from data_pipeline.storage.base import Storage
from trainers.prediction.label_doctor.corrections import corrections_csv
from trainers.prediction.label_doctor.folder import CORRECTIONS, INDEX, write_page, write_pictures, write_record
from trainers.prediction.label_doctor.images import pictures
from trainers.prediction.label_doctor.page import correct_command, review_page
from trainers.prediction.label_doctor.review import Review, corrections
from trainers.report.label_review import label_review_page


def write_review(folder: Storage, review: Review, accept: bool) -> list[str]:
    """Write everything into `folder`; returns what was found and how to go on, in lines.

    Raises:
        StorageError: the dataset cannot be read, or the folder cannot be written.
    """
    listed = len(review.listed)
    record = {
        "dataset": review.dataset.storage.uri,
        "digest": review.dataset.manifest.digest,
        "checkpoints": review.predictions.made_by["checkpoints"],
        "method": review.options.method,
        "images": len(review.predictions.rows),
        "labels": review.labels,
        "likely_wrong": review.flagged,
        "listed": listed,
        "listed_images": len(review.by_image()),
        "duplicates": len(review.duplicates),
    }
    write_record(folder, record)
    paths = write_pictures(folder, pictures(review.dataset, review.images, review.shown_ids()))
    lines = corrections(review)
    text = corrections_csv(lines, review.dataset.manifest.task == "multitask", accept)
    write_page(folder, text, label_review_page(review_page(review, paths, folder)))
    share = f"{100 * review.flagged / max(review.labels, 1):.2f} %"
    found = f"{review.flagged:,} of {review.labels:,} labels are likely wrong ({share})"
    twins = f", {len(review.duplicates):,} groups of near-duplicates disagree" if review.options.duplicates else ""
    limited = f", the {listed:,} surest are listed" if listed < review.flagged else ""
    said = [f"{review.dataset.manifest.name}: {found}{limited}{twins}", f"Review them: {folder.child(INDEX).shown}"]
    if lines:
        what = "Every suggestion is accepted" if accept else "Fill in the column `new`"
        said.append(f"{what} in {folder.child(CORRECTIONS).shown}; then apply it: {correct_command(review, folder)}")
    return said
