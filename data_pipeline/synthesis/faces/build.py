"""Datasets of drawn faces. Splits differ in their persons: nobody is in two of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from cluster.errors import UserError
from data_pipeline.dataset.image_policy import ImagePolicy
from data_pipeline.dataset.label_columns import label_columns
from data_pipeline.dataset.manifest import Manifest
from data_pipeline.dataset.shards import Rejected, Row
from data_pipeline.preparation.build import Chunk, build_dataset
from data_pipeline.preparation.images import encode_png
from data_pipeline.preparation.label_survey import LabelSurvey
from data_pipeline.storage.base import open_storage
from data_pipeline.synthesis.faces.attributes import TARGET, Attributes, attributes_of
from data_pipeline.synthesis.faces.photo import draw_photo
from data_pipeline.synthesis.parts import Part, chunks_of

SOURCE = "synthetic"
MAX_PHOTOS = 1000  # of a person


@dataclass(frozen=True)
class FacesConfig:
    """What faces are drawn.

    side: of the images, pixels.
    correlation: of mask, gender and age, 0 (independent) to 1.
    photos: images of each person.
    """

    side: int = 64
    correlation: float = 0.5
    photos: int = 5

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: one that no dataset can have.
        """
        for key, low, high in (("side", 16, 1024), ("correlation", 0, 1), ("photos", 1, MAX_PHOTOS)):
            if not low <= getattr(self, key) <= high:
                raise UserError(f"faces: {key}={getattr(self, key)} is not a number from {low} to {high}")


def make_face(seed: int, index: int, config: FacesConfig) -> tuple[np.ndarray, Attributes, int]:
    """Face `index` of a collection, uint8 (side, side, 3) RGB, its attributes, and the number of the person."""
    person = index // config.photos
    attributes = attributes_of(seed, person, index, config.correlation)
    return draw_photo(seed, person, index, attributes, config.side), attributes, person


def build_rows(seed: int, config: FacesConfig, parts: Mapping[str, Part], chunk: Chunk) -> tuple[list[Row], list[Rejected]]:
    """The faces of a chunk; `chunk.work` is the number of its first face within the split."""
    rows = []
    for number in range(chunk.work, chunk.work + chunk.inputs):
        pixels, attributes, person = make_face(seed, parts[chunk.split].first + number, config)
        name, writer = f"{chunk.split}-{number:08d}", f"person-{person:010d}"
        rows.append(Row(name, encode_png(pixels), config.side, config.side, dict(attributes), SOURCE, writer))
    return rows, []


def synthesize_faces(
    out: str, parts: Mapping[str, Part], seed: int = 0, config: FacesConfig | None = None, overwrite: bool = False
) -> Manifest:
    """Make the dataset; of the parts, `parts_of` and `fold_parts` divide runs of `config.photos` samples nowhere."""
    config = config or FacesConfig()
    manifest = Manifest(
        name="faces",
        task="multitask",
        target=TARGET,
        columns=label_columns("multitask", TARGET),
        image=ImagePolicy(config.side, config.side, "rgb", fixed_width=True, scale="fit"),
        splits={},
        rejected=0,
        preparation={
            "command": "synthesize faces",
            "seed": seed,
            "counts": {split: part.count for split, part in parts.items()},
            "faces": asdict(config),
        },
        license="synthesized by Inkray, Apache-2.0",
    )
    builder = functools.partial(build_rows, seed, config, dict(parts))
    survey = LabelSurvey("multitask", TARGET)
    return build_dataset(open_storage(out), manifest, chunks_of(dict(parts)), builder, overwrite, survey=survey)
