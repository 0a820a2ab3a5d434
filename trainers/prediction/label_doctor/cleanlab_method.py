"""A second opinion: cleanlab's own implementation of confident learning, which also estimates how much noise there is."""

from __future__ import annotations

import importlib
from importlib.util import find_spec

import numpy as np

from cluster.errors import UserError


def require_cleanlab() -> None:
    """Check that cleanlab is installed.

    Raises:
        UserError: it is not, and how to install it.
    """
    if find_spec("cleanlab") is None:
        raise UserError(
            "--method cleanlab needs the package cleanlab, which is not installed here. Install it with "
            "pip install -e '.[labels]', or leave --method out: Inkray has confident learning of its own."
        )


def suggest(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """The class that each row seems to have, as `confident_learning.suggest`, by `cleanlab.filter.find_label_issues`."""
    if len(np.unique(labels)) < 2:  # nothing can be learned of one class, and cleanlab refuses it
        return labels.copy()
    issues = importlib.import_module("cleanlab.filter").find_label_issues(labels, probs, n_jobs=1)
    best = probs.argmax(1)
    return np.where(issues, best, labels)
