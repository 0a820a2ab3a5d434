"""What prediction does to images before they are read: by key, part of the job, said in the log."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.preparation.images import encode_png
from data_pipeline.synthesis.formulas.grammar import FormulaConfig
from data_pipeline.synthesis.formulas.sample import make_sample
from tests.support.checkpoints import DATA, write_checkpoint
from tests.support.predict_here import predict_here
from trainers.checkpoint.load import open_checkpoint
from trainers.prediction.image_options import image_policy_of
from trainers.prediction.job import JOB
from trainers.prediction.parts import part_name
from trainers.prediction.predictor import Predictor

FORMULAS = [make_sample(5, index, FormulaConfig(), lambda text: True).image for index in range(6)]
INK = replace(DATA, image=ImagePolicy(64, 64, ink_size=20.0))


def batch(images: list[np.ndarray]) -> dict[str, np.ndarray]:
    cells = np.empty(len(images), object)
    cells[:] = [encode_png(image) for image in images]
    return {"id": np.arange(len(images)), "image": cells}


def test_light_ink_on_dark_paper_is_read_as_its_negative(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    checkpoint = open_checkpoint(str(tmp_path))
    predictor = Predictor(checkpoint, image=image_policy_of(checkpoint, [], prepared=False))
    plain, negative = predictor(batch(FORMULAS)), predictor(batch([255 - image for image in FORMULAS]))
    assert plain["inverted"] == [False] * 6 and negative["inverted"] == [True] * 6
    assert plain["prediction"] == negative["prediction"]
    for one in FORMULAS:
        pair = [predictor.prepare(encode_png(image)).pixels.astype(int) for image in (one, 255 - one)]
        assert np.abs(pair[0] - pair[1]).max() <= 1  # gray of a color is rounded down
    assert Predictor(checkpoint)(batch([255 - FORMULAS[0]]))["inverted"] == [True], "files, unless it is told otherwise"
    of_dataset = Predictor(checkpoint, image=image_policy_of(checkpoint, [], prepared=True))
    assert of_dataset(batch([255 - FORMULAS[0]]))["inverted"] == [False], "images of a dataset are prepared"
    with pytest.raises(TypeError, match="takes the bytes of an image file, not a str"):
        predictor.prepare("formula.png")  # type: ignore[arg-type]


def test_an_image_of_another_resolution_is_brought_to_the_size_of_the_training_data(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, data=replace(INK, image=ImagePolicy(400, 1000, fixed_height=False, ink_size=20.0)))
    checkpoint = open_checkpoint(str(tmp_path))
    predictor = Predictor(checkpoint, image=image_policy_of(checkpoint, ["image.scale=ink"], prepared=False))
    half = cv2.resize(FORMULAS[0], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    heights = [predictor.prepare(encode_png(image)).pixels.shape[0] for image in (FORMULAS[0], half)]
    assert abs(heights[0] / heights[1] - 1) < 0.25


def test_files_are_treated_as_the_inputs_of_the_dataset_were_and_prepared_rows_are_left_alone(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, data=replace(INK, image=replace(INK.image, invert="always", scale="ink")))
    checkpoint = open_checkpoint(str(tmp_path))
    policy = image_policy_of(checkpoint, [], prepared=False)
    assert (policy.invert, policy.scale) == ("always", "ink")
    policy = image_policy_of(checkpoint, ["image.invert=never", "image.scale=fit"], prepared=False)
    assert (policy.invert, policy.scale) == ("never", "fit")
    policy = image_policy_of(checkpoint, [], prepared=True)
    assert (policy.invert, policy.scale) == ("never", "none")


def test_photos_of_one_size_come_to_it_in_the_way_of_the_dataset_and_are_never_inverted(tmp_path: Path) -> None:
    exact = ImagePolicy(32, 48, scale="crop", fixed_width=True)
    write_checkpoint(tmp_path, data=replace(DATA, image=exact))
    checkpoint = open_checkpoint(str(tmp_path))
    assert checkpoint.data.image == exact, "read back"
    for prepared in (True, False):
        policy = image_policy_of(checkpoint, [], prepared)
        assert (policy.invert, policy.scale, policy.fixed_width) == ("never", "crop", True)
    assert image_policy_of(checkpoint, ["image.scale=stretch"], prepared=False).scale == "stretch"
    predictor = Predictor(checkpoint)
    dark = np.zeros((100, 300), np.uint8)
    dark[40:60, 140:160] = 255
    prepared_image = predictor.prepare(encode_png(dark))
    assert not prepared_image.inverted and prepared_image.pixels.shape == (32, 48) and prepared_image.pixels.max() > 200
    assert predictor.to_tensors([prepared_image.pixels])[0].shape == (1, 1, 32, 48)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("image.invert=yes", "image.invert=yes: one of never, auto, always"),
        ("image.size=3", "image.size is not a key. There are image.invert, image.scale"),
        ("image.scale=ink", "does not know how large the ink of its dataset was"),
    ],
)
def test_a_bad_option_is_refused(override: str, message: str, tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    with pytest.raises(UserError, match=message.replace("(", "[(]")):
        image_policy_of(open_checkpoint(str(tmp_path)), [override], prepared=False)


def test_the_command_says_what_it_inverted_and_keeps_it_apart(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "in").mkdir()
    for number, image in enumerate(FORMULAS):
        (tmp_path / "in" / f"{number}.png").write_bytes(encode_png(255 - image if number < 2 else image))
    words = [str(tmp_path / "checkpoint"), str(tmp_path / "in"), str(tmp_path / "out")]
    done = predict_here(*words)
    assert done.returncode == 0, done.stderr
    assert "2 of 6 images are light ink on dark paper and were inverted (image.invert=auto)" in done.stdout
    image = json.loads((tmp_path / "out" / JOB).read_text())["image"]
    assert (image["invert"], image["scale"]) == ("auto", "none")
    assert pq.read_table(tmp_path / "out" / part_name(0)).num_rows == 6
    other = predict_here(*words, "image.invert=never")
    assert other.returncode == 2 and "Choose another place" in other.stderr
