"""What is wrong with an augmentation is said before anything is trained: with its key, its value and what there is."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

import cv2
import pytest

from cluster.errors import UserError
from data_pipeline.augmentation import albumentations_steps
from data_pipeline.augmentation.check import check_augmentation
from data_pipeline.augmentation.presets import PRESETS
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.stream.config import StreamConfig

NAN = float("nan")


@pytest.mark.parametrize(
    ("augmentation", "said"),
    [
        ("lihgt", "=lihgt: .*Did you mean light"),
        ("rotate_90", r"as in \[rotate_90\]"),
        (None, "=None: there is no such preset"),
        ({"cutout": {}}, "no such preset"),
        (["rotat_90"], r"\[0\]=rotat_90: .*Did you mean rotate_90"),
        (["zzz"], r"\[0\]=zzz: .*cutout.*light.*albumentations"),
        ([["rotate"]], r"\[0\]=\[rotate\]: one step"),
        ([{"rotate": {}, "blur": {}}], r"\[0\]=.*one step"),
        (["blur", {"cutout": {"sizes": 0.3}}], r"\[1\]\.cutout\.sizes: .*Did you mean size"),
        ([{"cutout": {"size": 1.5}}], r"\[0\]\.cutout\.size=1\.5: from 0\.001 to 1"),
        ([{"cutout": {"size": NAN, "holes": 2.5}}], r"cutout\.size=nan: .*cutout\.holes=2\.5: a whole number"),
        ([{"cutout": {"size": float("inf")}}], r"size=inf"),
        ([{"cutout": {"size": "big", "holes": True}}], r"size=big: a number; .*holes=True: a whole number"),
        ([{"rotate": 40}], r"\[0\]\.rotate=40: .*mapping"),
        ([{"rotate": {"border": "gray"}}], r"border=gray: one of replicate, reflect, black, white"),
        ([{"blur": {"sigma": [2, 1]}}], r"sigma=\[2, 1\]: two numbers, in order"),
        ([{"light": {"p": 0.5}}], r"\[0\]\.light=.*no arguments"),
        ([{"albumentations": {"HorizntalFlip": {}}}], r"\.albumentations=HorizntalFlip: .*Did you mean HorizontalFlip"),
        ([{"albumentations": ["Blur", {"GaussNoise": {"std": 1}}]}], r"albumentations\[1\]\.GaussNoise\.std: .*std_range"),
        ([{"albumentations": {"GaussNoise": {"std_range": [0, 7]}}}], r"GaussNoise\.std_range=\[0, 7\]: .*<= 1"),
        ([{"albumentations": {"Rotate": {"limit": [NAN, 1]}}}], r"Rotate\.limit\[0\]=nan: a finite number"),
        ([{"albumentations": {"RandomCrop": {}}}], r"RandomCrop\.height: Field required"),
        ([{"albumentations": {"RandomRotate90": {"p": 2}}}], r"RandomRotate90\.p=2: .*less than or equal to 1"),
        ([{"albumentations": {"OneOf": {"transforms": ["Blurs"]}}}], r"OneOf\.transforms\[0\]=Blurs: .*Blur"),
        ([{"albumentations": {"OneOf": {}}}], r"OneOf\.transforms=None: a list of transforms"),
        ([{"albumentations": {"SomeOf": {"n": 2, "transforms": ["Blur"]}}}], r"SomeOf\.n=2: at most 1"),
        ([{"albumentations": {"SomeOf": {"m": 2, "transforms": ["Blur"]}}}], r"SomeOf\.m: .*n, replace, p"),
        ([{"albumentations": ["Blur", "ToTensorV2"]}], r"albumentations\[1\]=ToTensorV2: .*Leave it out"),
        ([{"albumentations": None}], r"albumentations=None: write \{albumentations"),
        ([{"albumentations": []}], r"albumentations: names no transform"),
        ([{"albumentations": {"Blur": 3}}], r"Blur=3: .*mapping"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(augmentation: Any, said: str) -> None:
    problems = StreamConfig(augmentation=augmentation).validate()
    assert problems and all(problem.startswith("stream.augmentation") and "\n" not in problem for problem in problems)
    assert re.search(said, "; ".join(problems)), problems
    with pytest.raises(UserError, match=r"Bad augmentation: stream\.augmentation"):
        check_augmentation(augmentation, ImagePolicy())


@pytest.mark.parametrize(
    ("transform", "color", "said"),
    [
        ({"Normalize": {}}, "rgb", "Normalize made 64x64x3 float32 of 64x64x3 uint8"),
        ({"ToRGB": {}}, "gray", "ToRGB made 64x64x3 uint8 of 64x64 uint8"),
        ({"Resize": {"height": 32, "width": 32, "p": 0.01}}, "gray", "Resize made 32x32"),
        ({"RandomScale": {}}, "gray", "RandomScale made "),
        ({"MaskDropout": {}}, "gray", "MaskDropout requires .*mask"),
        ({"BBoxSafeRandomCrop": {}}, "gray", "bboxes"),
        ({"ISONoise": {"p": 0.001}}, "gray", "expects 3-channel images"),
        ({"OneOf": {"transforms": ["Blur", "ToFloat"], "p": 0.1}}, "gray", "ToFloat made 64x64 float32"),
    ],
)
def test_what_changes_more_than_pixels_is_refused_on_a_blank_image(transform: Any, color: Any, said: str) -> None:
    policy = ImagePolicy(64, 64, color)
    augmentation = ["rotate_90", {"albumentations": transform}]
    assert StreamConfig(augmentation=augmentation).validate() == []
    with pytest.raises(UserError, match=f"(?s)stream.augmentation: the step 'albumentations: .*{said}.*take this one out"):
        check_augmentation(augmentation, policy)


def test_a_turn_by_90_degrees_is_refused_where_images_are_not_square() -> None:
    turn = [{"albumentations": "RandomRotate90"}]
    check_augmentation(turn, ImagePolicy(64, 64, fixed_width=True))
    with pytest.raises(UserError, match="RandomRotate90 made 64x32"):
        check_augmentation(turn, ImagePolicy(32, 64))


def test_the_smallest_images_of_a_dataset_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    crop = [{"albumentations": {"RandomCrop": {"height": 32, "width": 40}}}]
    with pytest.raises(UserError, match=r"cannot be used on gray images of 8x32: .*Crop"):
        check_augmentation(crop, ImagePolicy(32, 40))

    def silent(*_: Any) -> None:
        raise cv2.error

    monkeypatch.setattr("data_pipeline.augmentation.geometry.Flip.__call__", silent)
    with pytest.raises(UserError, match="of 40x32: error"):
        check_augmentation(["flip"], ImagePolicy(32, 40))


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_are_for_images_of_any_policy(name: str) -> None:
    for policy in (ImagePolicy(32, 64), ImagePolicy(32, 64, fixed_height=False), ImagePolicy(48, 48, "rgb", background=0)):
        check_augmentation(name, policy)


def test_without_albumentations_a_configuration_is_read_and_a_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec
    monkeypatch.setattr(albumentations_steps, "find_spec", lambda name: None if name == "albumentations" else spec(name))

    def missing(name: str) -> Any:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(albumentations_steps, "import_module", missing)
    albumentations_steps._library.cache_clear()
    augmentation = [{"albumentations": {"AnyName": {"x": 1}}}]
    assert StreamConfig(augmentation=augmentation).validate() == []
    with pytest.raises(UserError, match=r"cannot be imported .*pip install -e '\.\[augment\]'"):
        check_augmentation(augmentation, ImagePolicy())
    albumentations_steps._library.cache_clear()
