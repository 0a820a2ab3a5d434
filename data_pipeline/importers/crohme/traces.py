"""Traces of InkML: which of their numbers are x and y, by trace formats, contexts and the encodings of differences.

As the recommendation of the W3C has it (Ink Markup Language, 20 September 2011). Where a document says nothing, the channels
are X and Y; y points down unless the orientation of its channel says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from data_pipeline.importers.crohme.mathml import XML_ID

_POINTS_PER_UNIT = {"pt": 1.0, "pc": 12.0, "in": 72.0, "mm": 72 / 25.4, "cm": 72 / 2.54, "m": 72 / 0.0254}
# A value with the prefix that says what it is, from then on: itself, its difference, the difference of its differences.
_VALUE = re.compile(r"""\s*([!'"]?)\s*(\*|\?|[TF]|-?\s*\#[0-9A-Fa-f]+|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*""")
_ORDERS = {"!": 0, "'": 1, '"': 2}


class TraceError(ValueError):
    """A trace, or a format of traces, that cannot be read as positions, with the reason."""


@dataclass(frozen=True)
class TraceFormat:
    """The indices of x and y among the values of a point, and the factors that make x point right and y down."""

    x: int = 0
    y: int = 1
    x_scale: float = 1.0
    y_scale: float = 1.0

    @classmethod
    def of(cls, element: Element) -> TraceFormat:
        """The format that a `traceFormat` element describes.

        Raises:
            TraceError: it has no channel X or Y in every point, or their units are not known to each other.
        """
        channels = [channel for child in element for channel in _regular(child)]
        if not channels:
            return cls()
        names = [channel.get("name", "") for channel in channels]
        missing = [name for name in ("X", "Y") if name not in names]
        if missing:
            raise TraceError(f"the traceFormat has no channel {missing[0]} (it has {', '.join(names)})")
        x, y = names.index("X"), names.index("Y")
        scales = [_sign(channels[position]) for position in (x, y)]
        units = [channels[position].get("units", "") for position in (x, y)]
        if units[0] != units[1]:
            if not all(unit in _POINTS_PER_UNIT for unit in units):
                raise TraceError(f"the channels X and Y have the units {units[0] or 'none'} and {units[1] or 'none'}")
            scales = [scale * _POINTS_PER_UNIT[unit] for scale, unit in zip(scales, units, strict=True)]
        return cls(x, y, *scales)

    def points(self, text: str) -> np.ndarray:
        """The positions of a trace, float64 (n, 2) of x and y, y pointing down; other channels are left out.

        Raises:
            TraceError: a value is no number, or a point has no x or y.
        """
        rows = [row.split() for row in text.split(",")]
        rows = [row for row in rows if row]
        try:
            numbers = [[float(value) for value in row] for row in rows]
            points = [[row[self.x], row[self.y]] for row in numbers]
        except (ValueError, IndexError):  # values with prefixes, or written without blanks
            points = self._encoded(text)
        return np.array(points, dtype=np.float64).reshape(-1, 2) * (self.x_scale, self.y_scale)

    def _encoded(self, text: str) -> list[list[float]]:
        """Positions of a trace that may hold differences (`'`), differences of them (`"`) and repetitions (`*`)."""
        channels = {self.x: _Channel(), self.y: _Channel()}
        points = []
        for row in text.split(","):
            values = _values(row)
            if values:
                if len(values) <= max(channels):
                    raise TraceError("a point without x or y")
                points.append([channels[position].next(*values[position]) for position in (self.x, self.y)])
        return points


class _Channel:
    """The value of one channel from point to point."""

    def __init__(self) -> None:
        self._order = 0
        # The value, its last difference and the last difference of that: what a repetition takes on.
        self._state: list[float] = [0.0, 0.0, 0.0]
        self._known = False

    def next(self, prefix: str, text: str) -> float:
        """The value of the next point, which is written as `text`."""
        self._order = _ORDERS[prefix] if prefix else self._order
        if text == "*":
            number = self._state[self._order]
        elif text in "?TF":
            raise TraceError(f"'{text}' for x or y")
        elif "#" in text:
            number = float(int(text.replace("#", "").replace(" ", ""), 16))
        else:
            number = float(text)
        if not self._known and (self._order or text == "*"):
            raise TraceError("its first point is given as a difference")
        value, speed, _ = self._state
        if self._order == 0:
            self._state = [number, number - value if self._known else 0.0, 0.0]
        elif self._order == 1:
            self._state = [value + number, number, number - speed]
        else:
            self._state = [value + speed + number, speed + number, number]
        self._known = True
        return self._state[0]


def _values(row: str) -> list[tuple[str, str]]:
    """The values of a point as (prefix, text)."""
    values, position = [], 0
    row = row.strip()
    while position < len(row):
        match = _VALUE.match(row, position)
        if match is None:
            raise TraceError(f"{row[position:][:20]!r} is no number")
        values.append((match[1], match[2]))
        position = match.end()
    return values


def _sign(channel: Element) -> float:
    return -1.0 if channel.get("orientation", "+ve") == "-ve" else 1.0


def _regular(child: Element) -> Iterator[Element]:
    """The channels, in order, that every point has; those of `intermittentChannels` come after them, now and then."""
    if local_name(child) == "channel":
        yield child
    elif local_name(child) == "regularChannels":  # of drafts of the recommendation
        yield from (channel for channel in child if local_name(channel) == "channel")


class TraceFormats:
    """The trace format of each trace of a document, by what it, its groups and the contexts before it refer to."""

    def __init__(self, root: Element) -> None:
        self._root = root
        self._named = {element.get(name): element for element in root.iter() for name in ("id", XML_ID) if element.get(name)}

    def traces(self) -> Iterator[tuple[Element, TraceFormat]]:
        """All traces, in the order of the document.

        Raises:
            TraceError: a trace refers to something that is not there, or to a format without x and y.
        """
        bare = next((child for child in self._root if local_name(child) == "traceFormat"), None)
        yield from self._below(self._root, TraceFormat() if bare is None else TraceFormat.of(bare))

    def _below(self, parent: Element, current: TraceFormat) -> Iterator[tuple[Element, TraceFormat]]:
        for child in parent:
            kind, reference = local_name(child), child.get("contextRef")
            if kind == "context" and local_name(parent) == "ink":  # holds for what comes after it
                current = self._of_context(child, current)
            elif not kind.startswith("annotation"):
                own = self._of_context(self._find(reference), current) if reference else current
                if kind == "trace":
                    yield child, own
                else:
                    yield from self._below(child, own)

    def _of_context(self, context: Element, inherited: TraceFormat, depth: int = 0) -> TraceFormat:
        """What a context says of the trace format: itself, by its ink source, or by the context that it refers to."""
        if depth > 20:
            raise TraceError("contexts refer to each other in a circle")
        children = {local_name(child): child for child in context}
        source = children.get("inkSource")
        for element in (context, source):
            if element is None:
                continue
            own = next((child for child in element if local_name(child) == "traceFormat"), None)
            if own is not None:
                return TraceFormat.of(own)
        if reference := context.get("traceFormatRef"):
            return TraceFormat.of(self._find(reference))
        if reference := context.get("inkSourceRef"):
            return self._of_context(self._find(reference), inherited, depth + 1)
        if reference := context.get("contextRef"):
            return self._of_context(self._find(reference), inherited, depth + 1)
        return inherited

    def _find(self, reference: str) -> Element:
        if reference == "#DefaultTraceFormat":
            return Element("traceFormat")
        if reference == "#DefaultContext" and "DefaultContext" not in self._named:
            default = Element("context")
            default.append(Element("traceFormat"))
            return default
        element = self._named.get(reference.removeprefix("#"))
        if element is None:
            raise TraceError(f"'{reference}' is referred to, but is not there")
        return element


def local_name(element: Element) -> str:
    """The name of an element without its namespace; of a comment, none."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
