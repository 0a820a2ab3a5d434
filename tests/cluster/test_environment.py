"""The defaults of the environment: there before a library reads them, and never instead of what the user has set."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from cluster.environment import DEFAULTS

NAMES = ["GOMP_SPINCOUNT", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"]
SHOW = "import json, os, sys; import trainers; print(json.dumps([dict(os.environ), 'torch' in sys.modules]))"


@pytest.mark.parametrize("own", [None, "7"])
def test_defaults_are_set_before_torch_is_imported_and_yield_to_the_user(own: str | None) -> None:
    """The libraries read these once, when they are loaded or first used."""
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    if own is not None:
        environment |= dict.fromkeys(NAMES, own)
    shown = subprocess.run([sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True)
    found, torch_is_there = json.loads(shown.stdout)
    assert {name: found[name] for name in NAMES} == {name: own or DEFAULTS[name] for name in NAMES}
    assert not torch_is_there
