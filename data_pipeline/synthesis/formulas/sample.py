"""One synthetic formula with its image, as a pure function of a seed and a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from data_pipeline.synthesis.formulas.grammar import FormulaConfig, random_formula
from data_pipeline.synthesis.formulas.handwriting.render import render_handwritten
from data_pipeline.synthesis.formulas.handwriting.writer import writer_style
from data_pipeline.synthesis.formulas.nodes import structures, tokens
from data_pipeline.synthesis.formulas.paper import Image
from data_pipeline.synthesis.formulas.printed import render_printed

Source = Literal["printed", "handwritten"]


@dataclass(frozen=True)
class FormulaSample:
    """An image of a formula and what it says.

    image: uint8 (H, W, 3) RGB.
    text: LaTeX tokens, one space apart.
    writer: `font-NAME` or `writer-NUMBER`.
    level: number of scripts, fractions and roots.
    """

    image: Image
    text: str
    source: Source
    writer: str
    level: int


def make_sample(seed: int, index: int, config: FormulaConfig, accept: Callable[[str], bool] | None = None) -> FormulaSample:
    """Draw and render formula `index` of a collection: printed when the index is even, handwritten when it is odd.

    The result depends on the arguments alone, so any worker can make any sample. Where `accept` is given, formulas are
    drawn until it is true of the text, so that splits can be kept apart by what their formulas say.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, index]))
    node = random_formula(rng, config)
    while accept is not None and not accept(" ".join(tokens(node))):
        node = random_formula(rng, config)
    source: Source
    if index % 2 == 0:
        source = "printed"
        image, writer = render_printed(node, rng)
    else:
        source = "handwritten"
        number = int(rng.integers(config.num_writers))
        image, writer = render_handwritten(node, writer_style(seed, number), rng), f"writer-{number:04d}"
    return FormulaSample(image, " ".join(tokens(node)), source, writer, structures(node))
