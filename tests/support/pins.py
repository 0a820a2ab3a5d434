"""Pins of the state dicts of the named configurations: `python -m tests.support.pins` updates them after an intended change."""

import hashlib
import json
from pathlib import Path

from models import Recognizer
from models.presets import load_named, names
from models.summary.count import build_on_meta

PINS = Path(__file__).parents[1] / "models" / "state_dict_keys.json"


def pin(model: Recognizer) -> dict[str, object]:
    """How many tensors, the first and the last of them, and a digest of all names and shapes."""
    lines = [f"{key} {list(tensor.shape)}" for key, tensor in model.state_dict().items()]
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return {"tensors": len(lines), "first": lines[0], "last": lines[-1], "sha256": digest}


if __name__ == "__main__":
    PINS.write_text(json.dumps({name: pin(build_on_meta(load_named(name))) for name in names()}, indent=1) + "\n")
