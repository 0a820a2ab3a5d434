"""What prediction reads: whatever is given is an input, an input with a problem, or named; failing storage is raised."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import UserError
from data_pipeline.preparation.images import encode_png
from data_pipeline.storage.base import StorageError
from tests.support.encoded_images import PNG, SizePredictor, encoded, rows_of
from trainers.prediction.files import read_or_problem
from trainers.prediction.inputs import open_inputs
from trainers.prediction.kinds import looks_like_image
from trainers.tasks.base import Row


def listed(folder: Path, content: str | bytes, name: str = "list.txt") -> str:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return str(folder / name)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder with three images below `images`."""
    (tmp_path / "images").mkdir()
    for name in "abc":
        (tmp_path / "images" / f"{name}.png").write_bytes(PNG)
    return tmp_path


def test_a_file_that_does_not_exist_is_a_row_with_the_reason(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").write_bytes(PNG)
    inputs = open_inputs(listed(tmp_path, "a.png\nabsent.png\nempty.png\nfolder.png\ngone.png"))
    (tmp_path / "gone.png").unlink()
    rows = {row["id"]: (row["image"], row["problem"]) for row in inputs.read(set(inputs.ids)).iter_rows()}
    reasons = {"absent.png": "does not exist", "empty.png": "", "folder.png": "is a folder", "gone.png": "does not exist"}
    assert rows == {"a.png": (PNG, "")} | {name: (b"", reason) for name, reason in reasons.items()}
    assert inputs.problems == {name: reasons[name] for name in ("absent.png", "folder.png")}


def test_a_server_that_does_not_answer_makes_no_row() -> None:
    import fsspec
    import pyarrow.fs as pafs

    class Down(fsspec.AbstractFileSystem):
        protocol = "down"

        def info(self, path: str, **options: object) -> dict[str, object]:
            return {"name": path, "type": "file", "size": 1}

        def _open(self, path: str, *args: object, **options: object) -> object:
            raise PermissionError("not for you") if "closed" in path else ConnectionResetError("down")

    filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(Down()))
    assert read_or_problem(filesystem, b"closed/a.png") == (b"", "no permission to read it")
    with pytest.raises(StorageError):
        read_or_problem(filesystem, b"a.png")


@pytest.mark.parametrize(
    "form", ["GIF", "JPEG2000", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "ICO", "DDS", "PCX", "PNG", "SGI"]
)
def test_a_file_is_an_image_by_what_is_in_it(form: str, tmp_path: Path) -> None:
    data = encoded(form)
    assert looks_like_image(data[:4096])
    for name in ("scan", "scan.txt", ".scan"):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "other.json").write_bytes(b'{"Python": "P5 BM"}')
    assert open_inputs(str(tmp_path)).ids == [".scan", "scan", "scan.txt"]


@pytest.mark.parametrize(
    "data", [b"", b"Pyramid", b"P5 is a format", b"BM, he said", b"%PDF-1.4", b"<svg/>", b"\0" * 64, b"PAR1", b"\x1f\x8b\x08"]
)
def test_what_is_no_image_does_not_look_like_one(data: bytes) -> None:
    assert not looks_like_image(data)


def test_whatever_is_in_a_folder_is_a_row_or_named(tmp_path: Path) -> None:
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere.png"
    for folder in ("sub", ".git", "@eaDir", "z"):
        (photos / folder).mkdir(parents=True)
        (photos / folder / "a.png").write_bytes(PNG)
    elsewhere.write_bytes(PNG)
    files = {"a.png": PNG, "jfif": encoded("JPEG"), "html.png": b"<html>", "empty.png": b"", ".DS_Store": b"\0\0\0\1Bud1"}
    for name, data in (files | {"a.json": b"{}", "b.txt": b"notes", "empty": b"", "._a.png": b"\0\5\x16\7 mac"}).items():
        (photos / name).write_bytes(data)
    for link, target in {"link.png": str(elsewhere), "broken.png": "nowhere", "turn.png": "turn.png", "twin": "sub"}.items():
        os.symlink(target, photos / link)
    os.symlink("..", photos / "sub" / "up")
    os.symlink(tmp_path, photos / "z" / "far_up")
    os.mkfifo(photos / "pipe.png")
    inputs = open_inputs(str(photos))
    problems = ["broken.png", "turn.png"]
    assert inputs.ids == sorted(["a.png", "jfif", "html.png", "empty.png", "link.png", *problems, "sub/a.png", "z/a.png"])
    assert sorted(inputs.problems) == problems
    reasons: dict[str, list[str]] = {}
    for one in inputs.left_out:
        reasons.setdefault(one.reason, []).append(one.path)
    assert reasons == {
        "no image": [".DS_Store", "._a.png", "a.json", "b.txt", "empty"],
        "hidden folder": [".git", "@eaDir"],
        "link to a folder that is read already": ["sub/up", "twin", "z/far_up"],
        "no file": ["pipe.png"],
    }
    assert "5 files are no images: .DS_Store, ._a.png, a.json, b.txt, empty" in inputs.notes


def test_a_name_that_is_not_utf8_is_read_and_its_id_is_an_escape(ray_cluster: None, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xfffolder"
    os.mkdir(folder)
    for name in (b"caf\xe9.png", b"caf\\xe9.png", b"scan.tif#page=2", "naïve.png".encode()):
        with open(folder + b"/" + name, "wb") as file:
            file.write(PNG)
    inputs = open_inputs(os.fsdecode(folder))
    assert inputs.ids == sorted(["caf\\xe9.png", "caf\\x5cxe9.png", "scan.tif\\x23page=2", "naïve.png"])
    rows = {row["id"]: (row["image"], row["problem"]) for row in inputs.read(set(inputs.ids)).iter_rows()}
    assert rows == dict.fromkeys(inputs.ids, (PNG, ""))
    as_list = open_inputs(listed(Path(os.fsdecode(folder)), b"caf\xe9.png\nna\xc3\xafve.png"))
    assert as_list.ids == ["caf\\xe9.png", "naïve.png"] and not as_list.problems
    (Path(os.fsdecode(folder)) / "caf\\xe9.png").unlink()  # now the line can only be the id of the other
    assert not open_inputs(listed(Path(os.fsdecode(folder)), "caf\\xe9.png")).problems


@pytest.mark.parametrize(
    ("content", "ids"),
    [
        (b"\xef\xbb\xbfa.png\r\nb.png\r\n\r\nc.png", ["a.png", "b.png", "c.png"]),
        ("a.png\nb.png".encode("utf-16"), ["a.png", "b.png"]),
        (b"\xfe\xff" + "a.png\rb.png\r".encode("utf-16-be"), ["a.png", "b.png"]),
        ("a.png\nb.png\n".encode("utf-32"), ["a.png", "b.png"]),
        ("filename,label\na.png,x\nb.png,y\ngone.png,z\n", ["a.png", "b.png", "gone.png"]),
        ('Image File;label\n"a.png";"x;y"\n"b.png";z\n', ["a.png", "b.png"]),
        ("filename\tlabel\na.png\tx y\n", ["a.png"]),
        ('a.png,"x\ny, ""z""\nc.png"\nb.png,"z"\n', ["a.png", "b.png"]),
        ('a.png,"x\nb.png,y\nc.png,"z\n', ["a.png", "b.png", "c.png"]),  # no cell that ends
        (b"\xef\xbb\xbfa.png\n\xef\xbb\xbfb.png\n", ["a.png", "b.png"]),
        ('"a.png"\n"b.png"\n', ["a.png", "b.png"]),
        ("images\\a.png\r\nimages\\b.png\r\n", ["images\\a.png", "images\\b.png"]),
        ("gone.png\na.png\nb.png\n", ["gone.png", "a.png", "b.png"]),
        ("gone\na.png\n", ["gone", "a.png"]),
        ("images/a.png\nb.png\n", ["images/a.png", "b.png"]),
        ("images\na.png\n", ["images", "a.png"]),
        ("  a.png  \n\n", ["a.png"]),
        ("ABSOLUTE/a.png\nfile://ABSOLUTE/b.png\n", ["ABSOLUTE/a.png", "file://ABSOLUTE/b.png"]),
    ],
)
def test_a_list_is_read_as_it_was_written(content: str | bytes, ids: list[str], three: Path) -> None:
    images = str(three / "images")
    if isinstance(content, str):
        content = content.replace("ABSOLUTE", images)
    inputs = open_inputs(listed(three, content))
    assert inputs.ids == [name.replace("ABSOLUTE", images) for name in ids]
    expected = {"gone.png": "does not exist", "gone": "does not exist", "images": "is a folder"}
    assert inputs.problems == {name: expected[name] for name in ids if name in expected}
    assert len(set(inputs.stamps.values()) - {""}) >= 1
    if isinstance(content, str) and "label" in content:
        assert "taken as a header" in inputs.notes[0]


def test_what_a_line_names_is_looked_for_as_it_stands_first(three: Path) -> None:
    for name in ("a,b.png", " a.png", "a\\b.png", '"q".png'):
        (three / name).write_bytes(PNG)
    assert open_inputs(listed(three, 'a,b.png\n a.png\na\\b.png\n"q".png')).ids == ["a,b.png", " a.png", "a\\b.png", '"q".png']


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda folder: str(folder / "none"), "does not exist"),
        (lambda folder: str(folder / "empty"), "it is empty"),
        (lambda folder: listed(folder, "x.png\ny.png"), "Nothing that"),
        (lambda folder: listed(folder, "empty\n"), "Nothing that"),
        (lambda folder: listed(folder, " \n\t\n"), "lists no images"),
        (lambda folder: listed(folder, b"\x7fELF\0\0\0"), "not text"),
        (lambda folder: listed(folder, "a.png\na.png"), "twice"),
        (lambda folder: listed(folder, "a.png\nnoscheme://x/y.png"), "Line 2"),
    ],
)
def test_what_holds_no_image_at_all_is_a_mistake(make: object, part: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.png").write_bytes(PNG)
    assert callable(make)
    with pytest.raises(UserError, match=part):
        open_inputs(make(tmp_path))


def test_a_folder_without_images_names_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match=r"1 file is no image: notes\.txt"):
        open_inputs(str(tmp_path))


@pytest.mark.parametrize(("name", "data"), [("photo.png", PNG), ("photo", PNG), ("cut.png", b""), ("page.html.png", b"<html>")])
def test_one_image_is_an_input(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    assert open_inputs(str(tmp_path / name)).ids == [name]


def test_a_split_is_of_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    with pytest.raises(UserError, match="no split 'val'"):
        open_inputs(str(tmp_path), "val")


class Broken(SizePredictor):
    """A network that fails with every image."""

    def predict(self, images: list[np.ndarray]) -> list[Row]:
        raise self.error

    error: Exception = RuntimeError("CUDA error: device-side assert triggered")


def test_the_reason_becomes_the_error_of_the_prediction() -> None:
    batch = rows_of(b"", PNG, b"junk", b"")
    out = SizePredictor()(batch | {"problem": np.array(["does not exist", "", "", ""], object)})
    assert out.keys() == {"id", "prediction", "error", "inverted", "warning", "page", "pages"}
    assert list(out["id"]) == [
        "0",
        "1",
        "2",
        "3",
    ]
    assert out["prediction"] == ["", "(8, 8)", "", ""]
    assert (
        out["error"][0] == "does not exist" and out["error"][2].startswith("not an image") and out["error"][3] == "empty file"
    )
    assert SizePredictor()(batch)["error"] == ["empty file", *out["error"][1:]]


def test_whatever_goes_wrong_with_one_image_is_the_error_of_its_row() -> None:
    low = encode_png(np.zeros((2, 8), np.uint8))
    out = SizePredictor()(rows_of(PNG, b"raises", low, PNG))
    assert out["prediction"] == ["(8, 8)", "", "", "(8, 8)"]
    assert out["error"][1] == "cannot be prepared: NotImplementedError: an exception of a decoder's own"
    assert out["error"][2].startswith("cannot be read by the network: RuntimeError: Calculated padded") and not out["error"][3]


@pytest.mark.parametrize(
    ("error", "raised", "part"),
    [
        (Broken.error, RuntimeError, "device-side assert"),
        (MemoryError(), UserError, "--batch-size"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), UserError, "--batch-size"),
        (UserError("of the checkpoint"), UserError, "of the checkpoint"),
    ],
)
def test_what_is_wrong_with_the_network_or_the_machine_is_raised(error: Exception, raised: type, part: str) -> None:
    predictor = Broken()
    predictor.error = error
    with pytest.raises(raised, match=part):
        predictor(rows_of(PNG, PNG))
