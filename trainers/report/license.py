"""What the license of a dataset means for a model that was trained on it."""

from collections.abc import Mapping
from typing import Any

_RESTRICTING = ("research", "non-commercial", "noncommercial", "non commercial", "academic", "-nc")


def license_notice(dataset: Mapping[str, Any]) -> str:
    """A sentence for datasets whose `license` allows research alone; else an empty text."""
    license_text = str(dataset.get("license") or "")
    if not any(word in license_text.lower() for word in _RESTRICTING):
        return ""
    name = dataset.get("name") or "The dataset"
    return (
        f"{name} is licensed for research only ({license_text}). "
        "A model trained on it is for research too: ask the owners of the data before any other use."
    )
