"""The names and shapes in the state dicts of the named configurations: a change would make their checkpoints unreadable.

Where a change is meant, `python -m tests.models.test_state_dict_keys` writes the pins anew.
"""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from models import build_model
from models.presets import load_named, names

PINS = Path(__file__).parent / "state_dict_keys.json"


def pin(name: str) -> dict[str, object]:
    """How many tensors, the first and the last of them, and a digest of all names and shapes."""
    named = load_named(name)
    with torch.device("meta"):
        model = build_model(named.config, named.reference.output_spec())
    lines = [f"{key} {list(tensor.shape)}" for key, tensor in model.state_dict().items()]
    digest = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return {"tensors": len(lines), "first": lines[0], "last": lines[-1], "sha256": digest}


@pytest.mark.parametrize("name", names())
def test_names_and_shapes_are_as_pinned(name: str) -> None:
    assert pin(name) == json.loads(PINS.read_text())[name]


if __name__ == "__main__":
    PINS.write_text(json.dumps({name: pin(name) for name in names()}, indent=1) + "\n")
