"""What a checkpoint reads of a split, as figures and as a table of text."""

from __future__ import annotations

from cluster.redaction import printable
from trainers.tasks.metrics.sequence import GroupedSums


def split_figures(split: str, sums: GroupedSums) -> dict[str, dict[str, float]]:
    """The figures of a split, and of its sources apart where there are several."""
    figures = {split: sums.total.averages()}
    if len(sums.groups) > 1:
        figures |= {f"{split}, {name}": part.averages() for name, part in sorted(sums.groups.items())}
    return figures


def figures_table(figures: dict[str, dict[str, float]]) -> str:
    """The figures as a table of text."""
    figures = {printable(name): row for name, row in figures.items()}  # of sources, which are folders of somebody's
    width = max(map(len, figures))
    lines = [f"{'':{width}}  {'images':>7}  {'exact':>7}  {'WER':>7}  {'CER':>7}  {'score':>6}"]
    for name, row in figures.items():
        lines.append(
            f"{name:{width}}  {row['count']:7.0f}  {100 * row['exact_match']:5.1f} %  {100 * row['wer']:5.1f} %  "
            f"{100 * row['cer']:5.1f} %  {row['score']:.4f}"
        )
    return "\n".join(lines)
