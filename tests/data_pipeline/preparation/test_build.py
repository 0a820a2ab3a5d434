"""Building datasets: the same bytes for any number of workers, nothing lost in silence, nothing replaced unasked."""

from __future__ import annotations

import functools
import itertools
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError, user_error_in
from data_pipeline import explore
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.manifest import DatasetError, Manifest, Split, open_dataset
from data_pipeline.dataset.shards import ROWS_PER_GROUP, Rejected, Row, read_split, write_shard
from data_pipeline.dataset.token_targets import TokenTargets
from data_pipeline.dataset.tokenizer import Tokenizer
from data_pipeline.explore import describe
from data_pipeline.importers.crohme.command import find_splits, prepare_crohme
from data_pipeline.preparation.build import Chunk
from data_pipeline.preparation.build import build_dataset as build
from data_pipeline.preparation.destination import destination, shard_name
from data_pipeline.preparation.images import decode
from data_pipeline.preparation.target_survey import TextSurvey
from data_pipeline.storage.base import StorageError, open_storage
from data_pipeline.storage.claim import claim
from data_pipeline.stream import EvaluationStream, StreamConfig
from data_pipeline.synthesis.formulas.build import synthesize_formulas
from data_pipeline.synthesis.formulas.grammar import FormulaConfig
from tests.support.datasets import sequence_manifest, synthesize_here, text_row
from tests.support.ink_document import inkml
from tests.support.places import CROHME
from tests.support.s3 import S3Server

EMPTY = sequence_manifest("made up", [], ImagePolicy(32, 64))
build_dataset = functools.partial(build, survey=TextSurvey())


def files(folder: str | Path) -> dict[str, bytes]:
    found = {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}
    return {name: data for name, data in found.items() if not name.startswith(".claim")}


SMALL = {"train": 24, "val": 8}


def synthesized(out: str) -> Manifest:
    """Made by the session's tasks."""
    return synthesize_formulas(out, SMALL, 0, ImagePolicy(64, 256), FormulaConfig(), overwrite=False)


def test_one_task_at_a_time_makes_the_bytes_of_many(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_pipeline.synthesis.parts.SAMPLES_PER_SHARD", 8)  # several shards of a small dataset
    synthesized(str(tmp_path / "parallel"))
    synthesize_here(tmp_path / "serial", SMALL)
    parallel = files(tmp_path / "parallel")
    assert parallel == files(tmp_path / "serial")
    assert sum(name.endswith(".parquet") for name in parallel) == 5  # 3 of train, 1 of val, the rejected


def test_another_seed_makes_other_formulas(tmp_path: Path) -> None:
    assert synthesize_here(tmp_path / "a", SMALL, 1).digest != synthesize_here(tmp_path / "b", SMALL, 2).digest


def test_splits_share_no_text_and_say_what_they_hold(formulas: str) -> None:
    dataset = open_dataset(formulas)
    texts = {name: set(read_split(dataset, name, ["text"]).column("text").to_pylist()) for name in ("train", "val", "test")}
    assert not texts["train"] & texts["val"] and not texts["train"] & texts["test"] and not texts["val"] & texts["test"]
    for name, split in dataset.manifest.splits.items():
        table = read_split(dataset, name, ["id", "image", "width", "height", "text"])
        assert split.rows == table.num_rows == len(set(table.column("id").to_pylist()))
        lengths = [len(text.split()) for text in table.column("text").to_pylist()]
        assert split.target_stats == {"max_tokens": max(lengths)}
    rows = read_split(dataset, "val", ["image", "width", "height"]).to_pylist()
    assert all(decode(row["image"], "gray").shape == (row["height"], row["width"]) for row in rows)
    assert all(row["height"] == 64 and row["width"] <= 256 for row in rows)


def test_row_groups_are_sorted_by_width(formulas: str) -> None:
    dataset = open_dataset(formulas)
    for shard in dataset.manifest.split("train").shards:
        file = pq.ParquetFile(Path(formulas) / shard.file)
        widths = [file.read_row_group(index, ["width"]).column("width").to_pylist() for index in range(file.num_row_groups)]
        assert [(len(group), max(group)) for group in widths] == [extent[:2] for extent in shard.row_groups]
        assert all(max(narrow) <= min(wide) for narrow, wide in itertools.pairwise(widths))
        assert all(group == sorted(group) and len(group) <= ROWS_PER_GROUP for group in widths)


def half(chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
    """Odd inputs are rejected."""
    numbers = range(chunk.work, chunk.work + chunk.inputs)
    rows = [text_row(f"{chunk.split}-{i}", b"x", i + 1, 32, f"t{i} t0") for i in numbers if i % 2 == 0]
    return rows, [Rejected(f"{chunk.split}-{i}", chunk.split, f"in/{i}", "odd") for i in numbers if i % 2]


def test_rows_in_are_rows_out_and_rejected(ray_cluster: None, tmp_path: Path) -> None:
    chunks = [Chunk("train", 0, 7, 0), Chunk("train", 1, 5, 7), Chunk("val", 0, 1, 1)]
    made = build_dataset(open_storage(tmp_path), EMPTY, chunks, half)
    assert (made.split("train").rows, made.split("val").rows, made.rejected) == (6, 0, 7)
    assert made.charset == sorted({"t0", "t2", "t4", "t6", "t8", "t10"})
    rejected = pq.read_table(tmp_path / "rejected.parquet").to_pylist()
    assert [row["id"] for row in rejected] == ["train-1", "train-3", "train-5", "train-7", "train-9", "train-11", "val-1"]
    assert rejected[0] == {"id": "train-1", "split": "train", "path": "in/1", "reason": "odd"}
    assert open_dataset(str(tmp_path)).manifest == made
    assert "rejected: 7\n  in/1: odd" in describe(open_dataset(str(tmp_path)))


def test_files_of_others_are_not_replaced(tmp_path: Path) -> None:
    """Without a manifest nobody knows whose they are, unless a preparation that did not end has marked the folder."""
    out, foreign = open_storage(tmp_path), tmp_path / "train" / "part-00000.parquet"
    for name in ("train/part-00000.parquet", "rejected.parquet", "corrections.parquet"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
        with (
            pytest.raises(UserError, match=f"holds no dataset, but {name}, which is not of an unfinished preparation"),
            destination(out, False),
        ):
            pass
        assert files(tmp_path) == {name: b"mine"}
        file.unlink()

    def prepare(overwrite: bool = False, killed: bool = False) -> str:
        with destination(out, overwrite) as place:
            shard = write_shard(out, shard_name("train", 0, place.suffix), [text_row("a", b"x", 1, 1, "t")], EMPTY.columns)
            if killed:
                raise KeyboardInterrupt
            place.publish(replace(EMPTY, splits={"train": Split([shard])}, digest=""), [])
        return place.suffix

    foreign.write_text("mine")
    (tmp_path / "corrections.parquet").write_text("of what is replaced")
    with pytest.raises(KeyboardInterrupt):
        prepare(overwrite=True, killed=True)
    assert prepare() == "-1" and foreign.read_text() == "mine"
    assert files(tmp_path).keys() == {
        "dataset.json",
        "rejected.parquet",
        "train/part-00000.parquet",
        "train/part-00000-1.parquet",
    }
    shutil.rmtree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        prepare(killed=True)
    assert prepare() == "" and not (tmp_path / ".unfinished").exists(), "what did not end can be started again"


def test_a_builder_that_loses_an_input_is_a_bug(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="9 inputs became 1 rows and 0 rejections"):
        build_dataset(open_storage(tmp_path), EMPTY, [Chunk("train", 0, 9, 0)], lambda chunk: (half(chunk)[0][:1], []))
    assert not (tmp_path / "dataset.json").exists()


def test_a_dataset_that_is_there_is_replaced_only_when_asked(ray_cluster: None, tmp_path: Path) -> None:
    out, chunks = open_storage(tmp_path), [Chunk("train", 0, 4, 0), Chunk("train", 1, 4, 4)]
    build_dataset(out, EMPTY, chunks, half)
    before = files(tmp_path)
    with pytest.raises(UserError, match=f"'{tmp_path}' holds a dataset already"):
        build_dataset(out, EMPTY, chunks[:1], half)
    assert files(tmp_path) == before
    replaced = build_dataset(out, EMPTY, chunks[:1], half, overwrite=True)
    assert open_dataset(str(tmp_path)).manifest == replaced and replaced.split("train").rows == 2


def test_inputs_of_which_none_is_usable_are_an_error(ray_cluster: None, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="None of the 1 inputs could be used; the first: in/1: odd"):
        build_dataset(open_storage(tmp_path), EMPTY, [Chunk("train", 0, 1, 1)], half)
    assert not (tmp_path / "dataset.json").exists()


def test_crohme_of_a_few_files(ray_cluster: None, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        (source / f"ink{number}.inkml").write_bytes(inkml(latex=f"$x + {number}$", traces=("0 0, 30 40", "50 0, 80 40")))
    (source / "empty.inkml").write_bytes(b"")
    (source / "notes.txt").write_bytes(b"not ink")
    out = tmp_path / "out"
    made = prepare_crohme(find_splits(source), str(out), ImagePolicy(64, 256), overwrite=False, variations=1)
    assert made.split("train").rows == 6 and made.rejected == 2
    assert made.charset == ["+", "0", "1", "2", "x"] and "research" in made.license
    rejected, again = pq.read_table(out / "rejected.parquet").to_pylist()
    assert rejected == {"id": "empty", "split": "train", "path": "empty.inkml", "reason": "the file is empty"}
    assert again == rejected | {"id": "empty~1"}
    rows = read_split(open_dataset(str(out)), "train", ["id", "text"]).to_pylist()
    texts = {row["id"]: row["text"] for row in rows}
    assert texts["ink2"] == texts["ink2~1"] == "x + 2", "these inks do not say which strokes draw what"


def test_the_three_archives_of_the_competition_are_its_splits(tmp_path: Path) -> None:
    for name in ("crohme_train.tar.xz", "crohme_2013_valid.tar.xz", "crohme_2014_test.tar.xz", "captions_train.tsv"):
        (tmp_path / name).touch()
    assert {name: path.name for name, path in find_splits(tmp_path).items()} == {
        "train": "crohme_train.tar.xz",
        "val": "crohme_2013_valid.tar.xz",
        "test": "crohme_2014_test.tar.xz",
    }
    with pytest.raises(UserError, match="No source"):
        find_splits(tmp_path / "absent")


def test_a_dataset_on_s3_is_that_on_disk(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_cluster: None
) -> None:
    """Tasks on other processes write to and read from the bucket; the bytes are those of local disk."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    uri = s3_server.create_bucket("inkray-build") + "/formulas"
    made = synthesized(uri)
    assert made.digest == synthesize_here(tmp_path / "local", SMALL).digest
    targets = TokenTargets(Tokenizer(made.charset))
    stream = EvaluationStream(open_dataset(uri), "val", targets, StreamConfig(), batch_size=16)
    assert sum(float(batch.weights.sum()) for batch in stream.batches()) == 8


@pytest.mark.slow
@pytest.mark.skipif(not CROHME.is_dir(), reason="the CROHME data is not at ../shared/data/crohme")
def test_the_whole_of_crohme(ray_cluster: None, tmp_path: Path) -> None:
    made = prepare_crohme(find_splits(CROHME), str(tmp_path / "crohme"), ImagePolicy(128, 1024), overwrite=False)
    assert {name: split.rows for name, split in made.splits.items()} == {"train": 8835, "val": 671, "test": 986}
    (rejected,) = pq.read_table(tmp_path / "crohme" / "rejected.parquet").to_pylist()
    assert (rejected["id"], rejected["reason"]) == ("MfrDB3088", "the file is empty")
    for split in ("train", "val", "test"):
        part = {"train": "train", "val": "2013", "test": "2014"}[split]
        reference = dict(line.split("\t") for line in (CROHME / f"captions_{part}.tsv").read_text().splitlines())
        rows = read_split(open_dataset(str(tmp_path / "crohme")), split, ["id", "text"]).to_pylist()
        assert {row["id"] for row in rows} == reference.keys()
        assert Counter(row["text"] == reference[row["id"]] for row in rows)[False] <= 0.005 * len(rows)
    shutil.rmtree(tmp_path / "crohme")


def test_what_is_replaced_leaves_no_shard_behind(ray_cluster: None, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    out, chunks = open_storage(folder), [Chunk("train", 0, 4, 0), Chunk("train", 1, 4, 4), Chunk("val", 0, 2, 8)]
    made = build_dataset(out, EMPTY, chunks, half)
    (folder / "notes.txt").write_text("kept")
    (folder / "train" / "mine.parquet").write_text("kept")
    build_dataset(out, EMPTY, chunks[:1], half, overwrite=True)
    kept = {"dataset.json", "notes.txt", "rejected.parquet", "train/mine.parquet", "train/part-00000-1.parquet"}
    assert files(folder).keys() == kept
    # A manifest may be anybody's: it cannot have files outside read or removed.
    (tmp_path / "outside.parquet").write_text("kept")
    train = made.split("train")
    train.shards.append(replace(train.shards[0], file="../outside.parquet"))
    (folder / "dataset.json").write_bytes(made.to_json())
    with pytest.raises(DatasetError, match=r"shard '../outside.parquet': '..' leads elsewhere"):
        open_dataset(str(folder))
    build_dataset(out, EMPTY, chunks[:1], half, overwrite=True)
    assert (tmp_path / "outside.parquet").exists()


def test_a_dataset_can_be_read_until_another_takes_its_place(ray_cluster: None, tmp_path: Path) -> None:
    out, chunks = open_storage(tmp_path), [Chunk("train", 0, 4, 0), Chunk("train", 1, 4, 4)]
    build_dataset(out, EMPTY, chunks, half)
    old = open_dataset(str(tmp_path))
    rows = read_split(old, "train", ["id"])
    before = files(tmp_path)

    def broken(chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
        if chunk.number == 1:
            raise UserError("no more")
        return [text_row("other", b"y", 1, 1, "t1")] * 4, []

    with pytest.raises(Exception) as raised:
        build_dataset(out, EMPTY, chunks, broken, overwrite=True)
    assert "no more" in str(user_error_in(raised.value))
    assert before.items() <= files(tmp_path).items() and read_split(open_dataset(str(tmp_path)), "train", ["id"]) == rows
    third = build_dataset(out, EMPTY, chunks, half, overwrite=True)
    assert [shard.file for shard in third.split("train").shards] == ["train/part-00000-1.parquet", "train/part-00001-1.parquet"]
    assert not (tmp_path / "train" / "part-00000.parquet").exists()
    with pytest.raises(StorageError, match=r"part-00000\.parquet' does not exist"):
        read_split(old, "train", ["id"])


def test_of_two_builds_into_one_place_one_is_refused(ray_cluster: None, tmp_path: Path) -> None:
    out, chunks = open_storage(tmp_path), [Chunk("train", 0, 4, 0)]
    with claim(out, "preparation of a dataset"), pytest.raises(UserError, match="is in use by a preparation of a dataset"):
        build_dataset(out, EMPTY, chunks, half)
    assert files(tmp_path) == {}
    assert build_dataset(out, EMPTY, chunks, half).split("train").rows == 2


def test_a_damaged_dataset_is_overwritten_and_no_more(ray_cluster: None, tmp_path: Path) -> None:
    out, chunks = open_storage(tmp_path), [Chunk("train", 0, 4, 0), Chunk("train", 1, 4, 4)]
    build_dataset(out, EMPTY, chunks, half)
    (tmp_path / "dataset.json").write_bytes(b"{damaged")
    made = build_dataset(out, EMPTY, chunks[:1], half, overwrite=True)
    assert open_dataset(str(tmp_path)).manifest == made
    assert "train/part-00001.parquet" in files(tmp_path)


def test_an_empty_split_is_said_in_one_way(ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainers.config.train import TrainConfig
    from trainers.prediction.evaluation import constant_baseline, evaluate_checkpoint
    from trainers.prediction.inputs import open_inputs
    from trainers.tasks.sequence import SequenceTask

    build_dataset(open_storage(tmp_path), EMPTY, [Chunk("train", 0, 2, 0), Chunk("val", 0, 1, 1)], half)
    dataset = open_dataset(str(tmp_path))
    message = "Split 'val' of dataset 'made up' is empty. With rows: train."
    monkeypatch.setattr("sys.argv", ["explore", str(tmp_path), "--split", "val", "--grid", str(tmp_path / "grid.png")])
    task = SequenceTask.from_dataset(dataset.manifest, TrainConfig())
    checkpoint = SimpleNamespace(uri="", task=task)
    for way in (
        explore.main,
        lambda: evaluate_checkpoint(checkpoint, dataset, "val", lambda *_: iter(())),  # type: ignore[arg-type]
        lambda: constant_baseline(task, dataset, "train", "val"),
        lambda: open_inputs(str(tmp_path), "val"),
    ):
        with pytest.raises(DatasetError) as raised:
            way()
        assert str(raised.value) == message
