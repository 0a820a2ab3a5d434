"""Checks of settings that a network would otherwise meet as an error of torch, or not at all."""

from models.errors import ModelConfigError


def at_least(minimum: int, value: int, key: str) -> None:
    """Refuses a `value` below `minimum`."""
    if value < minimum:
        raise ModelConfigError(key, f"must be {minimum} or more, not {value}")


def is_rate(value: float, key: str) -> None:
    """Refuses a `value` that is no share for dropout."""
    if not 0 <= value < 1:
        raise ModelConfigError(key, f"must be 0 or more and less than 1, not {value}")
