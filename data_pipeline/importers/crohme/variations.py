"""Variations of real formulas: symbols are exchanged for others, by other hands, and parts are cut out.

What the strokes of each symbol are, the files of CROHME say. Le, Indurkhya and Nakagawa (2019), "Pattern generation strategies
for improving recognition of handwritten mathematical expressions", cut and distort formulas so; exchanging symbols makes texts
that no training formula has, so that a network cannot know them by heart and has to look.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from data_pipeline.importers.crohme.caption import caption
from data_pipeline.importers.crohme.inkml import Ink, UnusableInk
from data_pipeline.importers.crohme.latex import LatexError, normalize_latex
from data_pipeline.importers.crohme.mathml import XML_ID, MathMLError, leaf_tokens

Strokes = list[np.ndarray]

# Symbols that may stand in each other's place: of one height and depth, so that one fits where the other was written.
_ALIKE = [
    "0 1 2 3 4 5 6 7 8 9",
    r"a c e m n o r s u v w x z \alpha \sigma \pi",
    "b d h k l t",
    r"g p q y \gamma \mu",
    "A B C E F G H I L M N P R S T V X Y",
    r"+ \times \div \pm",
    r"= < > \leq \geq \neq",
    r"\sin \cos \tan \log",
]
ALIKE = {symbol: group.split() for group in _ALIKE for symbol in group.split()}

CUT = 0.3  # how often a part of the formula is taken instead of all of it
LEAST_SYMBOLS = 2  # of a part
OTHER, SAME = 0.3, 0.4  # how often a symbol becomes one that is alike, and the same by another hand
STRETCH = 0.1  # how much wider or narrower, and higher or lower, what is put in its place may be
# Of all strokes: degrees of rotation and slant; how much wider and lower, on a logarithmic scale.
ROTATION, SLANT, ASPECT = 4.0, 15.0, 0.15


@dataclass
class Bank:
    """A bank of written symbols: token to the strokes of each time it was written."""

    written: dict[str, list[Strokes]]

    @classmethod
    def of(cls, inks: Iterable[Ink]) -> "Bank":
        """Collect all symbols of `inks` whose strokes are known."""
        written: dict[str, list[Strokes]] = {}
        for ink in inks:
            for _, token, indices in _symbols(ink.mathml, ink):
                strokes = [ink.strokes[index] for index in indices]
                if _size(strokes) > 0:
                    written.setdefault(token, []).append(strokes)
        return cls(written)

    def draw(self, token: str, rng: np.random.Generator) -> Strokes | None:
        """The strokes of one writing of a symbol; None if there is none."""
        choices = self.written.get(token)
        return choices[int(rng.integers(len(choices)))] if choices else None


def vary(ink: Ink, text: str, bank: Bank, rng: np.random.Generator) -> tuple[Strokes, str]:
    """The strokes and the caption of a formula that is like `ink`, whose caption is `text`.

    Where the file does not say which strokes draw what, or its MathML says something else than `text`, it is `ink` itself.
    """
    same = ink.strokes, text
    if ink.mathml is None or _caption(ink.mathml) != text:
        return same
    math = copy.deepcopy(ink.mathml)
    strokes = dict(enumerate(ink.strokes))
    parts = [part for part in math.iter() if part is not math and _may_be_cut(part, ink)]
    if parts and rng.random() < CUT:
        part = parts[int(rng.integers(len(parts)))]
        names = [element.get(XML_ID, "") for element in part.iter()]
        strokes = {index: ink.strokes[index] for name in names for index in ink.symbols.get(name, [])}
        math = Element("math")
        math.append(part)
    added: Strokes = []
    for leaf, token, indices in _symbols(math, ink):
        chance = rng.random()
        if chance >= OTHER + SAME:
            continue
        alike = ALIKE.get(token, [token])
        new = alike[int(rng.integers(len(alike)))] if chance < OTHER else token
        old, instance = [ink.strokes[index] for index in indices], bank.draw(new, rng)
        if instance is None or _size(old) == 0:
            continue
        added += _in_place_of(old, instance, rng)
        for index in indices:
            strokes.pop(index, None)
        if new != token:
            leaf.text = new
    varied = _caption(math)
    return ([*strokes.values(), *added], varied) if varied else same


def distorted(strokes: Strokes, rng: np.random.Generator) -> Strokes:
    """Rotate, slant and stretch all strokes alike, as another hand might write them."""
    angle, slant = np.radians(rng.uniform(-1, 1, 2) * (ROTATION, SLANT))
    aspect = np.exp(rng.uniform(-ASPECT, ASPECT))
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1, np.tan(slant)], [0, 1]]) @ np.diag([aspect, 1 / aspect])
    return [stroke @ matrix.T for stroke in strokes]


def _caption(math: Element) -> str:
    """The caption by the MathML alone, empty if it cannot be read."""
    try:
        return caption(Ink([], None, math), "")
    except UnusableInk:
        return ""


def _symbols(math: Element | None, ink: Ink) -> Iterator[tuple[Element, str, list[int]]]:
    """The leaves of `math` that are one token, and whose strokes `ink` knows to draw nothing else: leaf, token, strokes."""
    drawn = [index for indices in ink.symbols.values() for index in indices]
    for element in math.iter() if math is not None else ():
        indices = ink.symbols.get(element.get(XML_ID, ""), [])
        if not indices or len(element) or any(drawn.count(index) > 1 for index in indices):
            continue
        try:
            tokens = normalize_latex(" ".join(leaf_tokens(element)))
        except (MathMLError, LatexError):
            continue
        if len(tokens) == 1:
            yield element, tokens[0], indices


def _may_be_cut(part: Element, ink: Ink) -> bool:
    """Whether a part may be cut out: all of its strokes are known, and there are enough."""
    leaves = [element for element in part.iter() if not len(element)]
    signs = [element for element in part.iter() if element.tag.rpartition("}")[2] in ("mfrac", "msqrt", "mroot")]
    known = all(element.get(XML_ID, "") in ink.symbols for element in [*leaves, *signs])
    return known and len(leaves) >= LEAST_SYMBOLS


def _box(strokes: Strokes) -> tuple[np.ndarray, np.ndarray]:
    """The center and the extent of strokes, each (2,)."""
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2, high - low


def _size(strokes: Strokes) -> float:
    return float(_box(strokes)[1].max())


def _in_place_of(old: Strokes, new: Strokes, rng: np.random.Generator) -> Strokes:
    """`new`, as large as `old`, where that is, a little stretched."""
    center, extent = _box(old)
    middle, size = _box(new)
    scale = extent.max() / size.max() * rng.uniform(1 - STRETCH, 1 + STRETCH, 2)
    return [(stroke - middle) * scale + center for stroke in new]
