"""Reader of InkML: the strokes and the truths of one file."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

import numpy as np

from data_pipeline.importers.crohme.mathml import XML_ID
from data_pipeline.importers.crohme.traces import TraceError, TraceFormats, local_name

INKML = "{http://www.w3.org/2003/InkML}"

MAX_COORDINATE = 1e9
"""Coordinates beyond this are no pen positions, and would overflow when ink is scaled."""


class UnusableInk(ValueError):
    """A file that cannot become a sample; the message is the reason, as the list of rejected files states it."""


@dataclass
class Ink:
    """The pen strokes of a formula in writing order, and what its authors say it means."""

    strokes: list[np.ndarray]
    """One float64 array (n, 2) of x, y per stroke, n >= 1, y pointing down, in the file's own units."""
    latex: str | None
    """The truth as LaTeX, not normalized."""
    mathml: ElementTree.Element | None
    """The truth as the `math` element."""
    symbols: dict[str, list[int]] = field(default_factory=dict)
    """Which strokes draw which element of `mathml`: its xml:id to indices of `strokes`. Empty where nobody has told."""
    annotations: dict[str, str] = field(default_factory=dict)
    """The other annotations of the whole ink by type: UI (the identifier), writer, age, ..."""


def read_inkml(data: bytes) -> Ink:
    """Strokes and truths of an InkML document, UTF-8 or, where it is not, cp1252.

    Raises:
        UnusableInk: an empty or malformed file, one that declares entities, one without strokes or without a truth.
    """
    root = _parse(_decode(data))
    if root.tag not in (f"{INKML}ink", "ink"):
        raise UnusableInk(f"not InkML: the root element is {local_name(root)!r}")
    annotations = {
        element.get("type", ""): (element.text or "").strip() for element in root if local_name(element) == "annotation"
    }
    latex = annotations.pop("truth", None) or None
    mathml = next((element for element in root.iter() if local_name(element) == "math"), None)
    if latex is None and mathml is None:
        raise UnusableInk("no truth: neither LaTeX nor MathML")
    try:
        drawn = [(name, stroke) for name, stroke in _strokes(root) if len(stroke)]
    except TraceError as error:
        raise UnusableInk(str(error)) from error
    if not drawn:
        raise UnusableInk("no strokes")
    indices = {name: index for index, (name, _) in enumerate(drawn)}
    return Ink([stroke for _, stroke in drawn], latex, mathml, _symbols(root, indices), annotations)


def _symbols(root: ElementTree.Element, indices: dict[str, int]) -> dict[str, list[int]]:
    """The trace groups that name an element of the MathML, with the `indices` of their traces."""
    symbols: dict[str, list[int]] = {}
    for group in root.iter():
        children = {local_name(child): child for child in group} if local_name(group) == "traceGroup" else {}
        if "annotationXML" in children:
            references = [
                child.get("traceDataRef", "").removeprefix("#") for child in group if local_name(child) == "traceView"
            ]
            strokes = [indices[name] for name in references if name in indices]
            symbols.setdefault(children["annotationXML"].get("href", ""), []).extend(strokes)
    return {name: strokes for name, strokes in symbols.items() if name and strokes}


def _decode(data: bytes) -> str:
    if not data.strip():
        raise UnusableInk("the file is empty")
    encodings = ("utf-16",) if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise UnusableInk("the text is neither UTF-8 nor cp1252")


def _parse(text: str) -> ElementTree.Element:
    # Without a document type no entity can be declared, so none can be expanded and nothing outside be read.
    if "<!DOCTYPE" in text:
        raise UnusableInk("the XML has a document type declaration, which InkML does not need")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise UnusableInk(f"malformed XML: {error}") from error


def _strokes(root: ElementTree.Element) -> Iterator[tuple[str, np.ndarray]]:
    """The id and the positions (n, 2) of each trace that the pen drew; channels beside x and y (time, force) are left out."""
    for trace, form in TraceFormats(root).traces():
        if trace.get("type") == "penUp":  # the way from one stroke to the next
            continue
        name = trace.get("id") or trace.get(XML_ID) or ""
        try:
            points = form.points(trace.text or "")
        except TraceError as error:
            raise UnusableInk(f"trace {name or '?'!r}: {error}") from error
        if not (np.abs(points) <= MAX_COORDINATE).all():
            raise UnusableInk(f"trace {name or '?'!r}: a coordinate is not finite or beyond {MAX_COORDINATE:g}")
        yield name, points
