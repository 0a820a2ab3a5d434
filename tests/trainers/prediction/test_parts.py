"""Parts of a job: what is there is kept as long as its content is the same, errors are tried again, foreign ones refused."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.storage.base import Storage, open_storage
from tests.support.checkpoints import write_checkpoint
from trainers.checkpoint.load import open_checkpoint
from trainers.prediction.job import JOB, Job
from trainers.prediction.parts import Parts, part_name
from trainers.tasks.sequence import SequenceTask

IDS = ["a", "b", "c", "d", "e"]
STAMPS = {name: f"1-{name}" for name in IDS}


@pytest.fixture
def out(tmp_path: Path) -> Storage:
    (tmp_path / "out").mkdir()
    return open_storage(tmp_path / "out")


def fill(out: Storage, stamps: dict[str, str] = STAMPS, mark: str = "1", failing: str = "", digest: str = "1") -> set[str]:
    """Predict all that is wanted, as `mark`; returns what that was."""
    parts = Parts(out, digest, SequenceTask.prediction_schema, IDS, stamps, 2)
    wanted = parts.look()
    for name in sorted(wanted, reverse=True):
        pages = 2 if name == "b" else 1
        for page in range(pages, 0, -1):
            row = {
                "id": name,
                "prediction": name + mark,
                "error": "bad" if name in failing else "",
                "page": page,
                "pages": pages,
            }
            assert parts.add(row) == (page == 1)
    parts.require_complete()
    assert parts.rows == 6 and parts.errors == sum(2 if name == "b" else 1 for name in failing)
    return wanted


def rows(out: Storage) -> dict[str, str]:
    return {
        row["id"]: row["prediction"]
        for number in range(3)
        for row in pq.read_table(Path(out.path, part_name(number))).to_pylist()
    }


def times(out: Storage) -> list[int]:
    return [os.stat(Path(out.path, part_name(number))).st_mtime_ns for number in range(3)]


def test_each_part_is_in_the_order_of_the_inputs_and_is_made_once(out: Storage) -> None:
    assert fill(out) == set(IDS)
    assert list(rows(out).items()) == [("a", "a1"), ("b", "b1"), ("b#page=2", "b1"), ("c", "c1"), ("d", "d1"), ("e", "e1")]
    before = times(out)
    assert fill(out, mark="2") == set() and times(out) == before


def test_what_has_changed_or_had_an_error_is_wanted_again_and_only_that(out: Storage) -> None:
    fill(out, failing="c")
    before = times(out)
    assert fill(out, STAMPS | {"a": "2-a"}, "2", failing="c") == {"a", "c"}, "still broken, it keeps its error"
    assert times(out)[2] == before[2]
    assert fill(out, STAMPS | {"a": "2-a"}, "3") == {"c"}
    assert rows(out) == {"a": "a2", "b": "b1", "b#page=2": "b1", "c": "c3", "d": "d1", "e": "e1"}


def test_a_part_that_is_not_of_this_job_is_refused(out: Storage) -> None:
    fill(out)
    for digest, part in (("2", part_name(0)), ("1", part_name(1))):
        if digest == "1":
            pq.write_table(pa.table({"id": ["c", "d"], "prediction": ["x", "y"]}), Path(out.path, part))
        with pytest.raises(UserError, match=part):
            fill(out, digest=digest)
    Path(out.path, part_name(1)).write_bytes(b"cut short")
    with pytest.raises(UserError, match=part_name(1)):
        fill(out)
    Path(out.path, part_name(1)).unlink()
    Path(out.path, part_name(3)).write_bytes(b"")
    with pytest.raises(UserError, match=part_name(3)):
        fill(out)


def test_a_row_that_nobody_asked_for_is_an_error(out: Storage) -> None:
    parts = Parts(out, "", SequenceTask.prediction_schema, IDS, {}, 2)
    parts.look()
    parts.add({"id": "a"})
    with pytest.raises(RuntimeError, match="'a'"):
        parts.add({"id": "a"})
    with pytest.raises(RuntimeError, match="4 inputs"):
        parts.require_complete()


def test_a_job_is_known_by_all_that_its_result_depends_on(out: Storage, tmp_path: Path) -> None:
    import torch

    for seed, name in enumerate(("one", "other")):
        torch.manual_seed(seed)
        write_checkpoint(tmp_path / name)
    files = {"kind": "files", "ids": "sha256:1"}

    def enter(
        name: str = "one",
        decoding: str = "",
        inputs: dict[str, str] = files,
        size: int = 2,
        image: ImagePolicy | None = None,
    ) -> None:
        checkpoint = open_checkpoint(str(tmp_path / name)).with_options([decoding] if decoding else [])
        Job.of(checkpoint, image or ImagePolicy(), inputs, size).enter(out)

    enter()
    enter()
    (tmp_path / "one").rename(tmp_path / "moved")
    enter("moved")  # the same checkpoint elsewhere
    for part, change in {
        "of another checkpoint": lambda: enter("other"),
        "decoded in another way": lambda: enter("moved", "decoding.method=beam"),
        "of other images": lambda: enter("moved", inputs={"kind": "dataset", "digest": "sha256:1", "split": "test"}),
        "parts of another size": lambda: enter("moved", size=3),
        "of another image policy": lambda: enter("moved", image=ImagePolicy(invert="auto")),
    }.items():
        with pytest.raises(UserError, match=part):
            change()
    (tmp_path / "other").rename(tmp_path / "one")  # another checkpoint in the place of the first
    with pytest.raises(UserError, match="of another checkpoint"):
        enter("one")
    for content, part in ((b"[]", "cannot be read"), (b"{", "cannot be read"), (b'{"decoding": {}}', "another version")):
        Path(out.path, JOB).write_bytes(content)
        with pytest.raises(UserError, match=part):
            enter("moved")
    Path(out.path, JOB).unlink()
    Path(out.path, part_name(0)).write_bytes(b"")
    with pytest.raises(UserError, match=f"{part_name(0)} but no {JOB}"):
        enter("moved")
