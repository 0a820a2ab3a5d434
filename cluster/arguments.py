"""Types of numbers on command lines, for `argparse`: what is not allowed is an error that names the option and the value."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

from cluster.numbers import MAX_INT


def whole_number(minimum: int, maximum: int = MAX_INT) -> Callable[[str], int]:
    """The type of a decimal whole number from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text) or not minimum <= int(text) <= maximum:
            raise argparse.ArgumentTypeError(f"'{text}' is no whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def finite_number(minimum: float, maximum: float) -> Callable[[str], float]:
    """The type of a number from `minimum` to `maximum`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(f"'{text}' is not a number from {minimum:g} to {maximum:g}")
        return value

    return parse
