"""Drawn faces: attributes and how they depend on each other, persons, and the dataset that they make."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import UserError
from data_pipeline.dataset.label_columns import check_target, joint_names
from data_pipeline.dataset.manifest import open_dataset
from data_pipeline.dataset.shards import read_split
from data_pipeline.preparation.images import encode_png
from data_pipeline.synthesis.faces.attributes import HEADS, SHARES, TARGET, attributes_of
from data_pipeline.synthesis.faces.build import FacesConfig, make_face, synthesize_faces
from data_pipeline.synthesis.faces.photo import draw_photo
from data_pipeline.synthesis.parts import fold_parts
from tests.support.datasets import built_here


def test_the_classes_are_named_as_those_of_the_masks_task() -> None:
    check_target("multitask", TARGET)
    assert TARGET["joint"] == {"name": "class", "classes": [str(number) for number in range(18)]}
    assert dict(zip(joint_names(HEADS), TARGET["joint"]["classes"], strict=True))["wrong/female/old"] == str(1 * 6 + 1 * 3 + 2)


def cramers_v(pairs: list[tuple[str, str]]) -> float:
    """The correlation of two attributes, 0 to 1."""
    first, second = (sorted(set(values)) for values in zip(*pairs, strict=True))
    counts = Counter(pairs)
    table = np.array([[counts[a, b] for b in second] for a in first], float)
    expected = table.sum(1, keepdims=True) * table.sum(0) / table.sum()
    return float(np.sqrt(((table - expected) ** 2 / expected).sum() / table.sum() / (min(table.shape) - 1)))


def test_shares_stay_and_the_correlation_grows_with_its_key() -> None:
    found = {}
    for correlation in (0.0, 0.5, 1.0):
        rows = [attributes_of(3, person, person, correlation) for person in range(2000)]
        for name, shares in SHARES.items():
            counts = Counter(row[name] for row in rows)
            assert all(abs(counts[label] / len(rows) - share) < 0.04 for label, share in shares.items())
        found[correlation] = [cramers_v([(row[a], row[b]) for row in rows]) for a, b in (("mask", "age"), ("gender", "age"))]
        if correlation == 0.5:
            assert len({tuple(row.values()) for row in rows}) == 18
    assert max(found[0.0]) < 0.06
    assert all(low + 0.1 < middle < high - 0.1 for low, middle, high in zip(*found.values(), strict=True))


def test_a_person_has_one_gender_and_age_and_several_masks() -> None:
    config = FacesConfig(photos=20)
    faces = [make_face(0, index, config) for index in range(40)]
    for person in (0, 1):
        own = [attributes for _, attributes, number in faces if number == person]
        assert len(own) == 20 and len({(row["gender"], row["age"]) for row in own}) == 1 < len({row["mask"] for row in own})
    again = [make_face(0, index, config) for index in reversed(range(40))][::-1]
    assert all((a[0] == b[0]).all() and a[1:] == b[1:] for a, b in zip(faces, again, strict=True))
    assert len({pixels.tobytes() for pixels, _, _ in faces}) == 40


@pytest.mark.parametrize("name", list(HEADS))
def test_attributes_can_be_seen(name: str) -> None:
    usual = {"mask": "none", "gender": "female", "age": "young"}
    looks = [draw_photo(0, 4, 4, usual | {name: label}, 64).astype(int) for label in HEADS[name]]
    assert all(look.shape == (64, 64, 3) and look.std() > 15 for look in looks)
    for number, look in enumerate(looks[1:]):
        assert (np.abs(look - looks[number]).max(axis=2) > 40).mean() > 0.02


def test_a_dataset_of_faces(tmp_path: Path) -> None:
    config = FacesConfig(side=48, correlation=0.8, photos=4)
    parts = fold_parts(23, 3, 6, config.photos)
    with built_here():
        made = synthesize_faces(str(tmp_path), parts, 2, config)
    assert (made.task, made.target, list(made.columns)) == ("multitask", TARGET, ["mask", "gender", "age"])
    assert {name: split.rows for name, split in made.splits.items()} == {"fold-0": 8, "fold-1": 8, "fold-2": 7, "test": 6}
    dataset = open_dataset(str(tmp_path))
    persons: list[set[str]] = []
    for split, part in parts.items():
        rows = read_split(dataset, split, ["image", "mask", "gender", "age", "source", "writer"]).to_pylist()
        for number, row in enumerate(rows):
            pixels, attributes, person = make_face(2, part.first + number, config)
            assert row == {"image": encode_png(pixels), **attributes, "source": "synthetic", "writer": f"person-{person:010d}"}
        persons.append({row["writer"] for row in rows})
        for name, counted in made.split(split).target_stats["class_rows"].items():
            assert counted == {label: sum(row[name] == label for row in rows) for label in HEADS[name]}
    assert sum(map(len, persons)) == len(set().union(*persons)) == 6 + 2


def test_impossible_values_are_refused_by_key() -> None:
    for keys, said in (({"side": 8}, "side=8"), ({"correlation": 1.5}, "correlation"), ({"photos": 0}, "photos=0")):
        with pytest.raises(UserError, match=said):
            FacesConfig(**keys)
