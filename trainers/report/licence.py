"""What a dataset's licence means for a model that was trained on it."""

from collections.abc import Mapping
from typing import Any

_RESTRICTING = ("research", "non-commercial", "noncommercial", "non commercial", "academic", "-nc")


def licence_notice(dataset: Mapping[str, Any]) -> str:
    """A sentence for datasets that may be used for research alone, by the text of `licence` (or `license`); else ""."""
    licence = str(dataset.get("licence") or dataset.get("license") or "")
    if not any(word in licence.lower() for word in _RESTRICTING):
        return ""
    name = dataset.get("name") or "The dataset"
    return (
        f"{name} is licensed for research only ({licence}). "
        "A model trained on it is for research too: ask the owners of the data before any other use."
    )
