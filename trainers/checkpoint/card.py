"""The few lines that a checkpoint carries from the moment it is written; the report's model card replaces them at the end."""

from __future__ import annotations

from data_pipeline.dataset.manifest import Manifest


def short_card(name: str, manifest: Manifest, metrics: dict[str, float]) -> str:
    """Markdown: what the checkpoint is, what it was trained on, how to use it."""
    shown = "\n".join(f"- {key}: {value:.4g}" for key, value in sorted(metrics.items())) or "- not evaluated"
    license = manifest.license or "not stated"
    return (
        f"# {name}\n\nA model trained with Inkray on dataset `{manifest.name}` ({manifest.digest[:19]}).\n"
        f"License of the data: {license}.\n\n{shown}\n\n"
        "Use: `python -m trainers.predict CHECKPOINT IMAGES OUT`; `config.yaml` beside this file made it.\n"
    )
