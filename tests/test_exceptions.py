"""Every exception of ours arrives whole from another process: it survives pickling."""

import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

PACKAGES = ("cluster", "data_pipeline", "models", "trainers")


def exceptions() -> Iterator[type[BaseException]]:
    """All exception classes that are defined in the packages, found by importing every module."""
    for package in PACKAGES:
        root = importlib.import_module(package)
        for found in pkgutil.walk_packages(root.__path__, f"{package}."):
            if found.name.endswith("__main__"):
                continue
            for thing in vars(importlib.import_module(found.name)).values():
                if inspect.isclass(thing) and issubclass(thing, BaseException) and thing.__module__ == found.name:
                    yield thing


CLASSES = sorted(exceptions(), key=lambda found: found.__qualname__)


def made(kind: type[BaseException]) -> BaseException:
    """One with something to tell in all that it can be told."""
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    values: list[Any] = ["what was wrong"]
    if all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters):
        values = [{bool: True, int: 3, float: 0.5}.get(type(p.default), f"what {p.name} says") for p in parameters]
    return kind(*values)


def test_they_are_found() -> None:
    assert {"ModelConfigError", "UserError", "StorageError", "BadImage"} <= {kind.__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_survives_pickling(kind: type[BaseException]) -> None:
    error = made(kind)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and "what" in str(error)
    assert vars(again) == vars(error)
