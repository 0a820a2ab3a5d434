"""What the sections' `validate` methods share: rules, each with the message that names its key when it is broken."""

from __future__ import annotations

from typing import Any

Rule = tuple[bool, str]  # whether it holds, and the message if it does not


def broken(*rules: Rule) -> list[str]:
    """The messages of the rules that do not hold."""
    return [message for holds, message in rules if not holds]


def minimums(section: str, config: Any, **lowest: float) -> list[Rule]:
    """A rule for each named key of `config`, which lies at the key `section`: its value is not below the given one."""
    return [
        (
            getattr(config, key) >= value,
            f"{section}{'.' * bool(section)}{key}={getattr(config, key)}: {f'at least {value}' if value else 'not negative'}",
        )
        for key, value in lowest.items()
    ]
