"""What prediction reads: a file that is not there is a row with the reason; storage that fails is no row at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.errors import user_error_in
from data_pipeline.images import decode, encode_png
from data_pipeline.storage import StorageError
from trainers.inputs import open_inputs
from trainers.predictor import Predictor

PNG = encode_png(np.zeros((8, 8), np.uint8))


def listed(folder: Path, *names: str) -> str:
    (folder / "list.txt").write_text("\n".join(names))
    return str(folder / "list.txt")


def test_a_file_that_does_not_exist_is_a_row_with_the_reason(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "empty.png").write_bytes(b"")
    inputs = open_inputs(listed(tmp_path, "a.png", "absent.png", "empty.png"), "")
    rows = {row["id"]: (row["image"], row["problem"]) for row in inputs.read(set(inputs.ids)).iter_rows()}
    assert rows == {"a.png": (PNG, ""), "absent.png": (b"", "does not exist"), "empty.png": (b"", "")}


def test_storage_that_cannot_be_read_is_raised(ray_cluster: None, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "folder.png").mkdir()
    inputs = open_inputs(listed(tmp_path, "a.png", "folder.png"), "")
    with pytest.raises(Exception) as raised:
        inputs.read(set(inputs.ids)).take_all()
    mistake = user_error_in(raised.value)
    assert isinstance(mistake, StorageError) and not mistake.missing
    assert f"{tmp_path}/folder.png" in str(mistake)


class Blind(Predictor):
    """Predicts the size of an image, without a checkpoint."""

    def __init__(self) -> None:
        pass

    def prepare(self, data: bytes) -> np.ndarray:
        return decode(data, "gray")

    def read(self, images: list[np.ndarray]) -> list[str]:
        return [str(image.shape) for image in images]


def test_the_reason_becomes_the_error_of_the_prediction() -> None:
    images = np.array([b"", PNG, b"junk", b""], object)
    batch = {"id": np.array(["a", "b", "c", "d"]), "image": images}
    out = Blind()(batch | {"problem": np.array(["does not exist", "", "", ""], object)})
    assert out.keys() == {"id", "prediction", "error"} and list(out["id"]) == ["a", "b", "c", "d"]
    assert out["prediction"] == ["", "(8, 8)", "", ""]
    assert out["error"] == ["does not exist", "", "not an image: UnidentifiedImageError", "empty file"]
    assert Blind()(batch)["error"] == ["empty file", *out["error"][1:]]
