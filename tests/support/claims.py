"""Naming the property that a failing test was checking."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def claim(property_name: str) -> Iterator[None]:
    """Adds to what fails inside which property of its subject it was; the traceback shows it last."""
    try:
        yield
    except Exception as error:
        error.add_note(f"the property that failed: {property_name}")
        raise
