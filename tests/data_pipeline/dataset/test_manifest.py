"""`dataset.json`: read as written, and what cannot be read says why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import SCHEMA_VERSION, DatasetError, Extent, Manifest, RowGroup, Shard, Split, open_dataset
from data_pipeline.dataset.schema_versions import content_digest
from data_pipeline.stream.batch import pad_images
from data_pipeline.stream.row_groups import RowGroups
from tests.support.numbers import number_manifest

SHARDS = [
    Shard("train/part-00000.parquet", [Extent(64, 120, 32, 700), Extent(10, 250, 32, 99)], 999, "ab"),
    Shard("train/part-00001.parquet", [Extent(5, 9)], 99, "cd"),
]


def manifest(**changes: Any) -> Manifest:
    content: dict[str, Any] = {
        "name": "small",
        "task": "sequence",
        "target": {"charset": ["a", "é"]},
        "columns": {"text": "string"},
        "image": ImagePolicy(32, 64),
        "splits": {"train": Split(SHARDS, {"max_tokens": 7}), "val": Split([], {"max_tokens": 0})},
        "rejected": 2,
        "preparation": {"seed": 1},
    }
    return Manifest(**(content | changes))


def written(folder: Path, content: bytes) -> str:
    (folder / "dataset.json").write_bytes(content)
    return str(folder)


def test_it_is_read_as_written(tmp_path: Path) -> None:
    assert open_dataset(written(tmp_path, manifest().to_json())).manifest == manifest()


def test_row_groups_stand_in_the_order_of_the_files() -> None:
    split = manifest().split("train")
    first, second = (shard.file for shard in SHARDS)
    assert split.row_groups() == [
        RowGroup(first, 0, Extent(64, 120, 32, 700), "ab"),
        RowGroup(first, 1, Extent(10, 250, 32, 99), "ab"),
        RowGroup(second, 0, Extent(5, 9), "cd"),
    ]
    assert split.rows == 79


def test_row_groups_of_older_manifests_lack_height_and_bytes(tmp_path: Path) -> None:
    content = json.loads(manifest().to_json())
    content["splits"]["train"]["shards"][0]["row_groups"] = [[64, 120], [10, 250]]
    del content["image"]["fixed_height"]
    older = open_dataset(written(tmp_path, json.dumps(content).encode())).manifest
    assert older.image.fixed_height
    assert older.split("train").shards[0].row_groups == [Extent(64, 120), Extent(10, 250)]
    groups = RowGroups.of(older.split("train"), older.image)
    assert groups.height.tolist() == [32, 32, 32] and groups.index.tolist() == [0, 1, 0] and groups.shard.tolist() == [0, 0, 1]
    assert groups.bytes.tolist() == [864, 135, 99], "as the shard's rows are on average"


def test_the_digest_follows_the_content() -> None:
    other = [Shard(SHARDS[0].file, SHARDS[0].row_groups, 999, "other bytes"), SHARDS[1]]
    digests = {
        manifest().digest,
        manifest(target={"charset": ["é", "a"]}).digest,
        manifest(image=ImagePolicy(32, 65)).digest,
        manifest(splits={"train": Split(other)}).digest,
    }
    assert len(digests) == 4
    assert manifest(name="another name").digest == manifest().digest


def test_keys_of_the_image_policy_that_came_later_change_no_digest_unless_they_are_set(tmp_path: Path) -> None:
    def digest(policy: ImagePolicy) -> str:
        return content_digest("sequence", {"charset": ["a"]}, {"text": "string"}, policy, [("train/part-00000.parquet", "ab")])

    first = "sha256:ae1e2fe4212c56f9487cbb3137939d360aafafc8d511009df70985ef1eb968e0"
    assert digest(ImagePolicy(32, 64)) == first, "the datasets that exist would be others"
    assert digest(ImagePolicy(32, 64, fixed_width=True)) != first != digest(ImagePolicy(32, 64, scale="crop"))
    assert "fixed_width" not in ImagePolicy().to_json(), "older jobs would be others"
    exact = ImagePolicy(32, 64, fixed_width=True, scale="stretch")
    assert ImagePolicy.from_json(exact.to_json()) == exact and ImagePolicy.from_json({}).fixed_width is False
    assert open_dataset(written(tmp_path, manifest(image=exact).to_json())).manifest.image == exact


def test_images_of_one_size_are_not_padded_in_a_batch() -> None:
    policy = ImagePolicy(33, 331, fixed_width=True)
    assert pad_images([np.zeros((33, 331), np.uint8)] * 2, policy)[0].shape == (2, 1, 33, 331)
    groups = RowGroups.of(Split([Shard("train/part-00000.parquet", [Extent(8, 331, 33, 700)], 900, "ab")]), policy)
    assert (groups.height.tolist(), groups.width.tolist()) == ([33], [331])


def test_a_manifest_of_schema_version_1_is_read_and_keeps_its_digest(tmp_path: Path) -> None:
    new = manifest(license="anyone")
    content = json.loads(new.to_json()) | {"schema_version": 1, "charset": ["a", "é"], "licence": "anyone"}
    for key in ("target", "columns", "license"):
        del content[key]
    content["image"]["colour"] = content["image"].pop("color")
    for name, longest in (("train", 7), ("val", 0)):
        content["splits"][name] = {"shards": content["splits"][name]["shards"], "max_tokens": longest}
    assert open_dataset(written(tmp_path, json.dumps(content).encode())).manifest == new
    assert open_dataset(written(tmp_path, json.dumps(content | {"digest": ""}).encode())).manifest == new
    assert new.digest == "sha256:71d3cd52d45c7ec3d56d2ed13b6a8b4dab9a2c7035be142da0a15addcd2215e0"


def test_the_digest_of_another_task_follows_its_target_and_columns() -> None:
    one = number_manifest({"train": Split(SHARDS)})
    others: list[dict[str, Any]] = [{"task": "strokes"}, {"target": {"unit": "points"}}, {"columns": {"count": "int32"}}]
    assert len({one.digest, *(number_manifest(one.splits, **change).digest for change in others)}) == 4
    assert number_manifest({"train": Split(SHARDS, {"largest": 9})}).digest == one.digest


def test_a_split_that_is_missing_lists_those_that_exist() -> None:
    with pytest.raises(DatasetError, match=r"no split 'test'\. It has: train, val"):
        manifest().split("test")


def folded() -> Manifest:
    stats = [{"max": number, "rows": {"a": number, "b": 1}, "heads": {"h": {"x": 2}}, "kind": "k"} for number in range(3)]
    splits = {f"fold-{number}": Split([replace(SHARDS[0], file=f"{number}")], stats[number]) for number in range(3)}
    return manifest(splits=splits | {"test": Split(SHARDS[1:], {"rows": {"c": 5}})})


def test_folds_are_counted_and_joined() -> None:
    one = folded()
    assert one.folds == 3 and manifest().folds == 0
    joined = one.split("fold-2+fold-0")
    assert [shard.file for shard in joined.shards] == ["2", "0"] and joined.rows == 148
    assert joined.target_stats == {"max": 2, "rows": {"a": 2, "b": 2}, "heads": {"h": {"x": 4}}, "kind": "k"}
    assert one.filled_split("test+fold-1").target_stats == {"rows": {"a": 1, "b": 1, "c": 5}}, "what both state"
    assert one.split("fold-1") is one.splits["fold-1"]
    assert replace(one, splits={"a+b": one.splits["test"]}).split("a+b").rows == 5, "a name that has a + itself"


@pytest.mark.parametrize(
    ("name", "said"),
    [("fold-0+fold-3", "no split 'fold-3'"), ("fold-0+", "no split ''"), ("fold-0+fold-0", "'fold-0.fold-0' names .* twice")],
)
def test_a_joined_name_with_a_mistake_is_named(name: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        folded().split(name)


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 0, "2"])
def test_another_schema_version_names_both(tmp_path: Path, version: object) -> None:
    content = json.loads(manifest().to_json()) | {"schema_version": version}
    with pytest.raises(DatasetError, match=f"schema version {version}, this Inkray reads versions 1 and {SCHEMA_VERSION}"):
        open_dataset(written(tmp_path, json.dumps(content).encode()))


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b'{"name": "x"}', b'"schema_version"'])
def test_what_is_no_manifest_says_so(tmp_path: Path, content: bytes) -> None:
    uri = written(tmp_path, content)
    with pytest.raises(DatasetError, match="it is not a manifest") as raised:
        open_dataset(uri)
    assert uri in str(raised.value)


@pytest.mark.parametrize(
    "damage",
    [
        {"splits": None},
        {"splits": []},
        {"splits": {"train": {}}},
        {"splits": {"train": {"shards": [{"file": "a"}], "target_stats": {}}}},
        {"splits": {"train": {"shards": ["a"], "target_stats": {}}}},
        {"image": {"height": 1, "depth": 2}},
        {"image": None},
        {"target": None},
        {"target": {"charset": None}},
        {"target": {"charset": [1]}},
        {"columns": None},
        {"columns": {"text": "prose"}},
        {"columns": {"text": "timestamp[s]"}},
        {"columns": {"width": "int64"}},
        {"surprise": 1},
    ],
)
def test_a_damaged_manifest_says_so(tmp_path: Path, damage: dict[str, object]) -> None:
    content = json.loads(manifest().to_json()) | damage
    with pytest.raises(DatasetError, match="incomplete or damaged"):
        open_dataset(written(tmp_path, json.dumps(content).encode()))


def test_a_missing_part_is_damage(tmp_path: Path) -> None:
    content = json.loads(manifest().to_json())
    del content["target"]
    with pytest.raises(DatasetError, match=r"incomplete or damaged \(.*target"):
        open_dataset(written(tmp_path, json.dumps(content).encode()))


@pytest.mark.parametrize("name", ["", "missing"])
def test_where_no_dataset_is_the_way_to_one_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=r"No dataset at .*there is no dataset\.json.*data_pipeline\.synthesize"):
        open_dataset(str(tmp_path / name))


@pytest.mark.parametrize(
    "change", [{"task": ["sequence"]}, {"task": None}, {"columns": {"text": "list<" * 3000 + "string" + ">" * 3000}}]
)
def test_a_hostile_manifest_is_one_message(tmp_path: Path, change: dict[str, Any]) -> None:
    content = json.loads(manifest().to_json()) | change
    with pytest.raises(DatasetError, match="incomplete or damaged"):
        open_dataset(written(tmp_path, json.dumps(content).encode()))
