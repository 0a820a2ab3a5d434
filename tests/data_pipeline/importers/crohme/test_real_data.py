"""The whole importer against CROHME itself, which is for research only and stands beside the repository."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest

from data_pipeline.importers.crohme.caption import caption
from data_pipeline.importers.crohme.inkml import UnusableInk, read_inkml
from data_pipeline.importers.crohme.render import render_ink
from data_pipeline.importers.crohme.source import iter_inkml
from data_pipeline.importers.crohme.variations import ALIKE, Bank, vary
from tests.support.places import CROHME as DATA

ARCHIVES = {"train": "crohme_train.tar.xz", "2013": "crohme_2013_valid.tar.xz", "2014": "crohme_2014_test.tar.xz"}
ROWS = {"train": 8835, "2013": 671, "2014": 986}

pytestmark = pytest.mark.skipif(
    not (DATA / ARCHIVES["train"]).is_file(), reason="the CROHME data is not at ../shared/data/crohme"
)


@dataclass
class Imported:
    captions: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    point_strokes: int = 0


@cache
def _imported(part: str) -> Imported:
    imported = Imported()
    for file in iter_inkml(DATA / ARCHIVES[part], imported.skipped):
        try:
            ink = read_inkml(file.data)
            imported.captions[file.id] = caption(ink, file.id)
            imported.point_strokes += sum(len(stroke) == 1 for stroke in ink.strokes)
        except UnusableInk as error:
            imported.rejected[file.id] = str(error)
    return imported


@pytest.mark.parametrize("part", [pytest.param("train", marks=pytest.mark.slow), "2013", "2014"])
def test_captions_equal_the_reference(part: str) -> None:
    lines = (DATA / f"captions_{part}.tsv").read_text().splitlines()
    reference = dict(line.split("\t") for line in lines)
    captions = _imported(part).captions
    assert captions.keys() == reference.keys()
    assert len(captions) == ROWS[part]
    different = {id_ for id_ in reference if captions[id_] != reference[id_]}
    assert len(different) <= 0.005 * len(reference), sorted(different)[:20]


@pytest.mark.slow
def test_every_file_is_accounted_for() -> None:
    train = _imported("train")
    assert train.rejected == {"MfrDB3088": "the file is empty"}
    assert train.skipped == {".lg": 15}
    assert train.point_strokes == 1584
    assert not _imported("2013").rejected and not _imported("2014").rejected


@pytest.mark.slow
def test_the_cp1252_file_is_read() -> None:
    assert r"\cdot" in _imported("train").captions["MfrDB0104"]


def test_every_ink_of_2013_can_be_drawn() -> None:
    for file in iter_inkml(DATA / ARCHIVES["2013"]):
        image = render_ink(read_inkml(file.data).strokes)
        assert image.shape[0] <= 128 and image.shape[1] <= 1024
        assert 0.002 < (image < 128).mean() < 0.4, file.id


def test_most_formulas_can_be_varied() -> None:
    inks = [ink for file in iter_inkml(DATA / ARCHIVES["2013"]) if (ink := read_inkml(file.data)).mathml is not None]
    texts = [caption(ink, "") for ink in inks]
    bank = Bank.of(inks)
    varied = [
        vary(ink, text, bank, np.random.default_rng(seed)) for seed, (ink, text) in enumerate(zip(inks, texts, strict=True))
    ]
    known = {token for text in texts for token in text.split()} | ALIKE.keys()
    assert all(set(text.split()) <= known and strokes for strokes, text in varied)
    assert sum(new != old for (_, new), old in zip(varied, texts, strict=True)) > 0.7 * len(texts)
