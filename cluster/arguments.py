"""Types of numbers on command lines, for `argparse`: what is not allowed is an error that names the option and the value."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

from cluster.numbers import MAX_INT


def whole_number(least: int, most: int = MAX_INT) -> Callable[[str], int]:
    """The type of a decimal whole number from `least` to `most`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {least} to {most}")
        return int(text)

    return parse


def finite_number(least: float, most: float) -> Callable[[str], float]:
    """The type of a number from `least` to `most`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number from {least:g} to {most:g}")
        return value

    return parse
